# SPDX-License-Identifier: Apache-2.0
"""Who asks, and what they may: passwords, tickets, second factors, tokens, roles."""

import base64
import hashlib
import hmac
import json
import os
import re
import time
import urllib.parse

from pbs.schema import Refused

LIFETIME = 7200
SKEW = 300
CHALLENGE_LIFETIME = 600

ROLES = {
    "DatastoreAdmin": {"Audit", "Modify", "Read", "Verify", "Backup", "Prune"},
    "DatastoreReader": {"Audit", "Verify", "Read"},
    "DatastoreBackup": {"Backup"},
    "DatastorePowerUser": {"Backup", "Prune"},
    "DatastoreAudit": {"Audit"},
}


def user_of(auth_id):
    """The user of a token, or the id itself."""
    at, mark = auth_id.rfind("@"), auth_id.rfind("!")
    return auth_id[:mark] if mark > at else auth_id


def owns(who, owner):
    """Is what `owner` has made the caller's own?"""
    return owner is not None and (who == owner or (owner != user_of(owner) == who))


class User:
    def __init__(self, password, totp=None, enabled=True):
        self.password, self.totp, self.enabled = password, totp, enabled


class Auth:
    """Everything may be changed while the server runs."""

    def __init__(self):
        self.users = {"root@pam": User("secret12")}
        self.tokens = {}  # "user@realm!name": secret
        self.roles = {}  # auth id: role on all datastores; root@pam needs none
        self.cookie_only = False  # tickets come as __Host-PBSAuthCookie whatever is asked for
        self.clock = time.time
        self.expire_all()

    def expire_all(self):
        """No ticket given out so far is good any more."""
        self.secret = os.urandom(32)

    # --- tickets ---

    def _sign(self, text):
        mac = hmac.new(self.secret, text.encode(), hashlib.sha512).digest()
        return base64.b64encode(mac).decode().rstrip("=")

    def make_ticket(self, what):
        quoted = re.sub(r"[\x00-\x1f\x7f:%]", lambda m: f"%{ord(m[0]):02X}", what)
        text = f"PBS:{quoted}:{int(self.clock()):08X}"
        return f"{text}::{self._sign(text)}"

    def make_csrf(self, who):
        now = f"{int(self.clock()):08X}"
        return f"{now}:{self._sign(now + ' csrf ' + who)}"

    def _age_ok(self, hexadecimal, lifetime):
        age = self.clock() - int(hexadecimal, 16)
        return -SKEW <= age <= lifetime

    def open_ticket(self, ticket, lifetime=LIFETIME):
        """What make_ticket() got, or None."""
        found = re.fullmatch(r"(PBS:([^:]*):([0-9A-F]{8}))::([A-Za-z0-9+/]+)", ticket)
        if not found or not hmac.compare_digest(self._sign(found[1]), found[4]) or \
                not self._age_ok(found[3], lifetime):
            return None
        return urllib.parse.unquote(found[2])

    def _csrf_ok(self, token, who):
        found = re.fullmatch(r"([0-9A-F]{8}):(.*)", token or "")
        return bool(found) and self._age_ok(found[1], LIFETIME) and \
            hmac.compare_digest(self._sign(found[1] + " csrf " + who), found[2])

    # --- login ---

    def login(self, p):
        """The members of a login's answer."""
        name = p["username"]
        user = self.users.get(name)
        if not user or not user.enabled:
            raise Refused(401, "authentication failure")
        if "tfa-challenge" in p:
            self._second_factor(name, user, p)
        elif self.open_ticket(p["password"]) != name:
            if p["password"] != user.password:
                raise Refused(401, "authentication failure")
            if user.totp is not None:
                what = "!tfa!" + json.dumps({"totp": True}, separators=(",", ":"))
                return {"username": name, "ticket": self.make_challenge(what, name),
                        "CSRFPreventionToken": "invalid"}
        return {"username": name, "ticket": self.make_ticket(name),
                "CSRFPreventionToken": self.make_csrf(name)}

    def make_challenge(self, what, name):
        quoted = what.replace("%", "%25").replace(":", "%3A")
        text = f"PBS:{quoted}:{int(self.clock()):08X}"
        return f"{text}::{self._sign(text + name)}"

    def _second_factor(self, name, user, p):
        found = re.fullmatch(r"(PBS:!tfa![^:]*:([0-9A-F]{8}))::(.+)", p["tfa-challenge"])
        if not found or self._sign(found[1] + name) != found[3] or \
                not self._age_ok(found[2], CHALLENGE_LIFETIME) or user.totp is None or \
                p["password"] != f"totp:{user.totp}":
            raise Refused(401, "authentication failure")

    # --- requests ---

    def who(self, method, headers):
        """The auth id of a request, proved; headers: names in lower case."""
        ticket = self._cookie(headers.get("cookie", ""))
        if ticket is not None:
            name = self.open_ticket(ticket)
            if name not in self.users or not self.users[name].enabled:
                raise Refused(401, "authentication failed - invalid ticket")
            if method != "GET" and not self._csrf_ok(headers.get("csrfpreventiontoken"), name):
                raise Refused(401, "authentication failed - invalid CSRF token")
            return name
        found = re.fullmatch(r"PBSAPIToken[ =]([^:]+):(.*)", headers.get("authorization", ""))
        if found:
            token, secret = found[1], urllib.parse.unquote(found[2])
            user = self.users.get(user_of(token))
            if token in self.tokens and self.tokens[token] == secret and user and user.enabled:
                return token
        raise Refused(401, "authentication failed - no valid credentials")

    @staticmethod
    def _cookie(text):
        jar = {}
        for part in text.split(";"):
            name, _, value = part.strip().partition("=")
            jar.setdefault(name, value)
        if "__Host-PBSAuthCookie" in jar:
            return urllib.parse.unquote(jar["__Host-PBSAuthCookie"])
        return urllib.parse.unquote(jar["PBSAuthCookie"]) if "PBSAuthCookie" in jar else None

    def rights(self, who):
        user = user_of(who)
        of_user = ROLES["DatastoreAdmin"] if user == "root@pam" else ROLES.get(
            self.roles.get(user), set())
        if who == user:
            return of_user
        return of_user & ROLES.get(self.roles.get(who), set())

    def need(self, who, full=(), own=None, owner=None, status=403):
        """One of the full rights, or `own` for what is the caller's."""
        rights = self.rights(who)
        if rights & set(full) or (own in rights and owns(who, owner)):
            return
        raise Refused(status, "permission check failed")

    def exists(self, who):
        user = self.users.get(user_of(who))
        return bool(user and user.enabled) and (who == user_of(who) or who in self.tokens)
