#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The HTTP API from outside, over a runner that plays known models (tests/support/played/runner.h says which): routes,
shapes, streams, parameters, refusals, raw HTTP, web pages, clients that leave, stops.  The real runner and worker are
tested elsewhere; here every failure can be had on demand."""
import concurrent.futures
import json
import os
import re
import signal
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from api_case import WORDS, Api, fake  # noqa: E402
from berth_test import SLOW, wait_until  # noqa: E402
from openapi_check import check  # noqa: E402

class Routes(Api):
    def test_plain_ones(self):
        self.assertEqual(self.d.get("/")[2], "berth is running\n")
        self.assertEqual(self.d.get("/health")[2], {"status": "ok"})
        for path in ("/version", "/berth/v1/version"):
            self.assertRegex(self.d.get(path)[2]["version"], r"^\d+\.\d+\.\d+$")

    def test_models_under_every_prefix(self):
        lists = [self.d.get(p + "/models") for p in ("/v1", "/engines/v1", "/engines/llama.cpp/v1")]
        for status, _, body in lists + [self.d.get("/v1/models/"), self.d.get("//v1//models")]:
            self.assertEqual(status, 200)
            check(body, "ListModelsResponse")
            self.assertEqual(body, lists[0][2])
        self.assertIn("ns/words", [m["id"] for m in lists[0][2]["data"]])
        ready = next(m for m in lists[0][2]["data"] if m["id"] == "slow")
        self.assertEqual((ready["max_model_len"], ready["meta"]["architecture"]), (128, "fake"))

    def test_one_model_by_raw_and_escaped_name(self):
        for path in ("/v1/models/ns/words", "/v1/models/ns%2Fwords", "/engines/v1/models/ns%2fwords"):
            status, _, body = self.d.get(path)
            self.assertEqual((status, body["id"]), (200, "ns/words"), path)
            check(body, "Model")
        self.refused(self.d.get("/v1/models/nobody"), 404, "model", "model_not_found", "nobody")

    def test_head_and_methods(self):
        status, headers, body = self.d.request("HEAD", "/health")
        self.assertEqual((status, body, headers["content-length"]), (200, b"", "15"))
        status, headers, _ = self.d.request("GET", "/v1/completions")
        self.assertEqual((status, headers["allow"]), (405, "POST"))
        status, headers, _ = self.d.request("DELETE", "/health")
        self.assertEqual((status, headers["allow"]), (405, "GET, HEAD"))
        for path in ("/nowhere", "/engines/vllm/v1/models", "/v1", "/v1/modelsx", "/engines/v1"):
            self.refused(self.d.get(path), 404, None, "not_found")
        # What clients most often get wrong.
        self.refused(self.d.post("/chat/completions", {}), 404, None, "not_found", "did you mean /v1/chat/completions?")
        self.refused(self.d.post("/engines/vllm/v1/chat/completions", {}), 404, None, "not_found", "/engines/llama.cpp/v1/")
        self.refused(self.d.get("/v1/v1/models"), 404, None, "not_found", "/v1 twice")
        self.refused(self.d.get("/api/tags"), 404, None, "not_found", "speaks OpenAI's API")
        for path, words in (("/v1/embeddings", "embeddings are not available yet"), ("/v1/messages", "Anthropic's API is not spoken"),
                            ("/engines/llama.cpp/v1/embeddings", "embeddings are not"), ("/engines/v1/embeddings", "embeddings are not"),
                            ("/engines/diffusers/v1/images/generations", "images cannot be made"), ("/v1/responses", "/v1/chat/completions"),
                            ("/completion", "POST /v1/completions")):
            self.refused(self.d.post(path, {}), 404, None, "not_found", words)

    def test_request_id_is_echoed_or_made(self):
        self.assertEqual(self.d.get("/health", {"X-Request-Id": "abc-1"})[1]["x-request-id"], "abc-1")
        made = {self.d.get("/health", {"X-Request-Id": bad})[1]["x-request-id"] for bad in ("", "x" * 200, "a b")}
        self.assertEqual(len(made), 3)
        for one in made:
            self.assertRegex(one, r"^req_[0-9a-f]{24}$")

    def test_status(self):
        _, _, body = self.d.get("/berth/v1/status")
        self.assertEqual(body["pid"], self.d.pid)
        self.assertEqual(body["models_dirs"], ["/a", "/b"])
        self.assertLess(body["uptime_s"], 600)
        self.assertGreaterEqual(body["requests"], 1)

    def test_management(self):
        self.assertEqual(self.slow_model()["state"], "ready")
        status, _, body = self.d.post("/berth/v1/register", {"path": "/x/y.gguf", "name": "y"})
        self.assertEqual((status, body["id"], body["name"]), (200, "y", "y"))
        self.refused(self.d.post("/berth/v1/register", {"path": "y.gguf"}), 400, None, words="absolute")
        self.refused(self.d.post("/berth/v1/register", {"path": "/x/y.txt"}), 400, None, words=".gguf")
        self.refused(self.d.post("/berth/v1/register", {}), 400, "path", "missing_required_parameter")
        self.refused(self.d.post("/berth/v1/register", {"path": "/x\0.gguf"}), 400, "path")
        self.refused(self.d.post("/berth/v1/register", {"path": 3}), 400, "path")
        self.refused(self.d.post("/berth/v1/register", {"path": "/x.gguf", "nam": "y"}), 400, "nam")
        status, _, body = self.d.post("/berth/v1/load", {"model": "slow", "chat_template": "some"})
        self.assertEqual((status, body["name"], body["has_chat_template"]), (200, "slow", False))
        self.refused(self.d.post("/berth/v1/load", {"model": "fail-4"}), 503, None, "insufficient_memory")
        self.refused(self.d.post("/berth/v1/load", {"model": "nobody"}), 404, "model")
        self.refused(self.d.post("/berth/v1/load", {"model": "slow", "chat_template": "bad"}), 400, None)
        self.assertEqual(self.d.post("/berth/v1/configure", {"model": "slow", "chat_template": None})[0], 200)
        self.refused(self.d.post("/berth/v1/configure", {"model": "slow", "chat_template": 5}), 400, "chat-template")
        self.assertEqual(self.d.post("/berth/v1/unload", {"model": "slow"})[2], {"was_loaded": True})
        self.assertEqual(self.d.post("/berth/v1/unload", {"model": "words"})[2], {"was_loaded": False})

    def test_docker_model_runner_shapes(self):
        wait_until(lambda: self.slow_model()["n_running"] == 0)
        _, _, ps = self.d.get("/engines/ps")
        self.assertEqual(ps, [{"backend_name": "llama.cpp", "model_name": "slow", "mode": "completion",
                               "last_used": "2023-11-14T22:13:21Z"}])
        self.assertEqual(self.d.post("/engines/unload", {"all": True})[2], {"unloaded_runners": 1})
        self.assertEqual(self.d.post("/engines/unload", {"models": ["slow", "words"]})[2], {"unloaded_runners": 1})
        self.refused(self.d.post("/engines/unload", {}), 400, None)
        self.refused(self.d.post("/engines/unload", {"models": [1]}), 400, None)


class Answers(Api):
    def test_completion(self):
        status, headers, body = self.complete(max_tokens=3)
        self.assertEqual(status, 200)
        check(body, "CreateCompletionResponse")
        self.assertRegex(body["id"], r"^cmpl-[0-9a-f]{24}$")
        self.assertRegex(body["system_fingerprint"], r"^fp_[0-9a-f]{12}$")
        self.assertLess(abs(body["created"] - time.time()), 60)
        self.assertEqual(body["choices"], [{"text": "w0 w1 w2 ", "index": 0, "logprobs": None,
                                            "finish_reason": "length"}])
        self.assertEqual(body["usage"], {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14,
                                         "prompt_tokens_details": {"cached_tokens": 4}})
        self.assertRegex(headers["server-timing"], r"^queue;dur=[\d.]+, prefill;dur=[\d.]+, decode;dur=[\d.]+$")

    def test_chat(self):
        _, _, body = self.chat(n=2)
        check(body, "CreateChatCompletionResponse")
        self.assertRegex(body["id"], r"^chatcmpl-")
        self.assertEqual([c["message"]["content"] for c in body["choices"]], [WORDS, WORDS])
        self.assertEqual([c["finish_reason"] for c in body["choices"]], ["stop", "stop"])

    def test_logprobs(self):
        _, _, body = self.chat(logprobs=True, top_logprobs=2, max_tokens=1)
        check(body, "CreateChatCompletionResponse")
        one = body["choices"][0]["logprobs"]["content"][0]
        self.assertEqual((one["token"], one["logprob"], one["bytes"]), ("w0 ", -0.5, [119, 48, 32]))
        self.assertEqual(one["top_logprobs"][1], {"token": "bytes:\\xff", "logprob": -9999.0, "bytes": [255]})
        self.assertEqual(self.chat(logprobs=True, max_tokens=1)[2]["choices"][0]["logprobs"]["content"][0]
                         ["top_logprobs"], [])
        _, _, body = self.complete(logprobs=1, max_tokens=3)
        check(body, "CreateCompletionResponse")
        self.assertEqual(body["choices"][0]["logprobs"], {
            "tokens": ["w0 ", "w1 ", "w2 "], "token_logprobs": [-0.5] * 3, "text_offset": [0, 3, 6],
            "top_logprobs": [{"w0 ": -0.5}, {"w1 ": -0.5}, {"w2 ": -0.5}]})

    def test_tokens_that_are_not_text_alone(self):
        _, _, body = self.chat(model="bytes", logprobs=True)
        self.assertEqual(body["choices"][0]["message"]["content"], "\U0001F30A")
        content = body["choices"][0]["logprobs"]["content"]
        self.assertEqual([t["token"] for t in content], ["bytes:\\xf0\\x9f", "bytes:\\x8c\\x8a"])
        self.assertEqual(bytes(sum((t["bytes"] for t in content), [])).decode(), "\U0001F30A")

    def events(self, path, **body):
        return list(self.d.stream(path, {"model": "words", "stream": True, **body}))

    def test_chat_stream_frames(self):
        events = self.events("/v1/chat/completions", messages=[{"role": "user", "content": "x"}], max_tokens=2,
                             stream_options={"include_usage": True})
        self.assertEqual(events[-1].data, "[DONE]")
        chunks = [e.json for e in events[:-1]]
        for c in chunks:
            check(c, "CreateChatCompletionStreamResponse")
        self.assertEqual(len({(c["id"], c["created"], c["model"], c["system_fingerprint"]) for c in chunks}), 1)
        head = {k: chunks[0][k] for k in ("id", "object", "created", "model", "system_fingerprint")}
        self.assertEqual(chunks[0], {**head, "choices": [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}],
            "usage": None})
        self.assertEqual(chunks[1], {**head, "choices": [
            {"index": 0, "delta": {"content": "w0 "}, "finish_reason": None}], "usage": None})
        self.assertEqual(chunks[3], {**head, "choices": [
            {"index": 0, "delta": {}, "finish_reason": "length"}], "usage": None})
        self.assertEqual(chunks[4]["choices"], [])
        self.assertEqual(chunks[4]["usage"]["prompt_tokens_details"], {"cached_tokens": 4})
        self.assertEqual(len(chunks), 5)
        # The order of fields is part of what people compare.
        self.assertEqual(list(chunks[0]), ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"])

    def test_completion_stream_frames(self):
        events = self.events("/v1/completions", prompt="x", max_tokens=2, logprobs=0, n=2)
        chunks = [e.json for e in events[:-1]]
        for c in chunks:
            self.assertEqual(list(c), ["id", "object", "created", "model", "system_fingerprint", "choices"])
            self.assertEqual(c["object"], "text_completion")
        texts = ["", ""]
        for c in chunks:
            one = c["choices"][0]
            texts[one["index"]] += one["text"]
            if one["text"]:
                self.assertEqual(one["logprobs"]["tokens"], [one["text"]])
                self.assertEqual(one["finish_reason"], None)
        self.assertEqual(texts, ["w0 w1 ", "w0 w1 "])
        self.assertEqual([c["choices"][0]["finish_reason"] for c in chunks[-2:]], ["length", "length"])

    def test_stream_headers_and_lines(self):
        body = b'{"model":"words","prompt":"x","stream":true,"max_tokens":1}'
        out = self.raw(b"POST /v1/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n" % len(body) + body)
        head, text = out.split(b"\r\n\r\n", 1)
        self.assertIn(b"Content-Type: text/event-stream", head)
        self.assertIn(b"Cache-Control: no-cache", head)
        for frame in text.split(b"\n\n")[:-1]:
            self.assertTrue(frame.startswith((b"data: ", b": keep-alive")), frame)
            self.assertNotIn(b"\n", frame)
        self.assertTrue(text.endswith(b"data: [DONE]\n\n"))

    def test_keep_alive_comments_while_nothing_comes(self):
        events = list(self.d.stream("/v1/completions", {"model": "thinking", "prompt": "x", "stream": True}, comments=True))
        self.assertEqual((events[0].kind, events[0].data), ("comment", "keep-alive"))
        self.assertEqual(events[-1].data, "[DONE]")
        text = "".join(e.json["choices"][0]["text"] for e in events[:-1] if e.kind == "data")
        self.assertEqual(text, WORDS)

    def test_failure_in_mid_stream_is_an_error_and_no_end(self):
        events = self.events("/v1/chat/completions", model="crash", messages=[{"role": "user", "content": "x"}])
        self.assertEqual(events[-1].json, {"error": {"message": "the worker died", "type": "server_error",
                                                     "param": None, "code": "worker_crashed"}})
        self.assertNotIn("[DONE]", [e.data for e in events])
        self.assertEqual([e.json["choices"][0]["delta"].get("content") for e in events[1:-1]], ["w0 ", "w1 "])

    def test_error_table(self):
        table = {1: (400, "invalid_value"), 2: (400, "invalid_format"), 3: (400, "limit_exceeded"),
                 4: (503, "insufficient_memory"), 5: (404, "model_not_found"), 6: (409, "already_exists"),
                 7: (400, "unsupported"), 8: (500, "io_error"), 9: (502, "network_error"), 10: (504, "timeout"),
                 11: (429, "queue_full"), 12: (503, "canceled"), 13: (500, "corrupt_model"),
                 14: (401, "invalid_api_key"), 15: (403, "forbidden"), 16: (500, "worker_crashed"),
                 17: (400, "context_length_exceeded"), 18: (500, "internal_error"), 19: (503, "model_broken"),
                 20: (503, "stopping"), 21: (503, "model_unloaded"), 99: (500, "internal_error")}
        for n, (status, code) in table.items():
            for body in ({"model": f"fail-{n}"}, {"model": f"fail-{n}", "stream": True}):
                got, headers, answer = self.complete(**body)
                self.assertEqual((got, answer["error"]["code"]), (status, code), n)
                check(answer, "ErrorResponse")
                self.assertEqual(answer["error"]["message"], 'as "asked"')
                self.assertEqual(headers.get("x-should-retry"), "false" if n in (4, 6, 8, 10, 13) else None, n)
                self.assertEqual("retry-after" in headers, n in (11, 19, 20, 21))
        self.refused(self.complete(model="refuse-11"), 429, None, "queue_full")
        self.refused(self.complete(model="nobody"), 404, "model", "model_not_found")


class Parameters(Api):
    def echo(self, path="/v1/completions", **body):
        base = {"model": "echo", "prompt": "x"} if path == "/v1/completions" else \
            {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        body = {**base, **body}
        status, _, answer = self.d.post(path, {k: v for k, v in body.items() if v != "ABSENT"})
        self.assertEqual(status, 200, answer)
        one = answer["choices"][0]
        return json.loads(one["text"] if "text" in one else one["message"]["content"])

    def echo_chat(self, **body):
        return self.echo("/v1/chat/completions", **body)

    def test_defaults(self):
        e = self.echo()
        wanted = {"input": 0, "max_tokens": 0, "min_tokens": 0, "n": 1, "has_seed": 1, "temperature": 1, "top_k": 0,
                  "top_p": 1, "min_p": 0, "repetition": 1, "presence": 0, "frequency": 0, "want_logprobs": 0,
                  "top_logprobs": 0, "ignore_eos": 0, "add_special": 1, "echo": 0, "text": "x", "tokens": [],
                  "stop_tokens": [], "stops": [], "bias": []}
        self.assertEqual({k: e[k] for k in wanted}, wanted)
        self.assertNotEqual(e["seed"], self.echo()["seed"])  # drawn

    def test_every_value_arrives(self):
        e = self.echo(max_tokens=7, min_tokens=2, seed=-1, temperature=0.5, top_k=40, top_p=0.75, min_p=0.125,
                      repetition_penalty=1.25, presence_penalty=-2, frequency_penalty=2, logprobs=3, ignore_eos=True,
                      stop=["a", "b\n"], stop_token_ids=[5, 6], logit_bias={"10": -100, "2147483647": 0.5},
                      add_special_tokens=False, stream_options=None, user="u")
        wanted = {"max_tokens": 7, "min_tokens": 2, "seed": 2**64 - 1, "temperature": 0.5, "top_k": 40, "top_p": 0.75,
                  "min_p": 0.125, "repetition": 1.25, "presence": -2, "frequency": 2, "want_logprobs": 1,
                  "top_logprobs": 3, "ignore_eos": 1, "stops": ["a", "b\n"], "stop_tokens": [5, 6],
                  "bias": [[10, -100], [2147483647, 0.5]], "add_special": 0}
        self.assertEqual({k: e[k] for k in wanted}, wanted)

    def test_names_that_mean_the_same(self):
        self.assertEqual(self.echo_chat(max_completion_tokens=3)["max_tokens"], 3)
        self.assertEqual(self.echo(n_predict=3, max_tokens=3)["max_tokens"], 3)
        self.assertEqual(self.echo(repeat_penalty=1.5)["repetition"], 1.5)
        self.assertEqual(self.echo(top_k=-1)["top_k"], 0)
        self.assertEqual(self.echo(stop="end")["stops"], ["end"])
        self.assertEqual(self.echo(max_tokens=8.0)["max_tokens"], 8)
        self.refused(self.complete(n_predict=3, max_tokens=4), 400, "max_tokens", words="differ")
        self.refused(self.complete(repeat_penalty=1.5, repetition_penalty=2), 400, "repetition_penalty", words="differ")

    def test_prompts(self):
        self.assertEqual(self.echo(prompt=["one"])["text"], "one")
        for prompt in ([1, 2, 3], [[1, 2, 3]]):
            e = self.echo(prompt=prompt)
            self.assertEqual((e["input"], e["tokens"]), (1, [1, 2, 3]))
        self.assertEqual(self.echo(prompt="")["text"], "")
        self.assertEqual(self.echo(prompt="a\u0000b")["text"], "a\u0000b")
        self.assertTrue(self.echo(echo=True)["echo"])
        for bad in ([], {}, 5, ["a", []], [[1], {}], ["a"] * 129, [1, "a"], [-1], [2**31], [1.5], None):
            self.assertEqual(self.complete(prompt=bad)[0], 400, bad)
        self.refused(self.complete(prompt=[1, -1]), 400, "prompt[1]", words="between 0 and 2147483647")

    def test_chat_input(self):
        messages = [{"role": "system", "content": "s"},
                    {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    {"role": "assistant", "content": None, "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 0.1}"}}]},
                    {"role": "tool", "tool_call_id": "1", "content": "42", "extra": [1.0, True]}]
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}}}]
        e = self.echo_chat(messages=messages, tools=tools, tool_choice="auto", chat_template_kwargs={"t": False})
        got = json.loads(e["messages"])
        self.assertEqual(got[1]["content"], "a\nb")
        self.assertEqual(got[2]["tool_calls"][0]["function"]["arguments"], {"x": 0.1})
        self.assertEqual(got[3], messages[3])
        self.assertEqual(list(json.loads(e["tools"])[0]["function"]["parameters"]), ["z", "a"])
        self.assertEqual(json.loads(e["kwargs"]), {"t": False})
        self.assertEqual((e["input"], e["text"]), (2, ""))
        self.assertEqual(self.echo_chat(tools=tools, tool_choice="none")["tools"], "")

    def test_bad_messages_are_named(self):
        def bad(messages, param):
            self.refused(self.chat(messages=messages), 400, param)
        bad([], "messages")
        bad("hi", "messages")
        bad(["hi"], "messages[0]")
        bad([{"content": "x"}], "messages[0]")
        bad([{"role": "user"}], "messages[0].content")
        bad([{"role": "user", "content": 5}], "messages[0].content")
        bad([{"role": "user", "content": []}], "messages[0].content")
        bad([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
            "messages[0].content")
        bad([{"role": "assistant", "tool_calls": "x"}], "messages[0]")
        bad([{"role": "assistant", "tool_calls": [{}]}], "messages[0]")
        self.refused(self.d.post("/v1/chat/completions", {"model": "words"}), 400, "messages",
                     "missing_required_parameter")

    def test_bad_tools_are_named(self):
        def fn(**f):
            return [{"type": "function", "function": f}]
        for tools in (fn(), fn(name="x" * 65), fn(name="x" * 1000000), fn(name="a b"), fn(name="f", parameters=[]),
                      fn(name="f", description=1), [{"type": "retrieval"}], ["f"]):
            self.refused(self.chat(tools=tools), 400, "tools[0]")
        self.refused(self.chat(tools=fn(name="f") * 2000), 400, "tools", words="1024")
        self.refused(self.chat(tools={}), 400, "tools")
        for choice in ("required", {"type": "function", "function": {"name": "f"}}, 5):
            self.refused(self.chat(tools=fn(name="f"), tool_choice=choice), 400, "tool_choice")
        self.refused(self.chat(chat_template_kwargs={"messages": []}), 400, "chat_template_kwargs")

    def test_values_out_of_range_name_field_and_range(self):
        cases = [("n", 10**9, "between 1 and 128"), ("n", 0, ""), ("n", "1", "integer"), ("n", 1.5, "integer"),
                 ("max_tokens", -1, "between 1 and 2147483647"), ("max_tokens", 0, ""), ("max_tokens", 2**63 - 1, ""),
                 ("temperature", -1, "between 0 and 100"), ("temperature", 1e308, ""), ("temperature", "hot", "number"),
                 ("temperature", True, "number"), ("top_p", 0, "top_p"), ("top_p", 1.1, "between 0 and 1"),
                 ("top_k", -5, "between -1"), ("min_p", 2, "between 0 and 1"), ("repetition_penalty", 0, "above 0"),
                 ("repetition_penalty", 1e9, ""), ("presence_penalty", 2.5, "between -2 and 2"),
                 ("frequency_penalty", -3, "between -2 and 2"), ("logprobs", 10**6, "between 0 and 20"),
                 ("logprobs", -1, ""), ("logprobs", True, "integer"), ("stop", "", "empty"), ("stop", [""], "empty"),
                 ("stop", ["x"] * 100000, "at most 64"), ("stop", [5], "an integer"), ("stop", "x" * 2000, "longer"),
                 ("stop", {}, ""), ("seed", "x", "integer"), ("seed", 0.5, "integer"), ("min_tokens", -1, ""),
                 ("stop_token_ids", [-1], None), ("stop_token_ids", [1] * 100, "at most 64"), ("logit_bias", [], ""),
                 ("logit_bias", {str(i): 1 for i in range(10**5)}, "at most 16384"), ("stream", 1, "true or false"),
                 ("stream_options", True, ""), ("ignore_eos", "yes", "true or false"), ("model", "", "1 to 512"),
                 ("model", "x" * 600, ""), ("model", 5, "string"), ("echo", 1, "true or false")]
        for name, value, words in cases:
            e = self.refused(self.complete(**{name: value}), 400, name if words is not None else name + "[0]")
            self.assertIn(words or "", e["message"], (name, value if len(str(value)) < 50 else "..."))
            self.assertEqual(e["type"], "invalid_request_error")
        self.refused(self.complete(logit_bias={"x": 1}), 400, "logit_bias.x")
        self.refused(self.complete(logit_bias={"3000000000": 1}), 400, "logit_bias.3000000000")
        self.refused(self.complete(logit_bias={"1": 101}), 400, "logit_bias.1", words="between -100 and 100")
        self.refused(self.complete(min_tokens=5, max_tokens=4), 400, "min_tokens")
        self.refused(self.complete(echo=True, logprobs=1), 400, "logprobs", "unsupported_parameter")
        self.refused(self.chat(top_logprobs=2), 400, "top_logprobs")
        self.refused(self.chat(logprobs=True, top_logprobs=21), 400, "top_logprobs", words="between 0 and 20")
        self.refused(self.chat(logprobs=3), 400, "logprobs", words="true or false")
        self.refused(self.complete(stream_options={"include_usage": 1}), 400, "stream_options.include_usage")
        self.refused(self.complete(stream_options={"nonsense": True}), 400, "stream_options.nonsense")

    def test_unknown_and_unsupported_are_refused_by_name(self):
        e = self.refused(self.complete(temprature=1), 400, "temprature", "unknown_parameter", "'temperature'")
        self.assertEqual(e["type"], "invalid_request_error")
        self.refused(self.complete(messages=[]), 400, "messages", "unknown_parameter", "/v1/chat/completions")
        self.refused(self.chat(prompt="x"), 400, "prompt", "unknown_parameter", "/v1/completions")
        self.refused(self.complete(zzzzzzzzzzz=1), 400, "zzzzzzzzzzz", "unknown_parameter")
        self.refused(self.complete(**{"x" * 500: 1}), 400, "x" * 63, "unknown_parameter")
        for name, value in {"response_format": {"type": "json_object"}, "audio": {"voice": "x"}, "store": True,
                            "functions": [{}], "reasoning_effort": "low", "chat_template": "{{x}}",
                            "modalities": ["audio"], "guided_json": {}, "mirostat": 2}.items():
            self.refused(self.chat(**{name: value}), 400, name, "unsupported_parameter")
        for name, value in {"best_of": 2, "suffix": "x", "use_beam_search": True, "prompt_logprobs": 1}.items():
            self.refused(self.complete(**{name: value}), 400, name, "unsupported_parameter")

    def test_harmless_ones_are_accepted(self):
        self.assertEqual(self.chat(user="u", metadata={"a": "b"}, store=False, service_tier="auto", audio=None,
                                   parallel_tool_calls=True, modalities=["text"], function_call="none", verbosity=None,
                                   response_format={"type": "text"}, prompt_cache_key="k", logit_bias=None,
                                   functions=None, stop=None, seed=None, tools=[], n=1, skip_special_tokens=True)[0],
                         200)
        self.assertEqual(self.complete(best_of=1, suffix=None, mirostat=0, typical_p=1.0, cache_prompt=True,
                                       logprobs=None, repeat_last_n=-1, use_beam_search=False)[0], 200)


class Json(Api):
    def test_bodies_that_are_not_json(self):
        good = '{"model":"words","prompt":"x"}'
        cases = {"trailing comma": good[:-1] + ",}", "bom": "\ufeff" + good, "two": good + good, "nothing": "",
                 "array": "[]", "string": '"x"', "nan": good[:-1] + ',"temperature":NaN}',
                 "huge": good[:-1] + ',"temperature":1' + "0" * 400 + ".0}",
                 "huge exponent": good[:-1] + ',"temperature":1e400}', "seed": good[:-1] + f',"seed":{2**70}}}',
                 "duplicate": good[:-1] + ',"model":"slow"}', "lone surrogate": good[:-1] + ',"user":"\\ud800"}',
                 "deep": '{"model":' + "[" * 100000, "deep objects": '{"a":' * 1000 + "1" + "}" * 1000,
                 "single quotes": "{'model':'words'}", "comment": good + "//x", "nul": good + "\0"}
        for name, body in cases.items():
            status, _, answer = self.d.post("/v1/completions", body)
            self.assertEqual((status, answer["error"]["code"]), (400, "invalid_json"), name)
            if name not in ("array", "string", "nothing"):
                self.assertRegex(answer["error"]["message"], r"at byte \d+", name)
            if name in ("huge", "huge exponent", "seed"):  # the field and its range
                self.assertRegex(answer["error"]["message"], r"'(temperature|seed)' is an? (number|integer) beyond [-\d.e]+", name)
        status, _, answer = self.d.post("/v1/completions", b'{"model":"words","prompt":"\xff\xfe"}')
        self.assertEqual((status, answer["error"]["code"]), (400, "invalid_json"))
        self.assertEqual(self.d.post("/v1/completions", good[:-1] + ',"temperature":-0}')[0], 200)

    def test_a_body_of_many_values_is_refused_fast(self):
        start = time.monotonic()
        self.refused(self.d.post("/v1/completions", '{"prompt":[' + "0," * 5000000 + "0]}"), 400, None, words="values")
        self.assertLess(time.monotonic() - start, 5 * SLOW)


class RawHttp(Api):
    def status_of(self, out):
        m = re.match(rb"HTTP/1\.[01] (\d{3}) ", out)
        return int(m.group(1)) if m else None

    def check_refused(self, data, statuses, name):
        out = self.raw(data)
        got = self.status_of(out)
        self.assertIn(got, statuses, f"{name}: {out[:200]!r}")
        # One answer in our own form, and the end.
        self.assertEqual(re.findall(rb"HTTP/1\.1 (\d+)", out), [b"%d" % got], f"{name}: {out!r}")
        self.assertIn(b"\r\nConnection: close\r\n", out)
        check(json.loads(out.split(b"\r\n\r\n", 1)[1]), "ErrorResponse")
        self.assertEqual(self.d.get("/health")[0], 200)

    def test_framing_that_could_be_read_two_ways(self):
        def post(headers, body=b"{}"):
            return b"POST /v1/completions HTTP/1.1\r\n" + headers + b"\r\n\r\n" + body
        smuggled = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        host = b"Host: localhost\r\n"
        cases = {
            "no host": (post(b"Content-Length: 2"), {400}),
            "two hosts": (post(host + host + b"Content-Length: 2"), {400}),
            "two lengths": (post(host + b"Content-Length: 2\r\nContent-Length: 2"), {400}),
            "two different lengths": (post(host + b"Content-Length: 2\r\nContent-Length: 40", b"{}" + smuggled), {400}),
            "length and chunked": (post(host + b"Content-Length: 4\r\nTransfer-Encoding: chunked",
                                        b"0\r\n\r\n" + smuggled), {400}),
            "chunked and length": (post(host + b"Transfer-Encoding: chunked\r\nContent-Length: 4",
                                        b"0\r\n\r\n" + smuggled), {400}),
            "xchunked": (post(host + b"Transfer-Encoding: xchunked", b"0\r\n\r\n" + smuggled), {501}),
            "chunked, identity": (post(host + b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n"), {501}),
            "negative length": (post(host + b"Content-Length: -1"), {400}),
            "plus length": (post(host + b"Content-Length: +5"), {400}),
            "hex length": (post(host + b"Content-Length: 0x2"), {400}),
            "huge length": (post(host + b"Content-Length: 99999999999999999999999"), {400}),
            "chunk size 2^64": (post(host + b"Transfer-Encoding: chunked", b"10000000000000000\r\nx"), {400}),
            "chunk size 2^63": (post(host + b"Transfer-Encoding: chunked", b"8000000000000000\r\nx"), {413}),
            "bad chunk size": (post(host + b"Transfer-Encoding: chunked", b"zz\r\nx\r\n0\r\n\r\n"), {400}),
            "bad chunk extension": (post(host + b"Transfer-Encoding: chunked", b"1;\x01\r\nx\r\n0\r\n\r\n"), {400}),
            "space before colon": (post(host + b"Content-Length : 2"), {400}),
            "HTTP/2.0": (b"GET /health HTTP/2.0\r\nHost: localhost\r\n\r\n", {505}),
            "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505}),
            "bare LF": (b"GET /health HTTP/1.1\nHost: localhost\n\n", {400}),
            "bare LF in the head": (b"GET /health HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", {400}),
            "bare CR": (b"GET /health HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n", {400}),
            "NUL": (b"GET /health HTTP/1.1\r\nHost: localhost\0\r\n\r\n", {400}),
            "other host's URL": (b"GET http://evil.com/health HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
            "CONNECT": (b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", {400}),
            "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
            "folded header": (b"GET /health HTTP/1.1\r\nHost: localhost\r\n X: y\r\nConnection: close\r\n\r\n", {400}),
            "no version": (b"GET /health\r\n\r\n", {400}),
            "bad percent": (b"GET /v1/models/%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {400}),
            "percent nul": (b"GET /health%00x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", {400}),
        }
        for name, (data, statuses) in cases.items():
            with self.subTest(name):
                self.check_refused(data, statuses, name)

    def test_header_sizes(self):
        line = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1000000 + b"\r\n\r\n"
        many = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100000 + b"\r\n"
        target = b"GET /" + b"a" * 1000000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for data, statuses in ((line, {431}), (many, {431}), (target, {414})):
            self.check_refused(data, statuses, data[:80])

    def test_large_bodies(self):
        body = b'{"model":"words","prompt":"' + b"a" * (33 << 20) + b'"}'
        self.refused(self.d.post("/v1/completions", body), 413, None, "request_too_large")
        chunks = b"".join(b"100000\r\n" + b"a" * 0x100000 + b"\r\n" for _ in range(34)) + b"0\r\n\r\n"
        out = self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        self.assertEqual(self.status_of(out), 413)
        out = self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Content-Length: 100000000\r\nExpect: 100-continue\r\n\r\n")
        self.assertEqual(self.status_of(out), 413)

    def test_pipelining_and_keep_alive(self):
        one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        self.assertEqual(self.raw(one + one + last).count(b"HTTP/1.1 200"), 3)
        self.assertEqual(self.raw(last + b"garbage\r\n\r\n").count(b"HTTP/1.1 200"), 1)
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", self.raw(one + b"garbage\r\n\r\n" + one)), [b"200", b"400"])

    def test_chunked_body(self):
        body = b'{"model":"words","prompt":"x","max_tokens":1}'
        out = self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: "
                       b"chunked\r\nContent-Type: application/json\r\n\r\n" +
                       b"".join(b"1;ext=1\r\n%c\r\n" % c for c in body) + b"0\r\n\r\n")
        self.assertIn(b'"text":"w0 "', out)

    def test_expect_continue(self):
        body = b'{"model":"words","prompt":"x","max_tokens":1}'
        with socket.create_connection(("127.0.0.1", self.d.port), timeout=10) as s:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"
                      b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertTrue(s.recv(100).startswith(b"HTTP/1.1 100"))
            s.sendall(body)
            out = b"".join(iter(lambda: s.recv(65536), b""))
            self.assertIn(b'"text":"w0 "', out)


class Pages(Api):
    """What a web page of another site could make a browser send."""

    def test_host(self):
        for host in ("evil.com", "localhost.evil.com", "127.0.0.1.evil.com", "192.168.1.10", "localhost@evil.com", "",
                     "[::1", "localhost:80:90", "127.0.0.1:x", "0.0.0.0"):
            status, _, _ = self.d.get("/v1/models", {"Host": host})
            self.assertEqual(status, 403, host)
        for host in ("localhost", "LOCALHOST:1234", "127.0.0.1", f"127.0.0.1:{self.d.port}", "[::1]", "[::1]:80"):
            self.assertEqual(self.d.get("/v1/models", {"Host": host})[0], 200, host)

    def test_origin(self):
        for origin in ("https://evil.com", "null", "http://localhost.evil.com", "file://", "", "localhost",
                       "http://localhost@evil.com", "chrome-extension://abc"):
            status, headers, _ = self.d.get("/v1/models", {"Origin": origin})
            self.assertEqual(status, 403, origin)
            self.assertNotIn("access-control-allow-origin", headers)
        for origin in ("http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"):
            status, headers, _ = self.d.get("/v1/models", {"Origin": origin})
            self.assertEqual((status, headers["access-control-allow-origin"]), (200, origin))
        status, headers, _ = self.d.request("OPTIONS", "/v1/chat/completions", None, {
            "Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-stainless-os"})
        self.assertEqual((status, headers["access-control-allow-headers"]), (204, "content-type,x-stainless-os"))
        self.assertEqual(self.d.request("OPTIONS", "/v1/models", None, {"Origin": "https://evil.com"})[0], 403)

    def test_content_type(self):
        body = {"model": "words", "prompt": "x"}
        form = "application/x-www-form-urlencoded"
        for kind, extra, status in (("application/json", {}, 200), ("application/json; charset=utf-8", {}, 200),
                                    ("APPLICATION/JSON", {}, 200), (form, {}, 200),
                                    (form, {"Origin": "http://localhost"}, 415),
                                    (form, {"Sec-Fetch-Site": "cross-site"}, 403),
                                    (form, {"Sec-Fetch-Site": "same-origin"}, 415), ("text/plain", {}, 415),
                                    ("application/jsonx", {}, 415), ("multipart/form-data; boundary=x", {}, 415)):
            got, _, _ = self.d.post("/v1/completions", body, {"Content-Type": kind, **extra})
            self.assertEqual(got, status, (kind, extra))
        out = self.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 30\r\n\r\n"
                       b'{"model":"words","prompt":"x"}')
        self.assertIn(b"HTTP/1.1 200", out)


class Clients(Api):
    def test_many_at_once(self):
        def one(i):
            if i % 2:
                events = list(self.d.stream("/v1/completions", {"model": "slow", "prompt": "x", "stream": True,
                                                                "max_tokens": 10}))
                return "".join(e.json["choices"][0]["text"] for e in events[:-1] if e.kind == "data")
            return self.complete(model="slow", max_tokens=10)[2]["choices"][0]["text"]
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            answers = list(pool.map(one, range(64)))
        self.assertEqual(set(answers), {"".join(f"w{i} " for i in range(10))})

    def test_leaving_cancels(self):
        wait_until(lambda: self.slow_model()["n_running"] == 0)
        before = self.slow_model()["n_requests"]
        for i, (stream, half) in enumerate(((False, False), (True, False), (True, True))):
            c = self.d.connect()
            c.request("POST", "/v1/completions", json.dumps({"model": "slow", "prompt": "x", "stream": stream}),
                      {"Content-Type": "application/json"})
            self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 1))
            if half:
                c.sock.shutdown(socket.SHUT_WR)
            else:
                c.close()
            start = time.monotonic()
            self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 0))
            self.assertLess(time.monotonic() - start, 5 * SLOW)
            self.assertEqual(self.slow_model()["n_requests"], before + i + 1)
            c.close()

    def test_one_slow_reader_holds_up_nobody(self):
        s = socket.create_connection(("127.0.0.1", self.d.port))
        body = b'{"model":"flood","prompt":"x","stream":true}'
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % len(body) + body)
        for _ in range(20):
            self.assertEqual(self.complete()[2]["choices"][0]["text"], WORDS)
        self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 0))
        s.close()

    def test_a_fast_reader_gets_everything_of_a_flood(self):
        events = list(self.d.stream("/v1/completions", {"model": "flood", "prompt": "x", "stream": True,
                                                        "max_tokens": 40}))
        self.assertEqual(events[-1].data, "[DONE]")
        self.assertEqual(sum(len(e.json["choices"][0]["text"]) for e in events[:-1]), 40 * 65536)

    def test_a_request_after_another_on_one_connection(self):
        c = self.d.connect()
        for i in range(20):
            stream = i % 3 == 0
            c.request("POST", "/v1/completions", json.dumps({"model": "words", "prompt": "x", "stream": stream}),
                      {"Content-Type": "application/json"})
            r = c.getresponse()
            text = r.read()
            self.assertEqual(r.status, 200)
            self.assertIn(b"w4 ", text)
        c.close()


class Life(unittest.TestCase):
    def under_way(self, d):
        """Waits until the runner has a request."""
        self.assertTrue(wait_until(lambda: any(m.get("n_running") for m in d.get("/berth/v1/models")[2]["models"])))

    def test_sigterm_lets_requests_end(self):
        with fake("--drain-timeout", "60") as d:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                f = pool.submit(lambda: list(d.stream("/v1/completions", {"model": "slow", "prompt": "x",
                                                                          "stream": True, "max_tokens": 60})))
                self.under_way(d)
                self.assertEqual(d.stop(timeout=60 * SLOW), 0)
                self.assertEqual(f.result()[-1].data, "[DONE]")

    def test_sigterm_ends_what_takes_longer_than_the_grace(self):
        with fake() as d:
            c = d.connect()
            c.request("POST", "/v1/completions", json.dumps({"model": "silent", "prompt": "x"}),
                      {"Content-Type": "application/json"})
            self.under_way(d)
            start = time.monotonic()
            self.assertEqual(d.stop(), 0)
            self.assertLess(time.monotonic() - start, 5 * SLOW)
            c.close()

    def test_second_signal_stops_at_once(self):
        with fake("--drain-timeout", "600") as d:
            c = d.connect()
            c.request("POST", "/v1/completions", json.dumps({"model": "silent", "prompt": "x"}),
                      {"Content-Type": "application/json"})
            self.under_way(d)
            start = time.monotonic()
            d.process.send_signal(signal.SIGINT)
            self.assertTrue(wait_until(d.is_closed))
            self.assertEqual(d.stop(signal.SIGINT, timeout=60 * SLOW), 0)
            self.assertLess(time.monotonic() - start, 60 * SLOW)
            c.close()

    def test_shutdown_route(self):
        with fake() as d:
            self.assertEqual(d.post("/berth/v1/shutdown", {})[2], {"status": "stopping"})
            self.assertEqual(d.process.wait(30 * SLOW), 0)

    def test_idle_exit(self):
        with fake("--exit-idle", "1") as d:
            start = time.monotonic()
            self.assertEqual(d.process.wait(30 * SLOW), 0)
            self.assertGreater(time.monotonic() - start, 0.7)

    def test_port_in_use_and_remote_hosts_are_refused(self):
        with fake() as d:
            other = fake()
            other.port = d.port
            with self.assertRaisesRegex(RuntimeError, "error=port .* is in use"):
                other.start()
        for host, words in (("0.0.0.0", "refusing to listen"), ("192.0.2.1", "refusing"), ("nowhere.invalid", "refusing")):
            with self.assertRaisesRegex(RuntimeError, words):
                fake("--host", host).start()


if __name__ == "__main__":
    unittest.main()
