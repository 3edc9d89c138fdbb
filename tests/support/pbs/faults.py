# SPDX-License-Identifier: Apache-2.0
"""Requests on record, and rules for what goes wrong with them.

    rule = server.rule("GET /chunk", faults.answer(500, "no"), nth=3)
    rule = server.rule("POST /dynamic_chunk", faults.hold())
    rule.hit.wait(60)        # the first such request is here, and waits
    rule.release.set()       # let it, and all that follow, go on

A rule names requests by "METHOD PATH" (fnmatch), a REST path without /api2/json; the upgrades are
"GET /backup" and "GET /reader".  It acts on `times` of them, from the `nth` on.
"""

import fnmatch
import threading

from pbs.answers import JSON, Answer


class Action:
    """before() may give the answer without the call being done; after() changes it."""

    def __init__(self, before=None, after=None):
        self.before = before or (lambda rule: None)
        self.after = after or (lambda rule, answer: answer)


def answer(status, text="scripted", headers=()):
    return Action(lambda rule: Answer(status, text.encode(), JSON, headers=headers))


def _dropped():
    a = Answer(500)
    a.drop = True
    return a


def hold():
    """Wait for rule.release before the call is done; it is not done if the server ends meanwhile."""
    def before(rule):
        rule.release.wait()
        return _dropped() if rule.is_cancelled else None
    return Action(before)


def hold_answer():
    """Do the call, and wait for rule.release before it is answered."""
    def after(rule, a):
        rule.release.wait()
        return a
    return Action(after=after)


def run(function):
    """Call it, then do the call."""
    return Action(lambda rule: function() and None)


def run_after(function):
    """Do the call, call the function, then answer."""
    def after(rule, a):
        function()
        return a
    return Action(after=after)


def _change(**members):
    def after(rule, a):
        for key, value in members.items():
            setattr(a, key, value)
        return a
    return Action(after=after)


def drop():
    """Reset the connection instead of answering."""
    return Action(lambda rule: _dropped())


def cut(size):
    """Reset the connection after that many bytes of the body."""
    return _change(cut=size)


def cut_session(sent=None, received=None):
    """For an upgrade: reset the connection after that many bytes of the session."""
    return _change(session_cut=(sent, received))


def reset(code=2):
    """RST_STREAM instead of an answer."""
    return Action(lambda rule: _change(reset=code).after(rule, Answer(500)))


def goaway(code=0):
    """GOAWAY before the answer; later streams are ignored, the connection is closed when all earlier
    ones are answered."""
    return _change(goaway=code)


def endless():
    """A body that never ends."""
    return _change(endless=True, sized=False)


def pieces(size):
    """A body in frames of that size."""
    return _change(piece=size)


def headers(*pairs):
    """More header fields."""
    def after(rule, a):
        a.headers += pairs
        return a
    return Action(after=after)


def body(function):
    """Change a body: function(bytes) -> bytes."""
    def after(rule, a):
        a.body = function(bytes(a.body))
        return a
    return Action(after=after)


def corrupt(at=-1, mask=0x01):
    """Flip bits of one byte of the body."""
    def flip(data):
        data = bytearray(data)
        data[at] ^= mask
        return bytes(data)
    return body(flip)


def truncate(size):
    """End the body early, in good form."""
    def after(rule, a):
        a.body, a.sized = bytes(a.body[:size]), False
        return a
    return Action(after=after)


class Rule:
    def __init__(self, pattern, action, nth, times, matching):
        self.pattern, self.action, self.nth, self.times = pattern, action, nth, times
        self.matching = matching
        self.seen, self.is_cancelled = 0, False
        self.hit, self.release = threading.Event(), threading.Event()

    def wants(self, request):
        if not fnmatch.fnmatchcase(request.name, self.pattern) or \
                not (self.matching is None or self.matching(request)):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times and self.seen >= self.nth + self.times):
            return False
        return True


class Request:
    """One request on record; `status` is None until it is answered."""

    def __init__(self, kind, method, path, query, who):
        self.kind, self.name, self.query, self.who = kind, f"{method} {path}", query, who
        self.status = self.text = None

    def __repr__(self):
        return f"<{self.kind} {self.name}?{self.query} {self.status}>"


class Record:
    """All requests of a server, and the rules."""

    def __init__(self):
        self.changed = threading.Condition()
        self.requests, self.rules = [], []
        self.complaints = []  # what a client did that breaks HTTP/2; errors of the server itself
        self.sessions = 0  # that have not been cleared away

    def rule(self, pattern, action, nth=1, times=1, matching=None):
        """`times` 0: for ever."""
        with self.changed:
            self.rules.append(Rule(pattern, action, nth, times, matching))
            return self.rules[-1]

    def clear_rules(self, cancel=False):
        """Let what they hold go on, or fail."""
        with self.changed:
            for rule in self.rules:
                rule.is_cancelled = cancel
                rule.release.set()
            self.rules.clear()

    def complain(self, text):
        with self.changed:
            self.complaints.append(text)

    def serve(self, request, call):
        """Answer a request with call(), which gives an Answer, and as the rules say."""
        with self.changed:
            self.requests.append(request)
            rules = [rule for rule in self.rules if rule.wants(request)]
            self.changed.notify_all()
        result = None
        for rule in rules:
            rule.hit.set()
            result = result or rule.action.before(rule)
        result = result or call()
        for rule in rules:
            result = rule.action.after(rule, result)
        with self.changed:
            request.status = result.status
            if result.status >= 400:
                request.text = bytes(result.body).decode(errors="replace")
            self.changed.notify_all()
        return result

    def matching(self, pattern, answered=False):
        with self.changed:
            return [r for r in self.requests if fnmatch.fnmatchcase(r.name, pattern) and
                    (r.status is not None or not answered)]

    def count(self, pattern="*"):
        return len(self.matching(pattern))

    def wait_for(self, pattern, count=1, answered=False, timeout=60):
        """Until that many such requests have come (or were answered)."""
        with self.changed:
            ok = self.changed.wait_for(
                lambda: len(self.matching(pattern, answered)) >= count, timeout)
        assert ok, f"{pattern}: {self.count(pattern)} requests, not {count}"

    def session(self, more):
        with self.changed:
            self.sessions += more
            self.changed.notify_all()

    def wait_for_sessions(self, count, timeout=60):
        """Until so many are left: a server notices only some time after it that a client has gone."""
        with self.changed:
            ok = self.changed.wait_for(lambda: self.sessions == count, timeout)
        assert ok, f"{self.sessions} sessions, not {count}"

    def forget(self):
        """Start counting anew."""
        with self.changed:
            self.requests.clear()
