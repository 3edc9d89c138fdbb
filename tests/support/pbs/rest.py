# SPDX-License-Identifier: Apache-2.0
"""REST calls, below /api2/json."""

import datetime
import json
import re
import urllib.parse

from pbs import containers, schema
from pbs.answers import RAW, Answer, json_answer
from pbs.auth import owns, user_of
from pbs.schema import BOOL, GROUP, NS, SNAPSHOT, STORE, Int, Refused, Text, refuse
from pbs.store import LOG, Group, Snapshot

class Call:
    """One call, its parameters checked."""

    def __init__(self, server, who, p, body):
        self.server, self.who, self.p, self.body = server, who, p, body
        self.store = None
        if "store" in p:
            self.store = server.stores.get(p["store"])

    @property
    def ns(self):
        return self.p.get("ns", "")

    @property
    def group(self):
        return Group(self.ns, self.p["backup-type"], self.p["backup-id"])

    @property
    def snapshot(self):
        return Snapshot(self.group, self.p["backup-time"])

    def need(self, full, own=None, group=None):
        """Rights first, then whether there is such a thing."""
        owner = self.store.owner(group) if group and self.store else None
        self.server.auth.need(self.who, full, own, owner)
        self.need_store()

    def need_store(self):
        if not self.store:
            refuse(f"no such datastore '{self.p['store']}'")
        if self.store.maintenance == "offline":
            refuse("datastore is in maintenance mode")

    def need_snapshot(self, full, own):
        self.need(full, own, self.group)
        self.store.need_ns(self.ns)
        self.store.need(self.snapshot)
        return self.snapshot


ROUTES = []  # (path as a regular expression, method, schema, function, raw, login)


def route(method, path, params=None, raw=False, login=True):
    """{name} in the path is a parameter of the schema."""
    def add(function):
        names = re.findall(r"\{(.*?)\}", path)
        full = {**{n: STORE if n == "store" else Text() for n in names}, **(params or {})}
        pattern = re.compile(re.sub(r"\{(.*?)\}", r"(?P<\1>[^/]+)", path))
        ROUTES.append((pattern, method, full, function, raw, login))
        return function
    return add


def find(method, path):
    for pattern, verb, params, function, raw, login in ROUTES:
        found = pattern.fullmatch(path)
        if found and verb == method:
            given = [(k, urllib.parse.unquote(v)) for k, v in found.groupdict().items()]
            return given, params, function, raw, login
    raise Refused(404, f"path '{path}' not found")


def serve(server, method, path, query, headers, body):
    """One REST request; raises Refused."""
    given, params, function, raw, login = find(method, path)
    who = server.auth.who(method, headers) if login else None
    if raw:
        p = schema.check_raw(params, query, given)
    else:
        p = schema.check_call(params, query, headers.get("content-type"), body, given)
    return function(Call(server, who, p, body))


# --- server, login, tasks ---


@route("GET", "/ping", login=False)
def ping(_):
    return json_answer({"pong": True})


@route("GET", "/version")
def version(_):
    return json_answer({"version": "4.1", "release": "1", "repoid": "0" * 16})


@route("POST", "/access/ticket", {
    "username": schema.USERID, "password": schema.ANY, "tfa-challenge?": schema.ANY,
    "path?": schema.ANY, "privs?": schema.ANY, "port?": Int(0, 65535), "http-only?": BOOL},
    login=False)
def login(c):
    data = c.server.auth.login(c.p)
    answer = Answer(200, b"", "application/json")
    if c.p.get("http-only") or c.server.auth.cookie_only:
        ticket = data.pop("ticket")
        data["ticket-info"] = ticket[:ticket.rindex("::")]
        answer.headers.append(("set-cookie", f"__Host-PBSAuthCookie={ticket}; Secure; SameSite=Lax; "
                                             "HttpOnly; Path=/;"))
    answer.body = json.dumps({"data": data, "status": 200, "success": True}).encode()
    return answer


@route("DELETE", "/access/ticket", login=False)
def logout(_):
    return json_answer({})


@route("GET", "/nodes/localhost/tasks", {
    "start?": Int(0), "limit?": Int(0), "running?": BOOL, "errors?": BOOL,
    "userfilter?": schema.ANY, "typefilter?": schema.ANY, "since?": Int(0), "until?": Int(0),
    "store?": STORE, "statusfilter?": schema.List(Text("ok|warning|error|unknown"))})
def tasks(c):
    rows = [t.row() for t in reversed(c.server.tasks)
            if not (c.p.get("running") and t.exit_status is not None)]
    start = c.p.get("start", 0)
    return json_answer(rows[start:start + (c.p.get("limit", 50) or len(rows))])


@route("GET", "/nodes/localhost/tasks/{upid}/status")
def task_status(c):
    return json_answer(c.server.task(c.p["upid"]).status())


@route("DELETE", "/nodes/localhost/tasks/{upid}")
def task_stop(c):
    c.server.task(c.p["upid"]).stop()
    return json_answer(None)


# --- datastores and namespaces ---

D = "/admin/datastore/{store}"


@route("GET", "/admin/datastore")
def datastores(c):
    rows = []
    for store in c.server.stores.values():
        if c.server.auth.rights(c.who):
            row = {"store": store.name, "comment": None, "mount-status": "nonremovable"}
            if store.maintenance:
                row["maintenance"] = store.maintenance
            rows.append(row)
    return json_answer(rows)


@route("GET", D + "/status", {"verbose?": BOOL})
def status(c):
    c.need({"Audit", "Read", "Backup"})
    sizes = c.server.sizes if {"Audit", "Backup"} & c.server.auth.rights(c.who) else (0, 0, 0)
    data = dict(zip(("total", "used", "avail"), sizes))
    if c.p.get("verbose"):
        counts = dict.fromkeys(("ct", "host", "vm", "other"))
        for ns in c.store.namespaces("", 7):
            for g in c.store.groups(ns):
                counts[g.type] = row = counts[g.type] or {"groups": 0, "snapshots": 0}
                row["groups"] += 1
                row["snapshots"] += len(c.store.snapshots(g))
        data["counts"] = counts
    return json_answer(data)


@route("GET", D + "/namespace", {"parent?": NS, "max-depth?": Int(0, 7)})
def namespaces(c):
    c.need({"Audit", "Read", "Backup", "Modify"})
    return json_answer([{"ns": ns} for ns in
                        c.store.namespaces(c.p.get("parent", ""), c.p.get("max-depth", 7))])


@route("POST", D + "/namespace", {"name": Text(schema.SAFE_ID, 1, 32), "parent?": NS})
def create_namespace(c):
    c.need({"Modify"})
    return json_answer(c.store.create_ns(c.p.get("parent", ""), c.p["name"]))


@route("DELETE", D + "/namespace", {"ns": NS, "delete-groups?": BOOL, "error-on-protected?": BOOL})
def delete_namespace(c):
    c.need({"Modify"})
    if not c.ns:
        refuse("the root namespace cannot be removed")
    return json_answer(c.store.delete_ns(c.ns, c.p.get("delete-groups", False),
                                         c.p.get("error-on-protected", True)))


# --- groups and snapshots ---


def visible(c, groups):
    """All of them, or the caller's own."""
    rights = c.server.auth.rights(c.who)
    if "Audit" in rights:
        return groups
    if "Backup" not in rights:
        raise Refused(403, "permission check failed")
    return [g for g in groups if owns(c.who, c.store.owner(g))]


@route("GET", D + "/groups", {"ns?": NS})
def groups(c):
    c.need({"Audit", "Backup"})
    c.store.need_ns(c.ns)
    with c.store.mutex:  # nothing vanishes meanwhile
        return json_answer([c.store.group_row(g) for g in visible(c, c.store.groups(c.ns))])


@route("DELETE", D + "/groups", {"ns?": NS, **GROUP, "error-on-protected?": BOOL})
def delete_group(c):
    c.need({"Modify"}, "Prune", c.group)
    c.store.need_ns(c.ns)
    c.store.need_group(c.group)
    count = {"removed-groups": 0, "protected-snapshots": 0, "removed-snapshots": 0}
    c.store.remove_group(c.group, count)
    if count["protected-snapshots"] and c.p.get("error-on-protected", True):
        refuse("some snapshots are protected")
    return json_answer(count)


@route("GET", D + "/snapshots", {"ns?": NS, "backup-type?": schema.TYPE, "backup-id?": schema.ID})
def snapshots(c):
    c.need({"Audit", "Backup"})
    c.store.need_ns(c.ns)
    with c.store.mutex:
        wanted = [g for g in visible(c, c.store.groups(c.ns))
                  if c.p.get("backup-type", g.type) == g.type and
                  c.p.get("backup-id", g.id) == g.id]
        return json_answer([c.store.snapshot_row(s) for g in wanted for s in c.store.snapshots(g)])


@route("DELETE", D + "/snapshots", {"ns?": NS, **SNAPSHOT})
def delete_snapshot(c):
    s = c.need_snapshot({"Modify"}, "Prune")
    with c.store.mutex:
        c.store.remove(s)
        c.store.leave_group(s.group)
    return json_answer(None)


@route("GET", D + "/files", {"ns?": NS, **SNAPSHOT})
def files(c):
    return json_answer(c.store.file_rows(c.need_snapshot({"Audit", "Read"}, "Backup"))[0])


# --- notes, protection, owner ---


@route("GET", D + "/notes", {"ns?": NS, **SNAPSHOT})
def get_notes(c):
    s = c.need_snapshot({"Audit"}, "Backup")
    return json_answer(c.store.manifest(s)["unprotected"].get("notes", ""))


@route("PUT", D + "/notes", {"ns?": NS, **SNAPSHOT, "notes": schema.ANY})
def put_notes(c):
    s = c.need_snapshot({"Modify"}, "Backup")
    c.store.change_manifest(s, lambda m: m["unprotected"].update(notes=c.p["notes"]))
    return json_answer(None)


@route("GET", D + "/group-notes", {"ns?": NS, **GROUP})
def get_group_notes(c):
    c.need({"Audit"}, "Backup", c.group)
    c.store.need_group(c.group)
    return json_answer(c.store.group_notes(c.group))


@route("PUT", D + "/group-notes", {"ns?": NS, **GROUP, "notes": schema.ANY})
def put_group_notes(c):
    c.need({"Modify"}, "Backup", c.group)
    c.store.need_group(c.group)
    (c.store.group_path(c.group) / "notes").write_text(c.p["notes"])
    return json_answer(None)


@route("GET", D + "/protected", {"ns?": NS, **SNAPSHOT})
def get_protected(c):
    return json_answer(c.store.is_protected(c.need_snapshot({"Audit"}, "Backup")))


@route("PUT", D + "/protected", {"ns?": NS, **SNAPSHOT, "protected": BOOL})
def put_protected(c):
    c.store.set_protected(c.need_snapshot({"Modify"}, "Backup"), c.p["protected"])
    return json_answer(None)


@route("POST", D + "/change-owner", {"ns?": NS, **GROUP, "new-owner": schema.AUTH_ID})
def change_owner(c):
    c.need_store()
    c.store.need_ns(c.ns)
    c.store.need_group(c.group)
    rights, new = c.server.auth.rights(c.who), c.p["new-owner"]
    own = "Backup" in rights and owns(c.who, c.store.owner(c.group)) and \
        user_of(new) == user_of(c.who)
    if "Modify" not in rights and not own:
        raise Refused(401, "not allowed to change the owner")
    if not c.server.auth.exists(new):
        refuse(f"'{new}' does not exist or is inactive")
    if not c.store.locks.take(c.group, exclusive=True):
        refuse("group is locked")
    c.store.set_owner(c.group, new)
    c.store.locks.drop(c.group)
    return json_answer(None)


# --- files ---


@route("GET", D + "/download", {"ns?": NS, **SNAPSHOT, "file-name": schema.FILE_NAME}, raw=True)
def download(c):
    s = c.need_snapshot({"Read"}, "Backup")
    data = c.store.read(s, c.p["file-name"])
    if data is None:
        refuse(f"{c.p['file-name']}: no such file")
    return Answer(200, data, RAW, sized=False)


@route("POST", D + "/upload-backup-log", {"ns?": NS, **SNAPSHOT}, raw=True)
def upload_log(c):
    owner = c.store.owner(c.group) if c.store else None
    c.server.auth.need(c.who, own="Backup", owner=owner)
    c.need_store()
    c.store.need(c.snapshot)
    if c.store.read(c.snapshot, LOG) is not None:
        refuse("there is a log already")
    containers.check_magic(c.body)
    containers.check_crc(c.body)
    c.store.write(c.snapshot, LOG, c.body)
    return json_answer(None)


@route("POST", D + "/prune", {
    "ns?": NS, **GROUP, "dry-run?": BOOL, "keep-last?": Int(1), "keep-hourly?": Int(1),
    "keep-daily?": Int(1), "keep-weekly?": Int(1), "keep-monthly?": Int(1), "keep-yearly?": Int(1)})
def prune(c):
    c.need({"Modify"}, "Prune", c.group)
    c.store.need_ns(c.ns)
    kept = select(c.store, c.group, {k[5:]: v for k, v in c.p.items() if k.startswith("keep-")})
    rows = []
    for s, keep in reversed(kept):
        row = {"backup-type": s.group.type, "backup-id": s.group.id, "backup-time": s.time,
               "keep": keep, "protected": c.store.is_protected(s)}
        if c.ns and c.p.get("dry-run"):
            row["ns"] = c.ns
        rows.append(row)
        if not keep and not c.p.get("dry-run"):
            try:
                c.store.remove(s)
            except Refused:
                pass  # not reported
    return json_answer(rows)


PERIODS = {"last": None, "hourly": "%Y/%m/%d/%H", "daily": "%Y/%m/%d", "weekly": "%G/%V",
           "monthly": "%Y/%m", "yearly": "%Y"}


def select(store, group, options):
    """[(snapshot, keep)], newest first."""
    found = store.snapshots(group)
    if not options:
        return [(s, True) for s in found]
    verdict = {s: True for s in found if store.is_protected(s)}
    for i, s in enumerate(found):
        if not store.is_finished(s):
            verdict[s] = i == 0
    protected = set(verdict) & {s for s in found if store.is_protected(s)}
    for name, form in PERIODS.items():
        def key(s):
            return datetime.datetime.fromtimestamp(s.time).strftime(form) if form else str(s.time)
        limit = options.get(name)
        taken_before = {key(s) for s, keep in verdict.items() if keep and s not in protected}
        taken = set()
        for s in found if limit else ():
            if s in verdict or key(s) in taken_before:
                continue
            if key(s) in taken:
                verdict[s] = False
            elif len(taken) == limit:
                break
            else:
                taken.add(key(s))
                verdict[s] = True
    return [(s, verdict.get(s, False)) for s in found]
