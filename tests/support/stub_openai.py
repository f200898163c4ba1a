# SPDX-License-Identifier: Apache-2.0
"""A server that speaks as much of OpenAI's API as `berth bench --vs` asks for, with times that a test chooses."""
import json
import threading
import time

from stub import Stub, StubHandler


class StubOpenAI(Stub):
    """first_s: until the first token; gap_s: between tokens; fail_from: requests from this number on get status 500;
    tokenize, usage: whether it can say these; per_word: tokens that a word of a text counts for, beside one at its beginning;
    answer_len: most tokens of an answer, whatever is asked for.  bodies, keys, at: what came, and when;
    list_keys: of those who asked for its models."""

    def __init__(self, first_s=0.05, gap_s=0.02, fail_from=None, tokenize=True, usage=True, per_word=1,
                 answer_len=None):
        self.first_s, self.gap_s, self.fail_from, self.tokenize, self.usage = first_s, gap_s, fail_from, tokenize, usage
        self.per_word, self.answer_len = per_word, answer_len
        self.bodies, self.keys, self.list_keys, self.at, self.lock = [], [], [], [], threading.Lock()
        stub = self

        class Handler(StubHandler):
            def do_GET(self):
                stub.list_keys.append(self.headers.get("Authorization"))
                self.whole({"object": "list", "data": [{"id": "stub-model", "object": "model"}]})

            def do_POST(self):
                body = json.loads(self.body())
                if self.path == "/tokenize":
                    if stub.tokenize:
                        return self.whole({"tokens": list(range(100, 140))})
                    return self.whole({"error": {"message": "no such route"}}, 404)
                with stub.lock:
                    number = len(stub.bodies)
                    stub.bodies.append(body)
                    stub.keys.append(self.headers.get("Authorization"))
                    stub.at.append(time.monotonic())
                if stub.fail_from is not None and number >= stub.fail_from:
                    return self.whole({"error": {"message": "the stub has had enough"}}, 500)
                try:
                    self.stream(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def stream(self, body):
                self.begin()
                n = min(body["max_tokens"], stub.answer_len or body["max_tokens"])
                text = isinstance(body["prompt"], str)
                n_prompt = 1 + int(stub.per_word * len(body["prompt"].split())) if text else len(body["prompt"])
                for i in range(n):
                    time.sleep(stub.gap_s if i else stub.first_s)
                    self.event({"choices": [{"index": 0, "text": " word", "finish_reason": None}]})
                if stub.usage:
                    self.event({"choices": [], "usage": {"prompt_tokens": n_prompt, "completion_tokens": n}})
                self.event(b"[DONE]")

        super().__init__(Handler)
