# SPDX-License-Identifier: Apache-2.0
"""A small client of the Proxmox Backup protocols: what it takes to hold a server to them.

It sends whatever it is told, right or wrong.
"""

import hashlib
import json
import socket
import ssl
import urllib.parse

import h2.config
import h2.connection
import h2.events
import h2.settings

PROTOCOLS = {"backup": "proxmox-backup-protocol-v1", "reader": "proxmox-backup-reader-protocol-v1"}
TIMEOUT = 60


class Refused(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status} {text}")
        self.status, self.text = status, text


class Response:
    """status None: the stream was reset, with `reset` as the code."""

    def __init__(self):
        self.status, self.headers, self.body = None, {}, bytearray()
        self.done, self.reset = False, None

    @property
    def data(self):
        if self.status != 200:
            raise Refused(self.status, self.text)
        return json.loads(self.body)["data"]

    @property
    def text(self):
        return bytes(self.body).decode()


class Stream:
    """A TLS connection that reads heads and bodies of HTTP/1.1."""

    def __init__(self, port, host="localhost"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection((host, port), timeout=TIMEOUT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain, server_hostname=host)
        assert self.sock.selected_alpn_protocol() is None
        self.buffer = bytearray()

    def take(self, size):
        while len(self.buffer) < size:
            self.more()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def more(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the server")
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.more()
        return self.take(self.buffer.index(b"\r\n") + 2)[:-2].decode()

    def response(self):
        r = Response()
        r.status = int(self.line().split()[1])
        while line := self.line():
            name, _, value = line.partition(":")
            r.headers[name.lower()] = value.strip()
        if r.status == 101:
            return r
        if "content-length" in r.headers:
            r.body += self.take(int(r.headers["content-length"]))
        elif r.headers.get("transfer-encoding") == "chunked":
            while n := int(self.line(), 16):
                r.body += self.take(n)
                self.line()
            self.line()
        return r


class Client:
    def __init__(self, port, store="store1"):
        self.port, self.store = port, store
        self.headers = []
        self.stream = None

    # --- REST ---

    def raw(self, method, target, body=b"", headers=()):
        """One request on the connection that is kept."""
        self.stream = self.stream or Stream(self.port)
        lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{self.port}", *self.headers,
                 *headers]
        if body or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body)}")
        self.stream.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        return self.stream.response()

    def call(self, method, path, query=None, body=None, headers=()):
        """{store} in the path; `query` a dict or pairs, `body` a JSON value."""
        target = "/api2/json" + path.replace("{store}", self.store)
        if query:
            target += "?" + urllib.parse.urlencode(query, doseq=True)
        if body is None:
            return self.raw(method, target, b"", headers)
        return self.raw(method, target, json.dumps(body).encode(),
                        ["Content-Type: application/json", *headers])

    def login(self, user="root@pam", password="secret12", **more):
        r = self.call("POST", "/access/ticket", body={"username": user, "password": password, **more})
        data = r.data
        self.ticket, self.csrf = data["ticket"], data["CSRFPreventionToken"]
        self.headers = [f"Cookie: PBSAuthCookie={urllib.parse.quote(self.ticket, safe='')}",
                        f"CSRFPreventionToken: {self.csrf}"]
        return data

    def use_token(self, token, secret):
        self.headers = [f"Authorization: PBSAPIToken {token}:{urllib.parse.quote(secret, safe='')}"]

    # --- sessions ---

    def session(self, kind, group="host/elsa", time=1000, **more):
        upgrade = more.pop("upgrade", PROTOCOLS[kind])
        tune = {k: more.pop(k) for k in ("window", "frame") if k in more}
        type_, id_ = group.split("/")
        query = {"store": self.store, "backup-type": type_, "backup-id": id_, "backup-time": time,
                 **{k.replace("_", "-"): v for k, v in more.items()}}
        stream = Stream(self.port)
        lines = [f"GET /api2/json/{kind}?{urllib.parse.urlencode(query)} HTTP/1.1",
                 f"Host: localhost:{self.port}", *self.headers, "Connection: upgrade"]
        if upgrade:
            lines.append(f"Upgrade: {upgrade}")
        stream.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        r = stream.response()
        if r.status != 101:
            stream.sock.close()
            raise Refused(r.status, r.text)
        return Session(stream, **tune)

    def backup(self, **more):
        return self.session("backup", **more)

    def reader(self, **more):
        return self.session("reader", **more)


class Session:
    def __init__(self, stream, window=2**31 - 2, frame=4 << 20):
        self.sock = stream.sock
        code = h2.settings.SettingCodes
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values={
            code.ENABLE_PUSH: 0, code.INITIAL_WINDOW_SIZE: window, code.MAX_FRAME_SIZE: frame})
        self.h2.max_inbound_frame_size = frame
        self.h2.incoming_buffer.max_frame_size = frame
        self.h2.initiate_connection()
        if window > 65535:
            self.h2.increment_flow_control_window(window - 65535)
        self.responses, self.announced = {}, {}
        self.largest_frame = 0
        self.flush()
        self.feed(bytes(stream.buffer))

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def feed(self, data):
        for event in self.h2.receive_data(data):
            r = self.responses.get(getattr(event, "stream_id", None))
            if isinstance(event, h2.events.ResponseReceived):
                r.headers = dict(event.headers)
                r.status = int(r.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.largest_frame = max(self.largest_frame, len(event.data))
                r.body += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                r.done = True
            elif isinstance(event, h2.events.StreamReset):
                r.done, r.reset = True, int(event.error_code)
            elif isinstance(event, h2.events.RemoteSettingsChanged):
                self.announced.update({int(k): v.new_value
                                       for k, v in event.changed_settings.items()})
        self.flush()

    def pump(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("closed by the server")
        self.feed(data)

    def start(self, method, path, query=None, body=None, content_type=None, headers=(), size=1 << 20,
              end=True):
        """Send a request, give its stream; stops when the answer comes early."""
        sid = self.h2.get_next_available_stream_id()
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        fields = [(":method", method), (":scheme", "https"), (":authority", "localhost:8007"),
                  (":path", path), ("user-agent", "pxarfs-test"), *headers]
        if content_type:
            fields.append(("content-type", content_type))
        r = self.responses[sid] = Response()
        self.h2.send_headers(sid, fields, end_stream=body is None and end)
        self.flush()
        at = 0
        while body is not None and not r.done:
            n = min(self.h2.local_flow_control_window(sid), self.h2.max_outbound_frame_size, size)
            if n <= 0:
                self.pump()
                continue
            part = body[at:at + n]
            at += len(part)
            self.h2.send_data(sid, part, end_stream=at == len(body) and end)
            self.flush()
            if at == len(body):
                break
        return sid

    def wait(self, sid):
        while not self.responses[sid].done:
            self.pump()
        return self.responses.pop(sid)

    def call(self, method, path, query=None, **more):
        return self.wait(self.start(method, path, query, **more))

    def json(self, method, path, value):
        return self.call(method, path, body=json.dumps(value).encode(),
                         content_type="application/json")

    # --- backups ---

    def put_chunk(self, wid, blob, size, digest, kind="dynamic", **more):
        return self.call("POST", f"/{kind}_chunk", {
            "wid": wid, "digest": digest, "size": size, "encoded-size": len(blob), **more}, body=blob)

    def append(self, wid, pairs, kind="dynamic"):
        """pairs: [(offset, digest)]"""
        return self.json("PUT", f"/{kind}_index", {
            "wid": wid, "digest-list": [d for _, d in pairs], "offset-list": [o for o, _ in pairs]})

    def put_blob(self, name, blob, **more):
        return self.call("POST", "/blob", {"file-name": name, "encoded-size": len(blob), **more},
                         body=blob)

    def close(self):
        self.sock.close()


def sha256(data):
    return hashlib.sha256(data).hexdigest()
