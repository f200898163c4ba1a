# SPDX-License-Identifier: Apache-2.0
"""A daemon that says whatever a test wants: the routes that `berth run` asks, and answers as server-sent events."""
import json
import time

from stub import Stub, StubHandler


class StubServer(Stub):
    """answers: a list of pieces of text per question, the last one repeated; a piece may also be a number, the
    seconds to wait, or an exception, at which the connection is cut.  requests: the bodies that came."""

    def __init__(self, answers, load=(), thinking=None):
        self.answers, self.load, self.thinking, self.requests = list(answers), list(load), thinking, []
        self.headers = []
        stub = self

        class Handler(StubHandler):
            def do_GET(self):
                self.whole({"version": "0.0.0", "models": []})

            def do_POST(self):
                body = json.loads(self.body())
                stub.headers.append(dict(self.headers))
                self.begin()
                try:
                    if self.path.endswith("/load"):
                        for piece in stub.load:
                            if isinstance(piece, dict):
                                self.event(piece)
                            else:
                                time.sleep(piece)
                        self.event({"name": "stub", "has_chat_template": True, "digest": "sha256:00"})
                    else:
                        stub.requests.append(body)
                        self.answer()
                except (BrokenPipeError, ConnectionResetError):
                    stub.left.set()

            def delta(self, **delta):
                self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

            def answer(self):
                pieces = stub.answers.pop(0) if len(stub.answers) > 1 else stub.answers[0]
                if stub.thinking:
                    self.delta(reasoning_content=stub.thinking)
                for piece in pieces:
                    if isinstance(piece, Exception):
                        return
                    if isinstance(piece, str):
                        self.delta(content=piece)
                    else:
                        end = time.monotonic() + piece
                        while time.monotonic() < end:  # notices a client that leaves
                            self.wfile.write(b": waiting\n\n")
                            self.wfile.flush()
                            time.sleep(0.02)
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self.event(b"[DONE]")

        super().__init__(Handler)
