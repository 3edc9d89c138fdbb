# SPDX-License-Identifier: Apache-2.0
"""Backup and reader sessions: what a connection can do after its upgrade."""

import hashlib
import threading

from pbs import containers, schema
from pbs.answers import RAW, Answer, json_answer
from pbs.auth import owns
from pbs.containers import FIXED_SIZE
from pbs.schema import BOOL, CHUNK_SIZE_MAX, DIGEST, FILE_NAME, NS, SNAPSHOT, STORE, WID, Int, \
    List, Refused, refuse
from pbs.store import MANIFEST, Group, Snapshot

BLOB_SIZE = Int(12, CHUNK_SIZE_MAX + 44)
CHUNK_BLOB_SIZE = Int(13, CHUNK_SIZE_MAX + 44)


class Reset(Exception):
    """An internal error: the stream ends without an answer."""


class Upload:
    """A request whose body is still on its way."""

    def __init__(self, function, p, size_max, text=None):
        self.function, self.p, self.size_max = function, p, size_max
        self.text = text  # of the early refusal of a longer body


class Session:
    """Calls come from many threads at once, each through begin() and finish_call()."""

    CALLS = {}  # (method, path): (schema, name of the method, what its body is)

    def begin(self, method, path, query):
        """What can be refused without the body is refused here."""
        entry = self.CALLS.get((method, path))
        if method == "GET" and path == "/":
            return Upload(self.index_of_calls, {}, schema.BODY_SIZE_MAX)
        if not entry:
            raise Refused(404, f"path '{path}' not found")
        params, name, body = entry
        function = getattr(self, name)
        if body == "json":
            return Upload(function, (params, query), schema.BODY_SIZE_MAX)
        p = schema.check_form(params, schema.form_pairs(query))
        if body == "raw":
            return Upload(function, p, p.get("encoded-size"), "body is larger than encoded-size")
        return Upload(function, (params, query), schema.BODY_SIZE_MAX)

    def finish_call(self, upload, content_type, body):
        p = upload.p
        if isinstance(p, tuple):
            p = schema.check_call(p[0], p[1], content_type, body)
        return upload.function(p, body)

    def index_of_calls(self, _p, _body):
        return json_answer([{"subdir": name} for name in
                            sorted({path[1:] for _, path in self.CALLS})])


def file_kind(name):
    for kind in ("didx", "fidx", "blob"):
        if name.endswith("." + kind):
            return kind
    return refuse(f"'{name}': unknown extension")


def stored(store, s, name):
    """A file of a snapshot, and [(length, digest)] of an index; refuses as the server does."""
    kind = file_kind(name)
    data = store.read(s, name)
    if data is None:
        raise Refused(404 if kind == "blob" else 400, f"'{name}': no such file")
    return data, containers.parse_index(data) if kind != "blob" else []


def common_checks(server, who, p, headers, protocol, right):
    """Upgrade checks up to the protocol's name; gives the store."""
    right()
    store = server.stores.get(p["store"])
    if not store:
        refuse(f"no such datastore '{p['store']}'")
    if store.maintenance:
        refuse("datastore is in maintenance mode")
    if [v for k, v in headers if k == "upgrade"] != [protocol]:
        refuse("expected an upgrade to " + protocol)
    return store


class Writer:
    """One open index."""

    def __init__(self, name, image_size=None, digests=None):
        self.name, self.image_size = name, image_size
        self.kind = "fixed" if image_size else "dynamic"
        self.entries, self.end, self.count = [], 0, 0
        self.slots = digests or [None] * (-(-image_size // FIXED_SIZE) if image_size else 0)
        self.incremental = digests is not None
        self.short = 0  # chunks below 4 MiB
        self.spoiled = False

    def append(self, offset, digest, length):
        if self.kind == "dynamic":
            if offset != self.end:
                refuse(f"got offset {offset}, expected {self.end}")
            self.end += length
            self.entries.append((self.end, digest))
        else:
            end = offset + length
            if end > self.image_size:
                refuse("chunk is beyond the image's end")
            if (length != FIXED_SIZE and end != self.image_size) or offset % FIXED_SIZE:
                refuse("chunk of wrong size or at a wrong place")
            self.slots[offset // FIXED_SIZE] = digest
        self.count += 1

    def close(self, count, size, csum):
        """The bytes of the file."""
        if count != self.count or (self.kind == "fixed" and not self.incremental and
                                   count != len(self.slots)):
            refuse(f"chunk count {count}, expected {self.count}")
        if self.kind == "dynamic":
            if size != self.end:
                refuse(f"size {size}, expected {self.end}")
            data = containers.make_didx(self.entries)
        else:
            if not self.incremental and size != self.image_size:
                refuse(f"size {size}, expected {self.image_size}")
            if None in self.slots:
                refuse("the index has holes")
            data = containers.make_fidx(self.image_size, self.slots)
        if data[32:64].hex() != csum:
            self.spoiled = True
            refuse("wrong checksum")
        return data


def calls(table):
    return {tuple(name.split(" ")): entry for name, entry in table.items()}


CLOSE = {"wid": WID, "csum": DIGEST}
APPEND = {"wid": WID, "digest-list": List(DIGEST), "offset-list": List(Int(0))}
CHUNK = {"wid": WID, "digest": DIGEST, "size": Int(1, CHUNK_SIZE_MAX),
         "encoded-size": CHUNK_BLOB_SIZE}


class Backup(Session):
    PROTOCOL = "proxmox-backup-protocol-v1"
    PARAMS = {"store": STORE, "ns?": NS, **SNAPSHOT, "debug?": BOOL, "benchmark?": BOOL,
              "no-cache?": BOOL}
    CALLS = calls({
        "GET /previous_backup_time": ({}, "previous_time", None),
        "GET /previous": ({"archive-name": FILE_NAME}, "get_previous", None),
        "POST /dynamic_index": ({"archive-name": FILE_NAME}, "open_dynamic", None),
        "POST /fixed_index": ({"archive-name": FILE_NAME, "size": Int(1), "reuse-csum?": DIGEST},
                              "open_fixed", None),
        "POST /dynamic_chunk": (CHUNK, "put_dynamic", "raw"),
        "POST /fixed_chunk": (CHUNK, "put_fixed", "raw"),
        "PUT /dynamic_index": (APPEND, "append_dynamic", "json"),
        "PUT /fixed_index": (APPEND, "append_fixed", "json"),
        "POST /dynamic_close": ({**CLOSE, "chunk-count": Int(1), "size": Int(1)}, "close_dynamic",
                                None),
        "POST /fixed_close": ({**CLOSE, "chunk-count": Int(0), "size": Int(1)}, "close_fixed", None),
        "POST /blob": ({"file-name": FILE_NAME, "encoded-size": BLOB_SIZE}, "put_blob", "raw"),
        "POST /finish": ({}, "finish", None),
        "POST /speedtest": ({}, "speedtest", "raw"),
    })

    def __init__(self, server, who, p, headers):
        store = common_checks(server, who, p, headers, self.PROTOCOL,
                              lambda: self._need_right(server, who))
        self.store, self.who = store, who
        group = Group(p.get("ns", ""), p["backup-type"], p["backup-id"])
        store.need_ns(group.ns, 404)
        self.benchmark = p.get("benchmark", False)
        if self.benchmark != (group == Group("", "host", "benchmark")):
            refuse("benchmark: wrong group or flag")
        self.snapshot = Snapshot(group, p["backup-time"])
        self.mutex = threading.RLock()
        self.state = "active"
        self.known, self.writers, self.next_wid, self.files = {}, {}, 1, 0
        self.has_manifest = False
        self.stats = {"count": 0, "size": 0, "compressed_size": 0, "duplicates": 0}
        self.held = []
        try:
            self._enter(group)
        except BaseException:
            self._release()
            raise

    @staticmethod
    def _need_right(server, who):
        if "Backup" not in server.auth.rights(who):
            raise Refused(403, "permission check failed")

    def _lock(self, key, exclusive, text):
        if not self.store.locks.take(key, exclusive):
            refuse(text)
        self.held.append(key)

    def _enter(self, group):
        store = self.store
        with store.mutex:
            self._lock(group, True, "another backup of the group is running")
            path = store.group_path(group)
            if not path.exists():
                path.mkdir(parents=True)
                store.set_owner(group, self.who)
            elif not self.benchmark and not owns(self.who, store.owner(group)):
                refuse(f"backup owner check failed ({self.who} != {store.owner(group)})")
            self.previous = store.previous(group)
            if self.previous and self.snapshot.time <= self.previous.time:
                refuse("backup is older than the last one")
            if self.previous:
                self._lock(self.previous, False, "the last snapshot is locked")
            self._lock(self.snapshot, True, "the snapshot is locked")
            try:
                store.path(self.snapshot).mkdir()
            except FileExistsError:
                refuse("the snapshot exists already")

    def _release(self):
        while self.held:
            self.store.locks.drop(self.held.pop())

    def end(self):
        """The connection is gone."""
        with self.mutex:
            if self.state != "finished" or self.benchmark:
                self.state = "finished"
                self._remove()
            self._release()

    def _remove(self):
        with self.store.mutex:
            for path in self.store.path(self.snapshot).iterdir():
                path.unlink()
            self.store.path(self.snapshot).rmdir()

    def _active(self):
        if self.state != "active":
            refuse("the backup is finished")

    # --- previous snapshot ---

    def previous_time(self, _p, _body):
        return json_answer(self.previous.time if self.previous else None)

    def get_previous(self, p, _body):
        if not self.previous:
            refuse("there is no previous backup")
        if file_kind(p["archive-name"]) != "blob":
            self._active()
        data, entries = stored(self.store, self.previous, p["archive-name"])
        with self.mutex:
            self.known.update((digest, length) for length, digest in entries)
        return Answer(200, data, RAW, sized=False)

    # --- indexes ---

    def _open(self, writer):
        with self.mutex:
            self._active()
            self.writers[self.next_wid] = writer
            self.next_wid += 1
            return json_answer(self.next_wid - 1)

    def open_dynamic(self, p, _body):
        if file_kind(p["archive-name"]) != "didx":
            refuse("not the name of a dynamic index")
        return self._open(Writer(p["archive-name"]))

    def open_fixed(self, p, _body):
        name, size, digests = p["archive-name"], p["size"], None
        if file_kind(name) != "fidx":
            refuse("not the name of a fixed index")
        if "reuse-csum" in p:
            if not self.previous:
                refuse("there is no previous backup")
            data, entries = stored(self.store, self.previous, name)
            if hashlib.sha256(data[4096:]).hexdigest() != p["reuse-csum"]:
                refuse("the previous index has another checksum")
            digests = [digest for _, digest in entries]
            if len(digests) != -(-size // FIXED_SIZE):
                refuse("the previous index has another size")
        return self._open(Writer(name, size, digests))

    def _writer(self, wid, kind):
        writer = self.writers.get(wid)
        if not writer or writer.kind != kind or writer.spoiled:
            refuse(f"{kind} writer {wid} is not open")
        return writer

    def _append(self, p, kind):
        with self.mutex:
            if p["digest-list"]:
                self._active()
            if len(p["digest-list"]) != len(p["offset-list"]):
                refuse("lists of different length")
            for digest, offset in zip(p["digest-list"], p["offset-list"]):
                if digest not in self.known:
                    refuse(f"no such chunk {digest}")
                self._writer(p["wid"], kind).append(offset, digest, self.known[digest])
        return json_answer(None)

    def append_dynamic(self, p, _body):
        return self._append(p, "dynamic")

    def append_fixed(self, p, _body):
        return self._append(p, "fixed")

    def _close(self, p, kind):
        with self.mutex:
            self._active()
            writer = self._writer(p["wid"], kind)
            data = writer.close(p["chunk-count"], p["size"], p["csum"])
            self.store.write(self.snapshot, writer.name, data)
            del self.writers[p["wid"]]
            self.files += 1
        return json_answer(None)

    def close_dynamic(self, p, _body):
        return self._close(p, "dynamic")

    def close_fixed(self, p, _body):
        return self._close(p, "fixed")

    # --- chunks and blobs ---

    def _put(self, p, body, kind):
        self._active()
        if len(body) != p["encoded-size"]:
            refuse("body is shorter than encoded-size")
        containers.check_magic(body)
        if not containers.is_encrypted(body):
            data = containers.decode(body, p["size"])
            if len(data) != p["size"] or hashlib.sha256(data).hexdigest() != p["digest"]:
                refuse("chunk does not have the digest or size it should have")
        duplicate = self.store.insert_chunk(p["digest"], containers.with_crc(body))
        with self.mutex:
            self._active()
            writer = self._writer(p["wid"], kind)
            if kind == "fixed":
                if p["size"] > FIXED_SIZE:
                    refuse("chunk of a fixed index is too large")
                if p["size"] < FIXED_SIZE:
                    writer.short += 1
                    if writer.short > 1:
                        refuse("second short chunk of a fixed index")
            self.known[p["digest"]] = p["size"]
            for key, more in (("count", 1), ("size", p["size"]), ("compressed_size", len(body)),
                              ("duplicates", int(duplicate))):
                self.stats[key] += more
        return json_answer(p["digest"])

    def put_dynamic(self, p, body):
        return self._put(p, body, "dynamic")

    def put_fixed(self, p, body):
        return self._put(p, body, "fixed")

    def put_blob(self, p, body):
        self._active()
        if len(body) != p["encoded-size"]:
            refuse("body is shorter than encoded-size")
        if file_kind(p["file-name"]) != "blob":
            refuse("not the name of a blob")
        containers.check_magic(body)
        containers.check_crc(body)
        with self.mutex:
            self._active()
            self.store.write(self.snapshot, p["file-name"], body)
            self.files += 1
            self.stats["size"] += len(body)
            self.has_manifest = self.has_manifest or p["file-name"] == MANIFEST
        return json_answer(None)

    # --- end ---

    def finish(self, _p, _body):
        with self.mutex:
            self._active()
            if self.writers:
                refuse("an index is still open")
            if not self.files:
                refuse("the backup has no files")
            if self.previous and not self.store.is_finished(self.previous):
                refuse("the previous snapshot is gone")
            self.state = "finishing"
            if not self.has_manifest:
                refuse("no manifest")
            try:
                m = containers.parse_manifest(self.store.read(self.snapshot, MANIFEST))
            except containers.NotAnObject:
                raise Reset from None
            m["unprotected"]["chunk_upload_stats"] = self.stats
            self.store.write(self.snapshot, MANIFEST, containers.encode_manifest(m))
            self.state = "finished"
            self._release()
        return json_answer(None)

    def speedtest(self, _p, _body):
        return json_answer(None)


class Reader(Session):
    PROTOCOL = "proxmox-backup-reader-protocol-v1"
    PARAMS = {"store": STORE, "ns?": NS, **SNAPSHOT, "debug?": BOOL}
    CALLS = calls({
        "GET /download": ({"file-name": FILE_NAME}, "download", None),
        "GET /chunk": ({"digest": DIGEST}, "chunk", None),
        "GET /speedtest": ({}, "speedtest", None),
    })

    def __init__(self, server, who, p, headers):
        store = common_checks(server, who, p, headers, self.PROTOCOL,
                              lambda: server.auth.need(who, {"Read", "Backup"}, status=400))
        self.store = store
        group = Group(p.get("ns", ""), p["backup-type"], p["backup-id"])
        self.snapshot = Snapshot(group, p["backup-time"])
        server.auth.need(who, {"Read"}, "Backup", store.owner(group), status=400)
        with store.mutex:
            store.need(self.snapshot)
            if not store.locks.take(self.snapshot):
                refuse("the snapshot is being written or removed")
        self.allowed = set()

    def end(self):
        self.store.locks.drop(self.snapshot)

    def download(self, p, _body):
        data, entries = stored(self.store, self.snapshot, p["file-name"])
        self.allowed.update(digest for _, digest in entries)
        return Answer(200, data, RAW, sized=False)

    def chunk(self, p, _body):
        if p["digest"] not in self.allowed:
            raise Refused(401, f"download of chunk {p['digest']} is not allowed")
        return Answer(200, self.store.read_chunk(p["digest"]), RAW)

    def speedtest(self, _p, _body):
        return Answer(200, b"A" * (1 << 20), RAW)


KINDS = {"/backup": Backup, "/reader": Reader}
