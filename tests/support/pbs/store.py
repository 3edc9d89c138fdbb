# SPDX-License-Identifier: Apache-2.0
"""A datastore directory and who holds what in it.

Locks are between the sessions and calls of one server only: nothing else may write into the directory
meanwhile.
"""

import collections
import datetime
import os
import pathlib
import re
import shutil
import threading

from pbs import containers
from pbs.schema import Refused, refuse

Group = collections.namedtuple("Group", "ns type id")
Snapshot = collections.namedtuple("Snapshot", "group time")

MANIFEST = "index.json.blob"
LOG = "client.log.blob"
FILES = re.compile(r".*\.([fd]idx|blob)")
NS_DEPTH_MAX = 7


def time_text(epoch):
    moment = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text):
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        return None
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())


class Locks:
    """Shared and exclusive locks by key; nobody ever waits."""

    def __init__(self):
        self.mutex = threading.Lock()
        self.held = {}  # key: number of sharers, or -1

    def take(self, key, exclusive=False):
        """False: someone has it."""
        with self.mutex:
            now = self.held.get(key, 0)
            if now < 0 or (exclusive and now):
                return False
            self.held[key] = -1 if exclusive else now + 1
            return True

    def drop(self, key):
        with self.mutex:
            now = self.held.pop(key)
            if now > 1:
                self.held[key] = now - 1


class Store:
    def __init__(self, name, root):
        self.name, self.root = name, pathlib.Path(root)
        self.maintenance = None  # "read-only", "offline"
        self.locks = Locks()
        self.mutex = threading.RLock()  # folders are made and removed under it
        (self.root / ".chunks").mkdir(exist_ok=True)

    # --- paths ---

    def ns_path(self, ns):
        return self.root.joinpath(*[p for part in ns.split("/") if part for p in ("ns", part)])

    def group_path(self, g):
        return self.ns_path(g.ns) / g.type / g.id

    def path(self, s):
        return self.group_path(s.group) / time_text(s.time)

    # --- namespaces ---

    def need_ns(self, ns, status=400):
        if not self.ns_path(ns).is_dir():
            raise Refused(status, f"namespace '{ns}' does not exist")

    def namespaces(self, parent, depth):
        """The parent and those below it, at most `depth` levels."""
        out = [parent]
        children = self.ns_path(parent) / "ns"
        if depth > 0 and children.is_dir():
            for name in sorted(os.listdir(children)):
                out += self.namespaces(f"{parent}/{name}".lstrip("/"), depth - 1)
        return out

    def create_ns(self, parent, name):
        self.need_ns(parent)
        ns = f"{parent}/{name}".lstrip("/")
        if ns.count("/") >= NS_DEPTH_MAX or len(ns) > 256:
            refuse("namespace too deep")
        self.ns_path(ns).mkdir(parents=True, exist_ok=True)
        return ns

    def delete_ns(self, ns, delete_groups, error_on_protected):
        count = {"removed-groups": 0, "protected-snapshots": 0, "removed-snapshots": 0}
        if not self.ns_path(ns).is_dir():
            return count
        whole = True
        for child in reversed(self.namespaces(ns, NS_DEPTH_MAX)):
            if delete_groups:
                for g in self.groups(child):
                    self.remove_group(g, count)
            whole = self._remove_empty_ns(child, delete_groups) and whole
        if not whole and (error_on_protected or not count["protected-snapshots"]):
            refuse(f"namespace '{ns}' could not be removed completely")
        return count

    def _remove_empty_ns(self, ns, delete_groups):
        """A folder of a type stays behind its last group, and makes the namespace one with groups."""
        path = self.ns_path(ns)
        for name in ("ns", "vm", "ct", "host") if delete_groups else ("ns",):
            if (path / name).is_dir() and not os.listdir(path / name):
                (path / name).rmdir()
        if os.listdir(path):
            return False
        path.rmdir()
        return True

    # --- groups ---

    def groups(self, ns):
        out = []
        for kind in ("ct", "host", "vm"):
            folder = self.ns_path(ns) / kind
            if folder.is_dir():
                out += [Group(ns, kind, name) for name in os.listdir(folder)]
        return out

    def owner(self, g):
        try:
            return (self.group_path(g) / "owner").read_text().split("\n")[0].rstrip()
        except FileNotFoundError:
            return None

    def set_owner(self, g, owner):
        (self.group_path(g) / "owner").write_text(owner + "\n")

    def snapshots(self, g):
        """Newest first, finished or not."""
        path = self.group_path(g)
        times = [parse_time(name) for name in os.listdir(path)] if path.is_dir() else []
        return [Snapshot(g, t) for t in sorted((t for t in times if t), reverse=True)]

    def is_finished(self, s):
        return (self.path(s) / MANIFEST).exists()

    def previous(self, g):
        """The snapshot a backup builds on, or None."""
        for s in self.snapshots(g):
            if self.is_finished(s):
                state = self.manifest(s)["unprotected"].get("verify_state", {}).get("state")
                return None if state == "failed" else s
        return None

    def group_row(self, g):
        snapshots = self.snapshots(g)
        done = [s for s in snapshots if self.is_finished(s)]
        last = done[0] if done else snapshots[0] if len(snapshots) == 1 else None
        row = {"backup-type": g.type, "backup-id": g.id, "last-backup": last.time if last else 0,
               "backup-count": len(snapshots), "files": self.files(last) if last else []}
        if self.owner(g):
            row["owner"] = self.owner(g)
        notes = self.group_notes(g)
        if notes:
            row["comment"] = notes.split("\n")[0]
        return row

    def need_group(self, g):
        if not self.group_path(g).is_dir():
            refuse(f"group {g.type}/{g.id} does not exist")

    def group_notes(self, g):
        try:
            return (self.group_path(g) / "notes").read_text()
        except FileNotFoundError:
            return ""

    def remove_group(self, g, count):
        """Whatever is not protected or in use; the group too when all went."""
        with self.mutex:
            for s in self.snapshots(g):
                if self.is_protected(s):
                    count["protected-snapshots"] += 1
                    continue
                self.remove(s)
                count["removed-snapshots"] += 1
            if self.leave_group(g):
                count["removed-groups"] += 1

    def leave_group(self, g):
        """Remove it if nothing is in it and nobody works in it."""
        with self.mutex:
            path = self.group_path(g)
            if not path.is_dir() or self.snapshots(g) or not self.locks.take(g, exclusive=True):
                return False
            shutil.rmtree(path)
            self.locks.drop(g)
            return True

    # --- snapshots ---

    def need(self, s):
        if not self.path(s).is_dir():
            refuse(f"snapshot {s.group.type}/{s.group.id}/{time_text(s.time)} does not exist")

    def is_protected(self, s):
        return (self.path(s) / ".protected").exists()

    def set_protected(self, s, on):
        if not self.locks.take(s, exclusive=True):
            refuse("snapshot is in use")
        try:
            marker = self.path(s) / ".protected"
            marker.touch() if on else marker.unlink(missing_ok=True)
        finally:
            self.locks.drop(s)

    def files(self, s):
        return sorted(n for n in os.listdir(self.path(s)) if FILES.fullmatch(n))

    def read(self, s, name):
        """A file as stored; None: there is none."""
        try:
            return (self.path(s) / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, s, name, data):
        self._replace(self.path(s) / name, data)

    def manifest(self, s):
        blob = self.read(s, MANIFEST)
        if blob is None:
            refuse("no manifest: the snapshot is not finished")
        containers.check_crc(blob)
        return containers.parse_manifest(blob)

    def change_manifest(self, s, change):
        with self.mutex:
            m = self.manifest(s)
            change(m)
            self.write(s, MANIFEST, containers.encode_manifest(m))

    def file_rows(self, s):
        m = self.manifest(s)
        rows = [{"filename": f["filename"], "crypt-mode": f["crypt-mode"], "size": f["size"]}
                for f in m["files"]]
        rows.append({"filename": MANIFEST, "size": (self.path(s) / MANIFEST).stat().st_size,
                     "crypt-mode": "sign-only" if m["signature"] else "none"})
        listed = {row["filename"] for row in rows}
        return rows + [{"filename": n} for n in self.files(s) if n not in listed], m

    def snapshot_row(self, s):
        g = s.group
        row = {"backup-type": g.type, "backup-id": g.id, "backup-time": s.time,
               "protected": self.is_protected(s)}
        if self.owner(g):
            row["owner"] = self.owner(g)
        try:
            row["files"], m = self.file_rows(s)
        except (Refused, containers.NotAnObject):
            row["files"] = [{"filename": n} for n in self.files(s)]
            return row
        row["size"] = sum(f.get("size", 0) for f in row["files"])
        more = m["unprotected"]
        if more.get("notes"):
            row["comment"] = more["notes"].split("\n")[0]
        for key, member in (("fingerprint", "key-fingerprint"), ("verification", "verify_state")):
            if member in more:
                row[key] = more[member]
        return row

    def remove(self, s):
        self.need(s)
        if not self.locks.take(s, exclusive=True):
            refuse("snapshot is in use")
        try:
            if self.is_protected(s):
                refuse("snapshot is protected")
            shutil.rmtree(self.path(s))
        finally:
            self.locks.drop(s)

    # --- chunks ---

    def chunk_path(self, digest):
        return self.root / ".chunks" / digest[:4] / digest

    def insert_chunk(self, digest, blob):
        """True: it was there already."""
        path = self.chunk_path(digest)
        try:
            old = path.stat().st_size
        except FileNotFoundError:
            path.parent.mkdir(mode=0o750, exist_ok=True)
            self._replace(path, blob)
            return False
        if old and old != len(blob):
            with open(path, "rb") as f:
                head = f.read(8)
            if containers.is_encrypted(blob):
                if not containers.is_encrypted(head):
                    refuse("an encrypted chunk in place of a plain one")
                if head == containers.ENCRYPTED and bytes(blob[:8]) == containers.ENCRYPTED:
                    refuse("an encrypted chunk of another size")
            elif old > len(blob):
                self._replace(path, blob)
                return True
        if not old:
            self._replace(path, blob)
            return False
        os.utime(path, ns=(int(datetime.datetime.now().timestamp() * 1e9),
                           path.stat().st_mtime_ns))
        return True

    def read_chunk(self, digest):
        try:
            return self.chunk_path(digest).read_bytes()
        except FileNotFoundError:
            return refuse(f"chunk {digest} is missing")

    @staticmethod
    def _replace(path, data):
        tmp = path.parent / f"{path.stem}.tmp_{containers.random_name()}"
        tmp.write_bytes(data)
        tmp.rename(path)
