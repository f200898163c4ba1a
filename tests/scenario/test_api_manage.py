#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Management and Docker Model Runner's service routes over a runner that plays known models: settings of a model, engine
flags, loads that tell how far they are, tokenizing."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from api_case import Api  # noqa: E402
from berth_test import wait_until  # noqa: E402
from openapi_check import check  # noqa: E402


class Settings(Api):
    def declare(self, **settings):
        status, _, body = self.d.post("/berth/v1/configure", {"model": "echo", "settings": settings, "replace": True})
        self.assertEqual(status, 200, body)
        return body["settings"]

    def echo(self, **body):
        return json.loads(self.complete(model="echo", **body)[2]["choices"][0]["text"])

    def tearDown(self):
        self.declare()

    def test_defaults_of_requests(self):
        self.declare(temperature=0.25, **{"top-k": 7, "max-tokens": 11, "seed": 5, "min-p": 0.125})
        e = self.echo()
        self.assertEqual([e[k] for k in ("temperature", "top_k", "max_tokens", "seed", "min_p", "top_p")],
                         [0.25, 7, 11, 5, 0.125, 1])
        e = self.echo(temperature=2, top_k=0, max_tokens=3, seed=6)
        self.assertEqual([e[k] for k in ("temperature", "top_k", "max_tokens", "seed")], [2, 0, 3, 6])
        self.assertEqual(self.echo(temperature=None)["temperature"], 0.25)

    def test_shown(self):
        self.assertEqual(self.declare(temperature=0.5, **{"keep-alive": "5m"}), {"temperature": 0.5, "keep-alive": 300})
        _, _, one = self.d.get("/berth/v1/configure?model=echo")
        self.assertEqual(one, {"model": "echo", "settings": {"temperature": 0.5, "keep-alive": 300}})
        _, _, every = self.d.get("/berth/v1/configure")
        self.assertIn(one, every["models"])
        _, _, m = self.d.get("/berth/v1/models/echo")
        self.assertEqual((m["settings"]["temperature"], m["request_defaults"]["temperature"],
                          m["request_defaults"]["top_p"], m["request_defaults"]["max_tokens"]), (0.5, 0.5, 1.0, None))
        self.refused(self.d.get("/berth/v1/configure?model=nobody"), 404, "model", "model_not_found")
        self.refused(self.d.get("/berth/v1/models/nobody"), 404, "model", "model_not_found")
        self.assertEqual(self.d.get("/berth/v1/models/ns%2Fwords")[2]["name"], "ns/words")

    def test_merged_or_replaced(self):
        self.declare(temperature=0.5)
        self.d.post("/berth/v1/configure", {"model": "echo", "top-p": 0.5})
        self.assertEqual(self.d.get("/berth/v1/configure?model=echo")[2]["settings"],
                         {"temperature": 0.5, "top-p": 0.5})
        self.d.post("/berth/v1/configure", {"model": "echo", "settings": {"temperature": None}})
        self.assertEqual(self.d.get("/berth/v1/configure?model=echo")[2]["settings"], {"top-p": 0.5})

    def test_refused_by_name(self):
        for key, value in (("temperature", -1), ("temprature", 1), ("context-size", "big"), ("keep-alive", "soon"),
                           ("pinned", 1), ("chat-template", 5)):
            self.refused(self.d.post("/berth/v1/configure", {"model": "echo", "settings": {key: value}}), 400, key)
            self.assertEqual(self.d.get("/berth/v1/configure?model=echo")[2]["settings"], {})
        self.refused(self.d.post("/berth/v1/configure", {"model": "echo", "settings": 5}), 400, "settings")
        self.refused(self.d.post("/berth/v1/configure", {"settings": {}}), 400, "model")
        self.refused(self.d.post("/berth/v1/configure", {"model": "nobody", "settings": {}}), 404, "model")


class Loads(Api):
    def test_a_load_tells_how_far_it_is(self):
        events = list(self.d.stream("/berth/v1/load", {"model": "slow", "stream": True}))
        self.assertEqual(events[0].json, {"what": "reading", "done": 1, "total": 2})
        self.assertEqual((events[-1].json["name"], events[-1].json["state"]), ("slow", "ready"))

    def test_a_load_that_fails_says_so_in_the_stream(self):
        events = list(self.d.stream("/berth/v1/load", {"model": "thinking", "stream": True}, comments=True))
        self.assertEqual((events[0].kind, events[-1].json["name"]), ("comment", "thinking"))
        self.refused(self.d.post("/berth/v1/load", {"model": "fail-4", "stream": True}), 503, None)

    def test_options(self):
        self.assertEqual(self.d.post("/berth/v1/load", {"model": "slow", "keep_alive": "5m"})[0], 200)
        self.assertTrue(self.d.post("/berth/v1/load", {"model": "words", "pinned": True})[2]["settings"]["pinned"])
        self.assertEqual(self.d.post("/berth/v1/load", {"model": "words", "pinned": False})[2]["settings"], {})
        self.refused(self.d.post("/berth/v1/load", {"model": "slow", "keep_alive": "soon"}), 400, "keep_alive")
        self.refused(self.d.post("/berth/v1/load", {"model": "slow", "stream": "yes"}), 400, "stream")


class DockerModelRunner(Api):
    def configure(self, path="/engines/_configure", **body):
        return self.d.post(path, {"model": "words", **body})

    def declared(self, model="words"):
        for prefix in ("/engines", "/engines/llama.cpp"):
            _, _, body = self.d.get(f"{prefix}/_configure?model={model}")
        return body

    def test_status_and_df(self):
        for prefix in ("/engines", "/engines/llama.cpp"):
            _, _, body = self.d.get(prefix + "/status")
            self.assertRegex(body["llama.cpp"], r"^Running: berth \d")
            _, _, body = self.d.get(prefix + "/df")
            self.assertEqual(body["models_disk_usage"] % 1000, 0)
            self.assertGreater(body["default_backend_disk_usage"], 10000)
            self.assertEqual(self.d.get(prefix + "/ps")[0], 200)

    def test_configure_by_flags(self):
        status, _, body = self.configure(**{
            "context-size": 4096, "keep_alive": "10m", "mode": "completion",
            "runtime-flags": ["--temp", "0.5", "--top-k=7", "-np", "4", "--jinja", "-ctk", "f16", "-ctv", "f16",
                              "--n-gpu-layers", "0", "--presence-penalty=-1"]})
        self.assertEqual((status, body), (202, ""))
        self.assertEqual(self.declared(), [{
            "Backend": "llama.cpp", "Model": "words", "ModelID": "", "Mode": "completion",
            "Config": {"context-size": 4096, "max-num-seqs": 4, "kv-cache-type": "f16", "keep-alive": 600,
                       "temperature": 0.5, "top-k": 7, "presence-penalty": -1.0}}])
        # It replaces everything: a second one leaves nothing of the first.
        self.assertEqual(self.configure("/engines/llama.cpp/_configure",
                                        **{"raw-runtime-flags": "--seed '5' --top-p  0.5"})[0], 202)
        self.assertEqual(self.declared()[0]["Config"], {"seed": 5, "top-p": 0.5})
        for flags, wanted in ((["-nr", "--seed", "5"], True), (["--repack"], False), (["--no-repack", "-nr"], True)):
            self.assertEqual(self.configure(**{"runtime-flags": flags})[0], 202)
            self.assertIs(self.declared()[0]["Config"]["no-prepare"], wanted)
        # As people write Compose's runtime_flags: a flag and its value in one item.
        self.assertEqual(self.configure(**{"runtime-flags": ["--max-num-seqs 25", "--speculative-config {\"method\": \"ngram\"}"]})[0], 202)
        self.assertEqual(self.declared()[0]["Config"], {"max-num-seqs": 25})
        self.assertEqual(self.configure()[0], 202)
        self.assertEqual(self.declared(), [])

    def test_flags_that_could_do_harm(self):
        cases = {"--log-file=/etc/x": "log-file", "--log-file": "log-file", "--host": "--host", ";rm": ";rm",
                 "A=B": "A=B", "--model": "--model", "--lora": "--lora", "-m": "-m", "": "''", "x\ny": "x?y",
                 "--trust-remote-code": "trust", "--api-key=abc": "api-key", "$(reboot)": "reboot"}
        for flag, words in cases.items():
            self.refused(self.configure(**{"runtime-flags": [flag]}), 400, None, "unsupported", words)
        for flags in (["--seed=--log-file"], ["--seed", "--log-file"], ["--temp=/etc/passwd"], ["--top-k", "5;rm"],
                      ["--temp", "nan"], ["--temp", "inf"], ["--ctx-size", "1.5"], ["--ctx-size"], ["--seed", "9" * 400],
                      ["-ctk", "../../f16"], ["--jinja=1"], ["--no-repack=1"], ["--no-repack", "1"], ["--repack", "-nr"], ["--ctx-size", "1", "--ctx-size", "2"],
                      ["--ctx-size", "-5"], ["--jinja"] * 10000):
            self.refused(self.configure(**{"runtime-flags": flags}), 400, None)
        self.refused(self.configure(**{"runtime-flags": ["--n-gpu-layers", "99"]}), 400, None, words="processor")
        self.refused(self.configure(**{"runtime-flags": ["--gpu-memory-utilization 0.9"]}), 400, None, words="leave it out")
        for flag in ("--seed 1 --top-k 5", "--seed ", "--seed /x", "--jinja ", "--log-file x", " --seed 5"):
            self.refused(self.configure(**{"runtime-flags": [flag]}), 400, None, words="--")
        self.refused(self.configure(**{"runtime-flags": [5]}), 400, None)
        self.refused(self.configure(**{"runtime-flags": "--jinja"}), 400, None)
        self.refused(self.configure(**{"raw-runtime-flags": "--temp '0.5"}), 400, None, words="quote")
        self.refused(self.configure(**{"raw-runtime-flags": "--log-file /x; reboot"}), 400, None, "unsupported")
        self.refused(self.configure(mode="embedding"), 400, None, "unsupported")
        self.refused(self.configure(speculative={"draft_model": 5}), 400, None, words="speculative-draft-model")
        for flags in (["-md", "/etc/passwd"], ["-md", "../x"], ["-md", "a b"], ["--model-draft", "~/x"], ["-md"],
                      ["--speculative-config", "5"], ["--speculative-config", "{"], ["--speculative-config", "{}"],
                      ["--speculative-config", '{"model": "/etc/passwd", "num_speculative_tokens": 3}'],
                      ["--speculative-config", '{"method": "ngram", "model": "x"}'],
                      ["--speculative-config", '{"method": "eagle", "model": "x"}'],
                      ["--speculative-config", '{"model": "x", "quantization": "fp8"}']):
            self.refused(self.configure(**{"runtime-flags": flags}), 400, None)
        self.refused(self.configure(vllm={"gpu-memory-utilization": 0.5}), 400, None, "unsupported", "'gpu-memory-utilization' of 'vllm'")
        self.refused(self.configure(llamacpp=5), 400, None, words="must be an object")
        self.refused(self.configure(stuff=1), 400, "stuff")
        self.assertEqual(self.configure(speculative={"num_tokens": 4, "min_acceptance_rate": 0.25})[0], 202)
        self.refused(self.configure(speculative={"num_tokens": 99}), 400, None, words="speculative-num-tokens")
        for body, wanted in (
                ({"speculative": {"draft_model": "ai/d", "num_tokens": 3, "min_acceptance_rate": 0.5}},
                 {"speculative-draft-model": "ai/d", "speculative-num-tokens": 3, "speculative-min-acceptance-rate": 0.5}),
                ({"runtime-flags": ["-md", "ai/d:1b", "--spec-draft-n-max", "5"]},
                 {"speculative-draft-model": "ai/d:1b", "speculative-num-tokens": 5}),
                ({"raw-runtime-flags": "--speculative_config '{\"model\": \"hf.co/a/d\", \"num_speculative_tokens\": 2}'"},
                 {"speculative-draft-model": "hf.co/a/d", "speculative-num-tokens": 2}),
                ({"runtime-flags": ['--speculative-config={"method": "ngram", "num_speculative_tokens": 6}']},
                 {"speculative-num-tokens": 6})):
            self.assertEqual(self.configure(**body)[0], 202)
            self.assertEqual(self.declared()[0]["Config"], wanted)
        self.assertEqual(self.configure(vllm={}, llamacpp=None, speculative=None)[0], 202)
        self.assertEqual(self.declared(), [])

    def test_a_busy_model_is_not_taken_away(self):
        c = self.d.connect()
        c.request("POST", "/v1/completions", json.dumps({"model": "slow", "prompt": "x", "stream": True}),
                  {"Content-Type": "application/json"})
        self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 1))
        self.refused(self.configure(model="slow"), 409, None, "runner_active")
        ps = self.d.get("/engines/ps")[2]
        self.assertEqual((ps[0]["in_use"], ps[0]["last_used"]), (True, "0001-01-01T00:00:00Z"))
        self.assertEqual(self.d.post("/engines/unload", {"models": ["slow"]})[2], {"unloaded_runners": 0})
        c.close()
        self.assertTrue(wait_until(lambda: self.slow_model()["n_running"] == 0))
        self.assertEqual(self.d.post("/engines/llama.cpp/unload", {"all": True, "backend": "vllm"})[2],
                         {"unloaded_runners": 0})
        self.refused(self.d.post("/engines/unload", {"models": ["nobody"]}), 404, "model")


class Tokens(Api):
    def ask(self, body, path="/tokenize"):
        status, _, answer = self.d.post(path, {"model": "words", **body})
        self.assertEqual(status, 200, answer)
        return answer

    def test_both_dialects_under_every_prefix(self):
        for prefix in ("", "/v1", "/engines", "/engines/v1", "/engines/llama.cpp", "/engines/llama.cpp/v1"):
            path = prefix + "/tokenize"
            self.assertEqual(self.ask({"content": "ab"}, path)["tokens"], [97, 98])
            self.assertEqual(self.ask({"prompt": "ab"}, path), {"count": 3, "max_model_len": 128,
                                                                "tokens": [256, 97, 98]})
            self.assertEqual(self.ask({"tokens": [97, 98]}, prefix + "/detokenize"), {"content": "ab", "prompt": "ab"})

    def test_special_tokens(self):
        self.assertEqual(self.ask({"content": "ab", "add_special": True})["tokens"], [256, 97, 98])
        self.assertEqual(self.ask({"prompt": "ab", "add_special_tokens": False})["tokens"], [97, 98])
        self.assertEqual(self.ask({"content": "<end>"})["tokens"], [257])
        self.assertEqual(len(self.ask({"content": "<end>", "parse_special": False})["tokens"]), 5)
        self.assertEqual(self.ask({"content": ""})["tokens"], [])

    def test_the_one_loaded_model_is_meant(self):
        self.assertEqual(self.d.post("/tokenize", {"content": "a"})[2]["tokens"], [97])

    def test_refusals(self):
        def bad(body, param, code, path="/tokenize", status=400):
            self.refused(self.d.post(path, {"model": "words", **body}), status, param, code)
        bad({}, "content", "missing_required_parameter")
        bad({"content": 5}, "content", "invalid_type")
        bad({"content": "a", "prompt": "b"}, "content", "invalid_value")
        bad({"content": "a", "add_special": 1}, "add_special", "invalid_type")
        bad({"content": "a", "with_pieces": True}, "with_pieces", "unsupported_parameter")
        bad({"messages": [{"role": "user", "content": "x"}]}, "messages", "unsupported_parameter")
        bad({"content": "a", "stuff": 1}, "stuff", "unknown_parameter")
        bad({"content": "a", "model": "nobody"}, "model", "model_not_found", status=404)
        bad({"content": "a", "model": 5}, "model", "invalid_type")
        bad({"tokens": None}, "tokens", "missing_required_parameter", "/detokenize")
        bad({"tokens": "x"}, "tokens", "invalid_type", "/detokenize")
        bad({"tokens": [1, -1]}, "tokens[1]", "invalid_value", "/detokenize")
        self.refused(self.d.post("/detokenize", {"model": "words", "tokens": [97, 9999]}), 400, "tokens", "invalid_value",
                     "tokens[1] is token 9999")
        self.assertEqual(self.ask({"content": "a", "with_pieces": False})["tokens"], [97])
        self.assertEqual(self.ask({"tokens": []}, "/detokenize")["content"], "")


class Models(Api):
    def test_fields_beyond_openai(self):
        for m in self.d.get("/v1/models")[2]["data"]:
            check(m, "Model")
            self.assertIn(m["state"], ("idle", "loading", "ready", "failed", "broken"))
        _, _, m = self.d.get("/v1/models/slow")
        self.assertRegex(m["digest"], r"^sha256:[0-9a-f]{64}$")
        self.assertEqual((m["state"], m["max_model_len"], m["architecture"], m["quantization"]),
                         ("ready", 128, "fake", "F32"))
        self.refused(self.d.get("/v1/models/wrods"), 404, "model", "model_not_found", "did you mean words?")
        self.assertEqual(self.d.get("/v1/models/words.gguf")[2]["id"], "words")

    def test_both_methods_of_one_path(self):
        _, headers, _ = self.d.request("DELETE", "/berth/v1/configure")
        self.assertEqual(sorted(headers["allow"].split(", ")), ["GET", "HEAD", "POST"])


if __name__ == "__main__":
    unittest.main()
