# SPDX-License-Identifier: Apache-2.0
"""Parameters of calls: what is allowed, and everything else refused."""

import json
import re
import urllib.parse


class Refused(Exception):
    """A call that fails: status and plain text."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


def refuse(text):
    raise Refused(400, text)


class Text:
    def __init__(self, pattern=None, size_min=0, size_max=None, check=None):
        self.pattern = re.compile(pattern) if pattern else None
        self.size_min, self.size_max, self.check = size_min, size_max, check

    def parse(self, text):
        return self.value(text)

    def value(self, value):
        if not isinstance(value, str):
            refuse("not a string")
        if len(value) < self.size_min or (self.size_max and len(value) > self.size_max):
            refuse(f"'{value}': bad length")
        if self.pattern and not self.pattern.fullmatch(value):
            refuse(f"'{value}': does not match")
        if self.check:
            self.check(value)
        return value


class Int:
    def __init__(self, low, high=2**63 - 1):
        self.low, self.high = low, high

    def parse(self, text):
        if not re.fullmatch(r"[+-]?[0-9]+", text):
            refuse(f"'{text}': not a number")
        return self.value(int(text))

    def value(self, value):
        if isinstance(value, bool) or not isinstance(value, int):
            refuse(f"{value!r}: not an integer")
        if not self.low <= value <= self.high:
            refuse(f"{value}: out of range")
        return value


class Bool:
    WORDS = {**dict.fromkeys(("1", "on", "yes", "true"), True),
             **dict.fromkeys(("0", "off", "no", "false"), False)}

    def parse(self, text):
        if text.lower() not in self.WORDS:
            refuse(f"'{text}': not a boolean")
        return self.WORDS[text.lower()]

    def value(self, value):
        if not isinstance(value, bool):
            refuse(f"{value!r}: not a boolean")
        return value


class List:
    def __init__(self, item):
        self.item = item

    def value(self, value):
        if not isinstance(value, list):
            refuse(f"{value!r}: not a list")
        return [self.item.value(v) for v in value]


SAFE_ID = r"[A-Za-z0-9_][A-Za-z0-9._-]*"


def _check_ns(ns):
    parts = ns.split("/") if ns else []
    if len(parts) > 7 or not all(re.fullmatch(SAFE_ID, p) for p in parts):
        refuse(f"'{ns}': not a namespace")


def _check_userid(text):
    name, at, realm = text.rpartition("@")
    if not at or not re.fullmatch(r"[^\s:/\x00-\x1f\x7f]+", name) or \
            not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{1,31}", realm):
        refuse(f"'{text}': not a user id")


def _check_auth_id(text):
    at = text.rfind("@")
    mark = text.rfind("!")
    if mark > at >= 0:
        if not re.fullmatch(SAFE_ID, text[mark + 1:]):
            refuse(f"'{text}': not a token name")
        text = text[:mark]
    _check_userid(text)


STORE = Text(SAFE_ID, 3, 32)
NS = Text(size_max=256, check=_check_ns)
TYPE = Text("vm|ct|host")
ID = Text(SAFE_ID)
TIME = Int(1)
FILE_NAME = Text(SAFE_ID)
DIGEST = Text("[a-f0-9]{64}")
USERID = Text(size_min=3, size_max=64, check=_check_userid)
AUTH_ID = Text(size_min=3, size_max=64, check=_check_auth_id)
ANY = Text()
BOOL = Bool()
CHUNK_SIZE_MAX = 16 << 20
WID = Int(1, 256)

GROUP = {"backup-type": TYPE, "backup-id": ID}
SNAPSHOT = {**GROUP, "backup-time": TIME}


def _kind(schema, key):
    """Its type, and whether it may be left out; a schema's key ends in "?" then."""
    if key in schema:
        return schema[key]
    if key + "?" in schema:
        return schema[key + "?"]
    return refuse(f"unexpected parameter '{key}'")


def _complete(schema, out):
    for key in schema:
        if not key.endswith("?") and key not in out:
            refuse(f"parameter '{key}' is missing")
    return out


def check_form(schema, pairs):
    out = {}
    for key, text in pairs:
        if key == "_dc":
            continue
        kind = _kind(schema, key)
        if isinstance(kind, List):
            out.setdefault(key, []).append(kind.item.parse(text))
        elif key in out:
            refuse(f"duplicate parameter '{key}'")
        else:
            out[key] = kind.parse(text)
    return _complete(schema, out)


def check_json(schema, value):
    if not isinstance(value, dict):
        refuse("the body is not an object")
    return _complete(schema, {k: _kind(schema, k).value(v) for k, v in value.items()})


def form_pairs(text):
    try:
        return urllib.parse.parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        return refuse("query is not UTF-8")


BODY_SIZE_MAX = 512 << 10


def _unique(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        refuse("duplicate member")
    return dict(pairs)


def check_call(schema, query, content_type, body, path=()):
    """The parameters of a JSON-style call.  `path`: pairs out of the path."""
    if len(body) >= BODY_SIZE_MAX:
        refuse("the body is too large")
    kind = (content_type or "").split(";")[0].strip().lower()
    if kind == "application/json":
        try:
            given = json.loads(body, object_pairs_hook=_unique) if body else {}
        except ValueError:
            refuse("the body is not JSON")
        fixed = {k: _kind(schema, k).parse(v) for k, v in path}
        if not isinstance(given, dict) or set(given) & set(fixed):
            refuse("the body is not an object of parameters")
        return check_json(schema, {**given, **fixed})
    if kind == "application/x-www-form-urlencoded" or not body:
        if kind not in ("", "application/x-www-form-urlencoded"):
            refuse(f"content type '{kind}'")
        try:
            text = body.decode()
        except ValueError:
            refuse("the body is not UTF-8")
        return check_form(schema, form_pairs(query) + form_pairs(text) + list(path))
    return refuse(f"content type '{kind}'")


def check_raw(schema, query, path=()):
    """The parameters of a call that takes or gives raw bytes."""
    return check_form(schema, form_pairs(query) + list(path))
