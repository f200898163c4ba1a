#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole path: `berth serve`, its runner and workers, the model that ships, over HTTP."""
import concurrent.futures
import json
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import ROOT, SLOW, Daemon, wait_until  # noqa: E402
from openapi_check import check  # noqa: E402

with open(os.path.join(ROOT, "tests/data/stories/expected_t0_n200.txt"), encoding="utf-8") as f:
    STORY = f.read()
LONG = {"ignore_eos": True, "max_tokens": 1900, "n": 128}  # seconds of this model's time, wherever it runs


class Serve(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.d = Daemon(args=["--max-num-seqs", "8"])
        cls.d.start()

    @classmethod
    def tearDownClass(cls):
        rc = cls.d.stop()
        assert rc == 0, f"exit status {rc}\n{cls.d.output()}"

    def body(self, **more):
        return {"model": "stories", "prompt": "Once upon a time", "temperature": 0, "max_tokens": 40, **more}

    def complete(self, **more):
        status, _, answer = self.d.post("/v1/completions", self.body(**more))
        self.assertEqual(status, 200, answer)
        check(answer, "CreateCompletionResponse")
        return answer

    def text(self, **more):
        return self.complete(**more)["choices"][0]["text"]

    def info(self):
        return next(m for m in self.d.get("/berth/v1/models")[2]["models"] if m["name"] == "stories")

    def idle(self):
        return wait_until(lambda: self.info()["n_running"] == 0 and self.info()["n_waiting"] == 0)


class Answers(Serve):
    def test_the_story_others_computed(self):
        self.assertTrue(STORY.startswith("Once upon a time"))
        self.assertTrue(STORY.startswith("Once upon a time" + self.text(max_tokens=150)))

    def test_streams_say_what_whole_answers_say(self):
        for more in ({}, {"temperature": 0.9, "seed": 7, "n": 3}, {"stop": [" was"]}, {"echo": True}):
            whole = self.complete(**more)
            n = len(whole["choices"])
            texts, ends, usage = [""] * n, [None] * n, None
            for e in self.d.stream("/v1/completions", self.body(stream=True, stream_options={"include_usage": True},
                                                                **more)):
                if e.kind != "data" or e.data == "[DONE]":
                    continue
                usage = e.json["usage"]
                for c in e.json["choices"]:
                    texts[c["index"]] += c["text"]
                    ends[c["index"]] = c["finish_reason"] or ends[c["index"]]
            self.assertEqual(texts, [c["text"] for c in whole["choices"]], more)
            self.assertEqual(ends, [c["finish_reason"] for c in whole["choices"]])
            for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
                self.assertEqual(usage[name], whole["usage"][name])

    def test_tokens_of_logprobs_join_to_the_text(self):
        one = self.complete(logprobs=3, max_tokens=30)["choices"][0]
        lp = one["logprobs"]
        self.assertEqual("".join(lp["tokens"]), one["text"])
        self.assertEqual(lp["text_offset"], [len("".join(lp["tokens"][:i])) for i in range(30)])
        for token, p, top in zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]):
            self.assertEqual(max(top.values()), p)  # greedy: the chosen one is the likeliest
            self.assertEqual(top[token], p)

    def test_token_prompts_equal_text_prompts(self):
        # The start token, then what stories260K's vocabulary has for " Once upon a time".
        lp = self.complete(prompt="Once", logprobs=0, max_tokens=4)["choices"][0]
        self.assertTrue(lp["text"])
        with_ids = self.d.post("/v1/completions", self.body(prompt=[1, 403, 407, 261, 378], max_tokens=10))[2]
        self.assertEqual(with_ids["choices"][0]["text"], self.text(max_tokens=10))

    def test_seeds_decide(self):
        a, b, c = (self.text(temperature=1, seed=s) for s in (1, 1, 2))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)
        self.assertNotEqual(self.text(temperature=1), self.text(temperature=1))

    def test_stop_string_is_not_shown(self):
        one = self.complete(stop=" girl")["choices"][0]
        self.assertEqual((one["text"], one["finish_reason"]), (", there was a little", "stop"))

    def test_32_at_once_say_what_each_says_alone(self):
        bodies = [self.body(prompt="Once upon a time" if i % 3 else "The dog " * (i + 1), seed=i, n=1 + i % 2,
                            temperature=(i % 4) / 3, max_tokens=10 + i, top_k=(0, 5)[i % 2], top_p=(1, 0.9)[i % 5 == 0],
                            presence_penalty=i % 3 - 1, logprobs=(None, 2)[i % 7 == 0]) for i in range(32)]

        def ask(body):
            status, _, answer = self.d.post("/v1/completions", body)
            self.assertEqual(status, 200, answer)
            return answer["choices"]

        alone = [ask(b) for b in bodies]
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            together = list(pool.map(ask, bodies))
        self.assertEqual(together, alone)


class Refusals(Serve):
    def error(self, status, code, body, path="/v1/completions"):
        got, _, answer = self.d.post(path, body)
        self.assertEqual((got, answer["error"]["code"]), (status, code), answer)
        check(answer, "ErrorResponse")
        return answer["error"]["message"]

    def test_too_long_for_the_context(self):
        self.assertIn("2048", self.error(400, "context_length_exceeded", self.body(prompt="dog " * 5000)))
        start = time.monotonic()
        self.assertIn("at least", self.error(400, "context_length_exceeded", self.body(prompt="a" * 10_000_000)))
        self.assertLess(time.monotonic() - start, 20 * SLOW)

    def test_parameters_that_ban_every_token_are_the_requests_fault(self):
        ban_all = {str(i): -100 for i in range(512)}
        self.assertIn("logit_bias", self.error(400, "invalid_value", self.body(logit_bias=ban_all)))
        del ban_all["2"]  # the end of the answer is left, but not before two tokens
        self.error(400, "invalid_value", self.body(logit_bias=ban_all, min_tokens=2))
        self.assertEqual(self.complete(logit_bias=ban_all)["choices"][0]["text"], "")

    def test_tokens_out_of_the_vocabulary(self):
        self.assertIn("512", self.error(400, "invalid_value", self.body(prompt=[1, 512])))
        self.error(400, "invalid_value", self.body(logit_bias={"512": 1}))

    def test_a_model_without_a_template_says_how_to_give_one(self):
        self.assertIn("--chat-template", self.error(400, "unsupported", {
            "model": "stories", "messages": [{"role": "user", "content": "hi"}]}, "/v1/chat/completions"))

    def test_near_names(self):
        self.assertIn("stories", self.error(404, "model_not_found", self.body(model="storis")))

    def test_files_that_are_no_models(self):
        path = os.path.join(self.d.state, "bad.gguf")
        for content in (b"", b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 16, b"x" * 100):
            with open(path, "wb") as f:
                f.write(content)
            self.assertEqual(self.d.post("/berth/v1/register", {"path": path, "name": "bad"})[0], 200)
            status, _, answer = self.d.post("/v1/completions", self.body(model="bad"))
            self.assertGreaterEqual(status, 400)
            check(answer, "ErrorResponse")
        self.assertEqual(len(self.text(max_tokens=1)) > 0, True)


class Failures(Serve):
    def test_a_killed_worker_ends_its_streams_and_the_next_request_works(self):
        self.text()
        pid = self.info()["pid"]
        seen = []
        for e in self.d.stream("/v1/completions", self.body(stream=True, **LONG)):
            seen.append(e)
            if len(seen) == 3:
                os.kill(pid, signal.SIGKILL)
        self.assertEqual(seen[-1].json["error"]["code"], "worker_crashed")
        self.assertNotIn("[DONE]", [e.data for e in seen])
        self.assertTrue(self.text())
        self.assertNotEqual(self.info()["pid"], pid)

    def test_leaving_frees_the_place(self):
        self.text()
        for stream in (True, False):
            c = self.d.connect()
            c.request("POST", "/v1/completions", json.dumps(self.body(stream=stream, **LONG)), {"Content-Type": "application/json"})
            if stream:
                self.assertIn(b"data: ", c.getresponse().readline())
            else:
                self.assertTrue(wait_until(lambda: self.info()["n_running"] > 0))
            c.close()
            self.assertTrue(self.idle())

    def test_an_unload_ends_running_answers_by_its_own_name(self):
        self.text()
        seen = []
        for e in self.d.stream("/v1/completions", self.body(stream=True, **LONG)):
            seen.append(e)
            if len(seen) == 3:
                self.assertEqual(self.d.post("/berth/v1/unload", {"model": "stories"})[2], {"was_loaded": True})
        self.assertEqual(seen[-1].json["error"]["code"], "model_unloaded")
        self.assertIn("unloaded on request", seen[-1].json["error"]["message"])
        self.assertTrue(self.text())

    def test_unload_and_load(self):
        self.text()
        self.assertEqual(self.d.post("/berth/v1/unload", {"model": "stories"})[2], {"was_loaded": True})
        self.assertEqual(self.info()["state"], "idle")
        status, _, info = self.d.post("/berth/v1/load", {"model": "stories"})
        self.assertEqual((status, info["state"], info["arch"]), (200, "ready", "llama"))
        self.assertEqual([m["model_name"] for m in self.d.get("/engines/ps")[2]], ["stories"])
        self.assertEqual(self.d.post("/engines/unload", {"all": True})[2], {"unloaded_runners": 1})
        self.assertEqual(self.d.get("/engines/ps")[2], [])


if __name__ == "__main__":
    unittest.main()
