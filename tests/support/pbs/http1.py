# SPDX-License-Identifier: Apache-2.0
"""One connection: TLS, HTTP/1.1 requests one after the other, perhaps an upgrade at the end."""

import http
import re
import socket
import ssl
import struct
import threading
import traceback

from pbs import rest, schema
from pbs.answers import Answer, date, deflated, refused
from pbs.faults import Request
from pbs.http2 import Http2
from pbs.schema import Refused, refuse
from pbs.session import KINDS

HANDSHAKE_SECONDS = 10
HEAD_SIZE_MAX = 64 << 10
TARGET_SIZE_MAX = 3072
RAW_SIZE_MAX = 130 << 20
API = "/api2/json"


class Gone(Exception):
    """The client went away, or is to be thrown out."""


class Connection(threading.Thread):
    def __init__(self, server, sock):
        super().__init__(daemon=True)
        self.server, self.sock = server, sock
        self.buffer = bytearray()
        self.upgraded = None  # the Http2 that has taken over
        self.is_cut = False  # end with a TCP reset

    # --- life ---

    def run(self):
        try:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._is_tls():
                while self._one_request():
                    pass
        except (Gone, OSError, ssl.SSLError, ValueError):
            pass
        except Exception:
            self.server.record.complain(traceback.format_exc())
        finally:
            self._close()
            self.server.connections.discard(self)

    def _close(self):
        if self.is_cut:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def end(self, cut=False):
        """From any thread: end soon, without answering what is under way."""
        self.is_cut = self.is_cut or cut
        if self.upgraded:
            self.upgraded.end()
        try:
            socket.socket.shutdown(self.sock, socket.SHUT_RD)
        except OSError:
            pass

    def _is_tls(self):
        self.sock.settimeout(HANDSHAKE_SECONDS)
        first = self.sock.recv(1, socket.MSG_PEEK)
        if first == b"\x16":
            self.sock = self.server.tls.wrap_socket(self.sock, server_side=True)
            self.sock.settimeout(None)
            return True
        if first:
            method, target, _, headers = self._head()
            where = f"https://{headers.get('host', 'localhost')}{target}"
            self._send(Answer(301 if method in ("GET", "HEAD") else 308, b"", None,
                              headers=[("location", where)]))
        return False

    # --- reading ---

    def _more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise Gone
        self.buffer += data

    def _take(self, size):
        while len(self.buffer) < size:
            self._more()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def _line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_SIZE_MAX:
                raise Gone
            self._more()
        return self._take(self.buffer.index(b"\r\n") + 2)[:-2].decode("latin-1")

    def _head(self):
        """Method, target, [(name, value)], {name: value}."""
        found = re.fullmatch(r"([A-Z]+) (\S+) HTTP/1\.1", self._line())
        if not found:
            raise Gone
        pairs = []
        while line := self._line():
            name, colon, value = line.partition(":")
            if not colon or not re.fullmatch(r"[!-9;-~]+", name) or len(pairs) > 100:
                raise Gone
            pairs.append((name.lower(), value.strip()))
        return found[1], found[2], pairs, dict(pairs)

    def _body(self, headers):
        size = headers.get("content-length")
        if not size and headers.get("transfer-encoding") != "chunked":
            return b""
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if size:
            if not size.isdigit() or int(size) > RAW_SIZE_MAX:
                raise Gone
            return self._take(int(size))
        out = bytearray()
        while n := int(self._line().split(";")[0], 16):
            if len(out) + n > RAW_SIZE_MAX:
                raise Gone
            out += self._take(n)
            self._line()
        while self._line():
            pass
        return bytes(out)

    # --- answering ---

    def _head_text(self, answer):
        reason = http.HTTPStatus(answer.status).phrase
        lines = [f"HTTP/1.1 {answer.status} {reason}", f"date: {date()}"]
        if answer.content_type:
            lines.append(f"content-type: {answer.content_type}")
        lines += [f"{k}: {v}" for k, v in answer.headers]
        lines.append(f"content-length: {len(answer.body)}" if answer.sized
                     else "transfer-encoding: chunked")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _send(self, answer):
        if answer.drop:
            self.is_cut = True
            raise Gone
        self.sock.sendall(self._head_text(answer))
        body = memoryview(answer.body)
        if answer.cut is not None:
            body = body[:answer.cut]
        piece = answer.piece or 1 << 20
        while True:
            for at in range(0, len(body), piece):
                part = body[at:at + piece]
                self.sock.sendall(part if answer.sized else b"%x\r\n%b\r\n" % (len(part), part))
            if not answer.endless:
                break
            body = bytes(1 << 16)
        if answer.cut is not None:
            self.is_cut = True
            raise Gone
        if not answer.sized:
            self.sock.sendall(b"0\r\n\r\n")

    # --- requests ---

    def _one_request(self):
        """False: nothing more can come."""
        method, target, pairs, headers = self._head()
        path, _, query = target.partition("?")
        path = re.sub("/+", "/", path)
        local = path[len(API):] if path.startswith(API + "/") else path
        request = Request("rest", method, local, query, None)
        if len(target) > TARGET_SIZE_MAX:
            self._body(headers)
            self._send(self.server.record.serve(request, lambda: Answer(414, b"", None)))
            return True
        if method == "GET" and path in (API + kind for kind in KINDS):
            request.kind = "upgrade"
            return self._upgrade(request, local, pairs, headers, query)
        body = self._body(headers)

        def call():
            try:
                if any(part.startswith(".") for part in path.split("/")):
                    refuse("bad path")
                if local == path:
                    raise Refused(404, "not found")
                return rest.serve(self.server, method, local, query, headers, body)
            except Refused as e:
                return refused(self.server, request, e)
            except ValueError:
                return refused(self.server, request, Refused(400, "bad value"))

        self._send(deflated(self.server.record.serve(request, call), headers))
        return headers.get("connection", "").lower() != "close"

    def _upgrade(self, request, local, pairs, headers, query):
        kind = KINDS[local]
        made = []

        def call():
            try:
                request.who = self.server.auth.who("GET", headers)
                p = schema.check_form(kind.PARAMS, schema.form_pairs(query))
                made.append(kind(self.server, request.who, p, pairs))
                self.server.record.session(1)
                return Answer(101)
            except Refused as e:
                return refused(self.server, request, e)

        self._body(headers)
        answer = None
        try:
            answer = self.server.record.serve(request, call)
            if answer.status != 101:
                self._send(answer)
                return True
            head = (f"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
                    f"upgrade: {kind.PROTOCOL}\r\ndate: {date()}\r\n\r\n").encode()
            if not made:  # a rule's 101: there is no session behind it
                self.sock.sendall(head)
                return False
            task = self.server.add_task(local[1:], request, made[0], self)
            self.upgraded = Http2(self, made[0], local[1:], answer)
            try:
                self.upgraded.run(head, bytes(self.buffer))
            finally:
                whole = getattr(made[0], "state", "finished") == "finished"
                task.exit_status = "OK" if whole else "connection error"
        finally:
            if made and not self.server.is_killed:
                made[0].end()
            if made:
                self.server.record.session(-1)
        return False
