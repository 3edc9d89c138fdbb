# SPDX-License-Identifier: Apache-2.0
"""What is sent back, before it is HTTP/1.1 or HTTP/2."""

import email.utils
import json
import time
import zlib

JSON = "application/json;charset=UTF-8"
RAW = "application/octet-stream"


class Answer:
    """What is sent.  The second row is for what no good server does."""

    def __init__(self, status, body=b"", content_type=None, sized=True, headers=()):
        self.status, self.body, self.content_type = status, body, content_type
        self.sized, self.headers = sized, list(headers)
        self.cut = self.piece = self.reset = self.goaway = self.session_cut = None
        self.endless = self.drop = False


def json_answer(data, **members):
    return Answer(200, json.dumps({"data": data, **members}).encode(), JSON)


def date():
    return email.utils.formatdate(usegmt=True)


def deflated(answer, headers):
    """Compressed, if that is wanted."""
    wanted = [w.split(";")[0].strip() for w in headers.get("accept-encoding", "").split(",")]
    if "deflate" in wanted and answer.body:
        answer.body = zlib.compress(answer.body)
        answer.headers.append(("content-encoding", "deflate"))
        answer.sized = False
    return answer


def refused(server, request, e):
    """The answer to a call that failed; late, for some."""
    if request.kind != "backup":
        time.sleep({401: server.delay_401, 403: server.delay_403}.get(e.status, 0))
    answer = Answer(e.status, e.text.encode(), JSON)
    if e.status == 401 and request.kind == "rest":
        answer.headers.append(("set-cookie", "__Host-PBSAuthCookie=; expires=Thu, 01 Jan 1970 "
                                             "00:00:00 GMT; Secure; Path=/;"))
    return answer
