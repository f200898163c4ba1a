#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Parameters of completions over a runner that plays known models: every property of OpenAI's requests has an answer,
several prompts in one request, defaults that a model declares, how long it stays, what a request cannot replace."""
import json
import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from api_case import WORDS, Api  # noqa: E402
from berth_test import ROOT, SLOW, wait_until  # noqa: E402
from openapi_check import check  # noqa: E402

with open(os.path.join(ROOT, "tests/data/openai/requests.json"), encoding="utf-8") as f:
    REQUESTS = json.load(f)
DIGEST = "sha256:" + "00112233445566778899aabbccddeeff" * 2


class Echo(Api):
    def echo(self, path="/v1/completions", **body):
        """The request as the runner saw it."""
        base = {"model": "echo", "prompt": "x"} if path == "/v1/completions" else \
            {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        status, _, answer = self.d.post(path, {**base, **body})
        self.assertEqual(status, 200, answer)
        one = answer["choices"][0]
        return json.loads(one["text"] if "text" in one else one["message"]["content"])


class Described(Echo):
    """OpenAI's description, walked through mechanically."""

    def test_every_property_is_known(self):
        for schema, path in (("CreateChatCompletionRequest", self.chat), ("CreateCompletionRequest", self.complete)):
            self.assertGreater(len(REQUESTS[schema]), 15)
            for name in REQUESTS[schema]:
                if name in ("model", "messages", "prompt"):
                    continue
                status, _, answer = path(**{name: None})  # null: absent, where there is such a parameter
                self.assertEqual(status, 200, (schema, name, answer))

    def test_what_no_property_can_be_is_refused_by_name(self):
        """No value of the wrong type slips through: an object with a stray key is right for none of them but these."""
        free = {"user", "safety_identifier", "metadata", "prompt_cache_key", "prompt_cache_retention",
                "prompt_cache_options", "service_tier", "parallel_tool_calls"}
        for schema, path in (("CreateChatCompletionRequest", self.chat), ("CreateCompletionRequest", self.complete)):
            for name in REQUESTS[schema]:
                if name in free:
                    continue
                status, _, answer = path(**{name: {"nonsense": True}})
                self.assertEqual(status, 400, (schema, name))
                self.assertTrue((answer["error"]["param"] or "").startswith(name), answer)

    def test_engines_that_people_come_from(self):
        """What llama.cpp's and vLLM's clients send by default changes nothing."""
        plain = self.echo(seed=1)
        self.assertEqual(self.echo(
            seed=1, n_keep=0, n_discard=0, min_keep=0, typical_p=1.0, repeat_last_n=-1, mirostat=0, mirostat_tau=5.0,
            mirostat_eta=0.1, dry_multiplier=0.0, dry_base=1.75, dry_allowed_length=2, xtc_probability=0.0,
            xtc_threshold=0.1, dynatemp_range=0.0, dynatemp_exponent=1.0, cache_prompt=True, n_probs=0, id_slot=-1,
            n_indent=0, return_tokens=False, timings_per_token=False, post_sampling_probs=False, grammar="",
            best_of=1, use_beam_search=False, skip_special_tokens=True, spaces_between_special_tokens=True,
            include_stop_str_in_output=False, priority=0, logits_processors=[], return_token_ids=False), plain)
        for name, value in {"t_max_predict_ms": 10, "response_fields": ["content"], "n_indent": 4,
                            "logits_processors": ["x"], "vllm_xargs": {"a": 1}}.items():
            self.refused(self.complete(**{name: value}), 400, name, "unsupported_parameter")


class Values(Echo):
    def test_n_by_both_names(self):
        self.assertEqual(self.echo(n_cmpl=2)["n"], 2)
        self.refused(self.complete(n=2, n_cmpl=3), 400, "n_cmpl", words="differ")
        self.refused(self.complete(n=129), 400, "n", words="between 1 and 128")

    def test_keep_alive(self):
        for value, seconds in ((300, 300), ("5m", 300), ("1h30m", 5400), (0, 0), ("0", 0), (-1, -1), ("-1", -1),
                               (1.5, 2), (-7.5, -1)):
            self.assertEqual(self.echo(keep_alive=value)["keep_alive"], seconds, value)
        self.assertEqual(self.echo()["keep_alive"], -2)  # not said
        for bad in ("soon", "", "5 m", [], True, 1e300, "-5m"):
            self.refused(self.complete(keep_alive=bad), 400, "keep_alive")

    def test_timeout(self):
        self.assertEqual(self.echo(timeout=2.5)["deadline_ms"], 2500)
        self.assertEqual(self.echo()["deadline_ms"], 0)
        for bad in (0, -1, "5", 1e300, []):
            self.refused(self.complete(timeout=bad), 400, "timeout")

    def test_what_belongs_to_the_text(self):
        plain = self.echo()
        self.assertEqual((plain["include_stop"], plain["show_special"]), (0, 0))
        e = self.echo(include_stop_str_in_output=True, skip_special_tokens=False)
        self.assertEqual((e["include_stop"], e["show_special"]), (1, 1))
        self.refused(self.complete(skip_special_tokens=1), 400, "skip_special_tokens", words="true or false")

    def test_numbers_at_their_edges(self):
        for name, value in (("temperature", 1e308), ("temperature", -1), ("top_k", -5), ("n", 10**9),
                            ("max_tokens", -1), ("max_tokens", 2**63 - 1), ("n_predict", -1), ("n_discard", -1),
                            ("logprobs", 10**6), ("top_p", -0.5), ("min_p", 1.5)):
            e = self.refused(self.complete(**{name: value}), 400, name)
            self.assertRegex(e["message"], name)
        for value in (2**70, -2**70):  # beyond 64 bits: the JSON reader says where
            _, _, answer = self.complete(seed=value)
            self.assertRegex(answer["error"]["message"], r"at byte \d+")
        for value in (2**63 - 1, -2**63, 0):
            self.assertEqual(self.echo(seed=value)["seed"], value % 2**64)


class Prompts(Echo):
    """Several prompts in one request: one generation each, choices in the prompts' order."""

    def test_whole(self):
        status, headers, body = self.complete(model="echo", prompt=["a", "b", [1, 2]], n=2)
        self.assertEqual(status, 200, body)
        check(body, "CreateCompletionResponse")
        self.assertEqual([c["index"] for c in body["choices"]], [0, 1, 2, 3, 4, 5])
        seen = [json.loads(body["choices"][i]["text"]) for i in (0, 2, 4)]  # "echo" speaks in the first choice alone
        self.assertEqual([(s["text"], s["tokens"]) for s in seen], [("a", []), ("b", []), ("", [1, 2])])
        self.assertEqual(len({s["seed"] for s in seen}), 3)  # drawn for each
        self.assertEqual(body["usage"]["prompt_tokens"], 27)
        self.assertEqual(body["usage"]["completion_tokens"], 15)
        self.assertEqual(headers["x-model-digest"], DIGEST)

    def test_everything_else_is_the_same_for_all(self):
        body = self.complete(model="echo", prompt=["a", "b"], seed=7, stop=["s", "t"], stop_token_ids=[3],
                             logit_bias={"5": 1}, max_tokens=9)[2]
        a, b = (json.loads(c["text"]) for c in body["choices"])
        self.assertEqual((a.pop("text"), b.pop("text")), ("a", "b"))
        self.assertEqual(a, b)
        self.assertEqual((a["seed"], a["stops"], a["stop_tokens"], a["bias"]), (7, ["s", "t"], [3], [[5, 1]]))

    def test_stream(self):
        events = list(self.d.stream("/v1/completions", {"model": "words", "prompt": ["a", "b", "c"], "n": 2,
                                                        "stream": True, "stream_options": {"include_usage": True}}))
        self.assertEqual(events[-1].data, "[DONE]")
        texts, ends = [""] * 6, [None] * 6
        for e in events[:-2]:
            one = e.json["choices"][0]
            texts[one["index"]] += one["text"]
            ends[one["index"]] = one["finish_reason"]
        self.assertEqual((texts, ends), ([WORDS] * 6, ["stop"] * 6))
        self.assertEqual(events[-2].json["choices"], [])
        self.assertEqual(events[-2].json["usage"]["prompt_tokens"], 27)

    def test_one_that_fails_ends_all(self):
        for stream in (False, True):
            started = time.monotonic()
            body = {"model": "picky", "prompt": ["short", "long", "short"], "stream": stream}
            if stream:
                try:
                    events = list(self.d.stream("/v1/completions", body))
                    error = next(e.json for e in events if e.kind == "data" and "error" in e.json)
                except AssertionError as e:  # nothing had been streamed yet: an ordinary refusal
                    self.assertIn("400", str(e))
                    error = None
            else:
                error = self.refused(self.d.post("/v1/completions", body), 400, "prompt", "context_length_exceeded",
                                     "9 tokens and the context 8")
            if error and stream:
                self.assertEqual(error["error"]["code"], "context_length_exceeded")
            self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 0))
            self.assertLess(time.monotonic() - started, 10 * SLOW)

    def test_a_client_that_leaves_ends_all(self):
        c = self.d.connect()
        c.request("POST", "/v1/completions", json.dumps({"model": "slow", "prompt": ["a"] * 8, "stream": True}),
                  {"Content-Type": "application/json"})
        self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 8))
        c.close()
        self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 0))

    def test_limits(self):
        self.refused(self.complete(prompt=["x"] * 129), 400, "prompt", words="128")
        self.refused(self.complete(prompt=["x"] * 128, n=128), 400, "n", words="1024")
        self.refused(self.complete(prompt=["x", [1, -5]]), 400, "prompt[1][1]")
        self.refused(self.complete(prompt=[[1], {}]), 400, "prompt[1]")


class Kwargs(Echo):
    def test_reserved_names_cannot_be_set(self):
        for name in ("messages", "tools", "bos_token", "eos_token", "add_generation_prompt", "documents",
                     "raise_exception", "chat_template", "range"):
            self.refused(self.chat(chat_template_kwargs={name: "x"}), 400, "chat_template_kwargs", words=name)
        self.assertEqual(json.loads(self.echo("/v1/chat/completions", chat_template_kwargs={"enable_thinking": False})
                                    ["kwargs"]), {"enable_thinking": False})
        self.refused(self.chat(chat_template="{{ messages }}"), 400, "chat_template", "unsupported_parameter")


class Answered(Echo):
    """What an answer says of what answered."""

    def test_headers_and_fingerprint(self):
        status, headers, body = self.complete()
        self.assertEqual((status, headers["x-model-digest"]), (200, DIGEST))
        self.assertRegex(headers["x-engine"], r"^berth/\d")
        self.assertRegex(headers["server-timing"], r"^queue;dur=[\d.]+, prefill;dur=")
        self.assertEqual(body["system_fingerprint"], "fp_0123456789ab")

    def test_timings(self):
        """llama-server's object, once, where it is asked for; this worker says that nothing took time, so that there is no speed."""
        told = {"cache_n": 4, "prompt_n": 5, "prompt_ms": 0, "prompt_per_second": None, "predicted_n": 5, "predicted_ms": 0,
                "predicted_per_second": None}
        self.assertEqual(self.complete(timings_per_token=True)[2]["timings"], told)
        self.assertEqual(self.chat(timings_per_token=True)[2]["timings"], told)
        self.assertNotIn("timings", self.complete(timings_per_token=False)[2])
        self.refused(self.complete(timings_per_token="yes"), 400, "timings_per_token", words="true or false")
        for usage in (False, True):
            events = list(self.d.stream("/v1/completions", {"model": "words", "prompt": "x", "stream": True, "timings_per_token": True,
                                                            "stream_options": {"include_usage": usage}}))
            self.assertEqual([e.json["timings"] for e in events[:-1] if e.json.get("usage")], [told] * usage)
            self.assertEqual(sum("timings" in e.json for e in events[:-1]), usage)

    def test_stream_headers(self):
        for path, body in (("/v1/completions", {"prompt": "x"}),
                           ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})):
            c = self.d.connect()
            c.request("POST", path, json.dumps({"model": "words", "stream": True, **body}),
                      {"Content-Type": "application/json"})
            r = c.getresponse()
            headers = {k.lower(): v for k, v in r.getheaders()}
            self.assertEqual(headers["x-model-digest"], DIGEST)
            self.assertRegex(headers["server-timing"], r"^queue;dur=[\d.]+$")
            self.assertIn("x-request-id", headers)
            first = json.loads(r.read().split(b"\n\n")[0][len(b"data: "):])
            self.assertEqual(first["system_fingerprint"], "fp_0123456789ab")
            c.close()

    def test_whole_and_streamed_texts_are_equal(self):
        for model in ("words", "bytes"):
            whole = self.complete(model=model, logprobs=0)[2]["choices"][0]
            events = list(self.d.stream("/v1/completions", {"model": model, "prompt": "x", "stream": True,
                                                            "logprobs": 0}))
            parts = [e.json["choices"][0] for e in events[:-1]]
            self.assertEqual("".join(p["text"] for p in parts), whole["text"])
            for field in ("tokens", "token_logprobs", "text_offset"):
                self.assertEqual(sum((p["logprobs"][field] for p in parts if p["logprobs"]), []),
                                 whole["logprobs"][field])

    def test_preload_only(self):
        headers = {"X-Preload-Only": "true"}
        body = {"model": "slow", "messages": [{"role": "user", "content": "x"}]}
        status, _, answer = self.d.post("/v1/chat/completions", body, headers)
        self.assertEqual((status, answer), (200, ""))
        self.refused(self.d.post("/engines/v1/chat/completions", {**body, "model": "fail-4"}, headers), 503, None,
                     "insufficient_memory")
        self.refused(self.d.post("/v1/completions", {"model": "nobody", "prompt": "x"}, headers), 404, "model",
                     "model_not_found", "did you mean")


if __name__ == "__main__":
    unittest.main()
