# SPDX-License-Identifier: Apache-2.0
"""Holds every answer that a test's client gets to OpenAI's description: whole bodies, chunks of streams, errors.

berth_test.Client calls these for each answer, so that no test has to; what is wrong is an AssertionError.
"""
import json
import re
import urllib.parse

from openapi_check import check

PREFIX = re.compile(r"^(?:/engines(?:/llama\.cpp)?)?/v1(?=/)")
WHOLE = {("POST", "/chat/completions"): "CreateChatCompletionResponse",
         ("POST", "/completions"): "CreateCompletionResponse",
         ("GET", "/models"): "ListModelsResponse"}
PROBES = ("/livez", "/readyz", "/health")  # they answer machines of another kind, in those's words
CHUNK = {"/chat/completions": "CreateChatCompletionStreamResponse", "/completions": "CreateCompletionResponse"}
# Statuses that tell a client to come again must say when.
AGAIN = (429, 503)


def route(path):
    """The path as OpenAI's description has it, after /v1; None for another one."""
    path = re.sub(r"/+", "/", urllib.parse.unquote(path.split("?")[0]))
    return PREFIX.sub("", path).rstrip("/") if PREFIX.match(path) else None


def check_error(status, headers, body):
    """An error as OpenAI's clients read it, with what they need to decide whether to ask again."""
    assert headers.get("content-type", "").startswith("application/json"), f"{status} with {headers}: {body[:300]!r}"
    value = json.loads(body.decode("utf-8"))
    check(value, "ErrorResponse")
    assert value["error"]["message"].strip(), f"{status} without a sentence"
    assert headers.get("x-request-id"), f"{status} without x-request-id: {headers}"
    if status in AGAIN and value["error"]["code"] != "canceled":  # nobody is left to come again
        assert "retry-after" in headers or headers.get("x-should-retry") == "false", \
            f"{status} with neither retry-after nor x-should-retry: {headers} {value}"


def check_whole(method, path, status, headers, body):
    """An answer that is not a stream.  headers: lower-case names; body: bytes."""
    at = route(path)
    if status >= 400:
        if method != "HEAD" and path not in PROBES:
            check_error(status, headers, body)
        return
    if at is None or status != 200 or method == "HEAD" or not body:
        return
    name = WHOLE.get((method, at)) or (
        "Model" if method == "GET" and at.startswith("/models/") and at != "/models/" else None)
    if name and headers.get("content-type", "").startswith("application/json"):
        check(json.loads(body.decode("utf-8")), name)


class Stream:
    """One streamed answer, event by event: each is a chunk of the same answer, in the order that clients rely on."""

    def __init__(self, path):
        self.at = route(path)
        self.schema = CHUNK.get(self.at)
        self.same, self.ended, self.failed, self.usage = None, False, False, False
        self.roles, self.finished = set(), set()

    def event(self, e):
        if self.schema is None or e.kind == "comment":
            return
        assert e.kind == "data", f"an event named {e.kind!r} in a stream of OpenAI's"
        assert not self.ended and not self.failed, f"{e!r} after the end"
        if e.data == "[DONE]":
            self.ended = True
            return
        value = e.json
        if "error" in value:
            check(value, "ErrorResponse")
            self.failed = True
            return
        check(self._filled(value), self.schema)
        same = tuple(value.get(k) for k in ("id", "created", "model", "object"))
        assert self.same in (None, same), f"{same} in a stream that began as {self.same}"
        self.same = same
        assert not self.usage, f"{value} after the usage"
        if not value["choices"]:
            assert value.get("usage"), f"neither choices nor usage: {value}"
            self.usage = True
        for c in value["choices"]:
            self._choice(c)

    def _filled(self, value):
        """Of /completions the description knows whole answers alone; in chunks, nothing has finished before the end."""
        if self.at != "/completions":
            return value
        value = {k: v for k, v in value.items() if k != "usage" or v is not None}
        value["choices"] = [{**c, "finish_reason": c["finish_reason"] or "stop"} for c in value["choices"]]
        return value

    def _choice(self, c):
        i = c["index"]
        assert i not in self.finished, f"choice {i} goes on after its finish_reason: {c}"
        if self.at == "/chat/completions":
            delta = c["delta"]
            assert ("role" in delta) == (i not in self.roles), f"the role must come once, first: {c}"
            self.roles.add(i)
        if c["finish_reason"] is not None:
            self.finished.add(i)

    def end(self):
        """The stream is over and nothing broke the connection."""
        if self.schema:
            assert self.ended or self.failed, "a stream that ends with neither [DONE] nor an error"
