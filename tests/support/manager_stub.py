# SPDX-License-Identifier: Apache-2.0
"""A daemon that has the models a test gives it, and whose pulls and pushes take the course a test writes: for output that a
real one makes too fast, or never twice alike."""
import json
import threading
import time
import urllib.parse

from berth_test import SLOW
from stub import Stub, StubHandler

ID = "sha256:" + "354bf30d0aa3" + "0" * 52
MODEL = {"id": ID, "tags": ["docker.io/ai/smollm2:latest"], "created": 1742816981,
         "config": {"format": "gguf", "quantization": "IQ2_XXS/Q4_K_M", "parameters": "361.82M", "architecture": "llama",
                    "size": "256.35MiB", "gguf": {"general.name": "SmolLM2"}, "context_size": 8192}}


def progress(layer, current, size, total, mode="pull"):
    return {"type": "progress", "message": f"Downloaded: {current / 1e6:.2f} MB", "total": total,
            "layer": {"id": layer, "size": size, "current": current}, "mode": mode}


def success(message, mode="pull", **more):
    return {"type": "success", "message": message, "total": 0, "layer": {"size": 0, "current": 0}, "mode": mode, **more}


class ManagerStub(Stub):
    """course: what a pull, push or load answers: objects, bytes (a line as it is), numbers (seconds to wait), an Event to
    wait for, or an exception, at which the connection is cut.  requests: (method, path with query, body)."""

    def __init__(self, models=(), course=(), answers=None):
        self.models, self.course, self.answers = list(models), list(course), dict(answers or {})
        self.requests = []
        stub = self

        class Handler(StubHandler):
            def missing(self, what):
                self.whole({"error": {"message": what, "type": "invalid_request_error", "param": None, "code": None}}, 404)

            def lines(self):
                self.begin("application/json")
                try:
                    for x in stub.course:
                        if isinstance(x, Exception):
                            return
                        if isinstance(x, threading.Event):
                            x.wait(60 * SLOW)
                            continue
                        if isinstance(x, (int, float)):
                            time.sleep(x)
                            continue
                        self.wfile.write((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n")
                        self.wfile.flush()
                except OSError:
                    stub.left.set()

            def handle_any(self):
                body = self.body()
                stub.requests.append((self.command, self.path, body))
                path = urllib.parse.unquote(self.path.split("?")[0])
                if (self.command, path) in stub.answers:
                    return self.whole(stub.answers[self.command, path])
                if path in ("/berth/v1/pull", "/berth/v1/push", "/models/load", "/berth/v1/verify", "/berth/v1/import"):
                    return self.lines()
                if path == "/berth/v1/version":
                    return self.whole({"version": "9.9.9"})
                if path == "/models" and self.command == "GET":
                    return self.whole(stub.models)
                if path.startswith("/models/") and self.command == "GET":
                    for m in stub.models:
                        if any(path[8:] in (t, t.removeprefix("docker.io/"), t.removeprefix("docker.io/ai/").removesuffix(":latest"))
                               for t in m["tags"]) or path[8:] == m["id"]:
                            return self.whole(m)
                self.missing(f"there is no {path}")

            do_GET = do_POST = do_DELETE = handle_any

        super().__init__(Handler)

    def asked(self, method, path):
        """The JSON bodies of such requests."""
        return [json.loads(b) if b else None for m, p, b in self.requests if (m, p) == (method, path)]
