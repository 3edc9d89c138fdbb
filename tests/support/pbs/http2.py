# SPDX-License-Identifier: Apache-2.0
"""An upgraded connection: HTTP/2, calls done by threads of their own so that answers overtake each other.

One thread owns the socket and the protocol's state; workers hand it their answers through a queue and
wake it.
"""

import collections
import os
import select
import ssl
import threading
import traceback

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import hyperframe.frame

from pbs.answers import Answer, date, deflated, refused
from pbs.faults import Request
from pbs.schema import Refused
from pbs.session import Reset

HEADER_LIST_MAX = 16384
WORKERS_MAX = 256
PIECE_MAX = 1 << 20
READS_A_TURN = 64
PREFACE_SIZE = 24


class Incoming:
    """A request that is still coming in."""

    def __init__(self, request, upload, headers):
        self.request, self.upload, self.headers = request, upload, headers
        self.body = bytearray()


class Outgoing:
    def __init__(self, answer):
        self.answer, self.at = answer, 0
        self.body = memoryview(answer.body)
        if answer.cut is not None:
            self.body = self.body[:answer.cut]


class Workers:
    """Threads for calls; the newest call goes first, and none waits for another."""

    def __init__(self):
        self.changed = threading.Condition()
        self.waiting, self.idle, self.count, self.is_over = [], 0, 0, False

    def submit(self, function):
        with self.changed:
            self.waiting.append(function)
            if self.idle >= len(self.waiting) or self.count >= WORKERS_MAX:
                self.changed.notify()
                return
            self.count += 1
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        while True:
            with self.changed:
                self.idle += 1
                self.changed.wait_for(lambda: self.waiting or self.is_over)
                self.idle -= 1
                if self.is_over:
                    return
                function = self.waiting.pop()
            function()

    def end(self):
        with self.changed:
            self.is_over = True
            self.changed.notify_all()


class Http2:
    def __init__(self, connection, session, kind, upgrade):
        self.connection, self.session, self.kind = connection, session, kind
        self.server, self.sock = connection.server, connection.sock
        self.cut_sent, self.cut_received = upgrade.session_cut or (None, None)
        self.frames = bytearray()  # received, not yet whole
        self.has_preface = False
        self.unsent = memoryview(b"")
        self.incoming, self.outgoing = {}, collections.OrderedDict()
        self.early = set()  # answered before their body has ended
        self.answers = collections.deque()  # (stream, Answer) from workers
        self.running = 0
        self.closing = None  # after a GOAWAY of ours: its last stream
        self.is_over = self.is_cut = False
        self.wake_read, self.wake_write = os.pipe()
        self.workers = Workers()
        self._init_protocol()

    def _init_protocol(self):
        limits = self.server.limits
        code = h2.settings.SettingCodes
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
            code.INITIAL_WINDOW_SIZE: limits.window, code.MAX_FRAME_SIZE: limits.frame,
            code.MAX_CONCURRENT_STREAMS: limits.streams,
            code.MAX_HEADER_LIST_SIZE: HEADER_LIST_MAX})
        self.h2.max_inbound_frame_size = limits.frame
        self.h2.incoming_buffer.max_frame_size = limits.frame
        # it would end the connection; too many are answered 431 instead
        self.h2.decoder.max_header_list_size = 16 * HEADER_LIST_MAX
        self.h2.initiate_connection()
        if limits.window > 65535:
            self.h2.increment_flow_control_window(limits.window - 65535)

    # --- life ---

    def end(self):
        """From any thread."""
        self.is_over = True
        self._wake()

    def _wake(self):
        try:
            os.write(self.wake_write, b"x")
        except OSError:
            pass

    def run(self, head, received):
        first = head + self.h2.data_to_send()
        if self.server.split_upgrade:
            for i in range(len(first)):
                self.sock.sendall(first[i:i + 1])
        else:
            self.sock.sendall(first)
        self.sock.setblocking(False)
        try:
            self._received(received)
            while not self.is_over:
                self._turn()
        finally:
            self.connection.is_cut = self.connection.is_cut or self.is_cut
            self.workers.end()
            fd, self.wake_write = self.wake_write, -1
            os.close(fd)
            os.close(self.wake_read)

    def _turn(self):
        self._take_answers()
        more = self._send()
        if self.is_over:
            return
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | (select.POLLOUT if more else 0))
        poll.register(self.wake_read, select.POLLIN)
        ready = dict(poll.poll(0 if self.sock.pending() or self.answers else None))
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)
        if self.sock.pending() or ready.get(self.sock.fileno(), 0) & ~select.POLLOUT:
            self._receive()

    def _cut(self):
        self.is_cut = self.is_over = True

    # --- in ---

    def _receive(self):
        for _ in range(READS_A_TURN):
            try:
                data = self.sock.recv(1 << 16)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                data = b""
            if not data:
                self.is_over = True
                return
            self._received(data)
            if self.is_over:
                return

    def _received(self, data):
        if self.cut_received is not None:
            self.cut_received -= len(data)
            if self.cut_received <= 0:
                return self._cut()
        self.frames += data
        try:
            for event in self._events():
                self._event(event)
        except h2.exceptions.ProtocolError as e:
            self.server.record.complain(f"{self.kind}: {e!r}")
            self.is_over = True
            self._last_words()
        return None

    def _last_words(self):
        """The GOAWAY of a protocol error."""
        self.sock.setblocking(True)
        try:
            self.sock.sendall(bytes(self.unsent) + self.h2.data_to_send())
        except OSError:
            pass

    def _events(self):
        """Of whole frames only: the library would copy what it has of a frame again and again."""
        if not self.has_preface:
            if len(self.frames) < PREFACE_SIZE:
                return
            self.has_preface = True
            yield from self._feed(PREFACE_SIZE)
        while len(self.frames) >= 9:
            size = 9 + int.from_bytes(self.frames[:3], "big")
            if size - 9 > self.server.limits.frame:
                size = 9  # enough for it to complain
            if len(self.frames) < size:
                return
            yield from self._feed(size)

    def _feed(self, size):
        data = bytes(memoryview(self.frames)[:size])
        del self.frames[:size]
        return self.h2.receive_data(data)

    def _event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self._request(event)
        elif isinstance(event, h2.events.DataReceived):
            self._data(event)
        elif isinstance(event, h2.events.StreamEnded):
            self._ended(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.incoming.pop(event.stream_id, None)
            self.outgoing.pop(event.stream_id, None)
            self.early.discard(event.stream_id)

    def _request(self, event):
        sid = event.stream_id
        if self.closing is not None and sid > self.closing:
            return
        headers = dict(event.headers)
        path, _, query = headers.get(":path", "/").partition("?")
        method = headers[":method"]
        request = Request(self.kind, method, path, query, None)
        size = sum(len(k) + len(v) + 32 for k, v in event.headers)
        try:
            if size > HEADER_LIST_MAX:
                raise Refused(431, "")
            upload = self.session.begin(method, path, query)
            self.incoming[sid] = Incoming(request, upload, headers)
        except Refused as e:
            self._refuse_early(sid, request, e, headers)

    def _refuse_early(self, sid, request, e, headers):
        self.early.add(sid)
        self._submit(sid, request, headers, lambda: refused(self.server, request, e))

    def _data(self, event):
        sid, coming = event.stream_id, self.incoming.get(event.stream_id)
        self.h2.acknowledge_received_data(event.flow_controlled_length, sid)
        if not coming:
            return
        coming.body += event.data
        limit = coming.upload.size_max
        if limit is not None and len(coming.body) > limit:
            del self.incoming[sid]
            e = Refused(400, coming.upload.text or "the body is too large")
            self._refuse_early(sid, coming.request, e, coming.headers)

    def _ended(self, sid):
        self.early.discard(sid)
        coming = self.incoming.pop(sid, None)
        if coming:
            self._submit(sid, coming.request, coming.headers, lambda: self._call(coming))

    # --- calls, on threads of their own ---

    def _submit(self, sid, request, headers, call):
        def work():
            try:
                answer = self.server.record.serve(request, call)
                if answer.reset is None:
                    answer = deflated(answer, headers)
            except Exception:
                self.server.record.complain(traceback.format_exc())
                answer = Answer(500)
                answer.reset = 2
            self.answers.append((sid, answer))
            self._wake()
        self.running += 1
        self.workers.submit(work)

    def _call(self, coming):
        try:
            return self.session.finish_call(coming.upload, coming.headers.get("content-type"),
                                            bytes(coming.body))
        except Refused as e:
            return refused(self.server, coming.request, e)
        except Reset:
            answer = Answer(500)
            answer.reset = 2
            return answer

    # --- out ---

    def _take_answers(self):
        while self.answers and not self.is_over:
            sid, answer = self.answers.popleft()
            self.running -= 1
            if answer.drop:
                return self._cut()
            try:
                self._begin_answer(sid, answer)
            except (h2.exceptions.StreamClosedError, h2.exceptions.NoSuchStreamError):
                pass  # the client has given up on it
        return None

    def _begin_answer(self, sid, answer):
        if answer.goaway is not None:
            self.closing = self.h2.highest_inbound_stream_id
            self._raw_goaway(answer.goaway)
        if answer.reset is not None:
            self.h2.reset_stream(sid, answer.reset)
            return
        headers = [(":status", str(answer.status)), ("date", date())]
        if answer.content_type:
            headers.append(("content-type", answer.content_type))
        if answer.sized:
            headers.append(("content-length", str(len(answer.body))))
        headers += answer.headers
        empty = not answer.body and not answer.endless and answer.cut is None
        self.h2.send_headers(sid, headers, end_stream=empty)
        if empty:
            self._answered(sid)
        else:
            self.outgoing[sid] = Outgoing(answer)

    def _raw_goaway(self, code):
        """close_connection() of the library would forbid answering what is under way."""
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=self.closing, error_code=code)
        self.unsent = memoryview(bytes(self.unsent) + self.h2.data_to_send() + frame.serialize())

    def _answered(self, sid):
        if sid in self.early:
            self.early.discard(sid)
            self.h2.reset_stream(sid, h2.errors.ErrorCodes.NO_ERROR)

    def _send(self):
        """Until the socket is full; True: there is more."""
        while not self.is_over:
            if not self.unsent:
                self.unsent = memoryview(self.h2.data_to_send() or self._next_frame())
            if not self.unsent:
                done = self.closing is not None and not self.running and not self.outgoing
                self.is_over = done or self.is_cut
                return False
            part = self.unsent
            if self.cut_sent is not None:
                part = part[:self.cut_sent]
            try:
                n = self.sock.send(part)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return True
            except OSError:
                self.is_over = True
                return False
            self.unsent = self.unsent[n:]
            if self.cut_sent is not None:
                self.cut_sent -= n
                if self.cut_sent <= 0:
                    self._cut()
        return False

    def _next_frame(self):
        """A DATA frame of the stream whose turn it is; b"" when none may send."""
        for sid in list(self.outgoing):
            out = self.outgoing[sid]
            window = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size,
                         out.answer.piece or PIECE_MAX)
            if window <= 0 and len(out.body):
                continue
            if out.answer.endless and out.at >= len(out.body):
                out.body, out.at = memoryview(bytes(1 << 16)), 0
            part = out.body[out.at:out.at + window]
            out.at += len(part)
            done = out.at >= len(out.body) and not out.answer.endless
            cut = done and out.answer.cut is not None
            self.h2.send_data(sid, part, end_stream=done and not cut)
            self.outgoing.move_to_end(sid)
            if done:
                del self.outgoing[sid]
                self._answered(sid)
            data = self.h2.data_to_send()
            if cut:
                self.is_cut = True  # once it is sent
            return data
        return b""
