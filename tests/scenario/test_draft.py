#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A draft model as users declare it: by option, by `berth configure`, by Docker Model Runner's route.  Answers stay the same, what
guesses and how well is told, and what cannot guess is refused in a sentence."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import BERTH, MODELS, SLOW, Daemon, wait_until  # noqa: E402

STORIES = os.path.join(MODELS, "stories.gguf")
ASKED = ({"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0},
         {"prompt": "Lily had a dog. One day", "max_tokens": 60, "temperature": 0.9, "seed": 7, "logprobs": 2, "n": 2})


def answers(daemon):
    """Of every request all that shows which tokens came, and how likely they were."""
    out = []
    for body in ASKED:
        status, _, answer = daemon.post("/v1/completions", {"model": "stories", **body})
        assert status == 200, answer
        out.append([(c["text"], c["finish_reason"], c["logprobs"]) for c in answer["choices"]])
    return out


def model(daemon):
    return daemon.get("/berth/v1/models/stories")[2]


def berth(daemon, *args):
    env = dict(daemon.env, BERTH_URL=f"http://127.0.0.1:{daemon.port}", BERTH_AUTOSTART="no")
    return subprocess.run([BERTH, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW)


class Draft(unittest.TestCase):
    def drafts(self, daemon, name):
        """The model is loaded, and name guesses for it."""
        self.assertTrue(wait_until(lambda: model(daemon).get("n_drafted", 0) > 0))
        m = model(daemon)
        self.assertEqual(m["draft_model"], name)
        self.assertTrue(0 < m["draft_weight_bytes"] < m["weight_bytes"])
        self.assertTrue(0 < m["n_accepted"] <= m["n_drafted"], m)

    def test_answers_are_the_same_however_it_is_declared(self):
        with Daemon() as d:
            plain = answers(d)
            alone = model(d)
            self.assertNotIn("draft_model", alone)
            p = berth(d, "configure", "stories", "--speculative-draft-model", "stories-chat", "--speculative-num-tokens", "3")
            self.assertEqual(p.returncode, 0, p.stdout)
            self.assertEqual(answers(d), plain)
            self.drafts(d, "stories-chat")
            m = model(d)
            self.assertEqual(m["settings"], {"speculative-draft-model": "stories-chat", "speculative-num-tokens": 3})
            self.assertGreater(m["weight_bytes"], alone["weight_bytes"])
            self.assertGreater(m["kv_bytes"], alone["kv_bytes"])
            self.assertIn("draft model    stories-chat", berth(d, "inspect", "stories").stdout)
            metrics = d.request("GET", "/metrics")[2].decode()
            self.assertTrue(float(re.search(r'^berth_draft_tokens_total\{model="stories"\} (\S+)', metrics, re.M)[1]) > 0)
            p = berth(d, "configure", "stories", "--speculative-draft-model", os.path.relpath(STORIES))
            self.assertEqual(p.returncode, 0, p.stdout)
            self.assertEqual(answers(d), plain)
            self.drafts(d, STORIES)
            self.assertGreater(model(d)["n_accepted"], 0.9 * model(d)["n_drafted"])  # the same model
            body = {"model": "stories", "speculative": {"draft_model": "stories-chat", "num_tokens": 5, "min_acceptance_rate": 0.05}}
            self.assertEqual(d.post("/engines/_configure", body)[0], 202)
            self.assertEqual(answers(d), plain)
            self.drafts(d, "stories-chat")
            d.post("/berth/v1/configure", {"model": "stories", "settings": {"speculative-num-tokens": 0}})
            self.assertEqual(answers(d), plain)
            self.assertNotIn("draft_model", model(d))
        with Daemon(args=["--speculative-draft-model", os.path.relpath(STORIES)]) as d:
            answers(d)  # not by itself
            self.assertNotIn("draft_model", model(d))
        with Daemon(args=["--model-draft=stories-chat", "--draft-max=2"]) as d:
            self.assertEqual(answers(d), plain)
            self.drafts(d, "stories-chat")

    def test_what_cannot_guess_is_refused(self):
        with tempfile.TemporaryDirectory() as folder, Daemon() as d:
            tiny_gguf.write(os.path.join(folder, "tiny.gguf"))
            p = berth(d, "configure", "stories", "--speculative-draft-model", "storys-chat")
            self.assertEqual(p.returncode, 1)
            self.assertIn("stories-chat", p.stdout)  # did you mean
            p = berth(d, "configure", "stories", "--speculative-draft-model", os.path.join(folder, "none.gguf"))
            self.assertNotEqual(p.returncode, 0)
            p = berth(d, "configure", "stories", "--speculative-draft-model", os.path.join(folder, "tiny.gguf"))
            self.assertEqual(p.returncode, 0, p.stdout)
            p = subprocess.run([BERTH, "serve", "--port", "0", "--speculative-draft-model", "./none.gguf"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, timeout=60 * SLOW, env=d.env)
            self.assertEqual(p.returncode, 2)
            self.assertIn("--speculative-draft-model: opening the model file ./none.gguf", p.stdout)
            status, _, answer = d.post("/v1/completions", {"model": "stories", "prompt": "Once", "max_tokens": 4})
            self.assertGreaterEqual(status, 400)
            self.assertRegex(answer["error"]["message"], "the draft model has 288 tokens and the model 512.*choose a smaller model")
            tiny_gguf.write(os.path.join(folder, "one.gguf"), seed=1)
            tiny_gguf.write(os.path.join(folder, "two.gguf"), seed=2)
            with Daemon(models_dir=folder, args=["--max-memory", "64M"]) as small:
                one = {"model": "one", "prompt": "abc", "max_tokens": 4}
                small.post("/berth/v1/configure", {"model": "one", "settings": {"kv-cache-memory": 1 << 20, "max-num-seqs": 1}})
                self.assertEqual(small.post("/v1/completions", one)[0], 200)
                berth(small, "configure", "one", "--speculative-draft-model", "two")
                os.unlink(os.path.join(folder, "two.gguf"))
                status, _, answer = small.post("/v1/completions", one)
                self.assertGreaterEqual(status, 400)
                self.assertIn("the draft model two of one", answer["error"]["message"])
                tiny_gguf.write(os.path.join(folder, "two.gguf"), seed=2, pad_bytes=64 << 20)
                status, _, answer = small.post("/v1/completions", one)
                self.assertGreaterEqual(status, 400)
                self.assertIn("model one with its draft model takes", answer["error"]["message"])

    def test_the_daemons_own_is_left_away_where_it_cannot_guess(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("stories", "stories-chat"):
                os.symlink(os.path.join(MODELS, name + ".gguf"), os.path.join(folder, name + ".gguf"))
            tiny_gguf.write(os.path.join(folder, "tiny.gguf"))
            with Daemon(models_dir=folder, args=["--speculative-draft-model", "stories-chat"]) as d:
                tiny = {"model": "tiny", "prompt": "abc", "max_tokens": 4}
                status, _, answer = d.post("/v1/completions", tiny)
                self.assertEqual(status, 200, answer)
                m = d.get("/berth/v1/models/tiny")[2]
                self.assertNotIn("draft_model", m)
                self.assertIn("stories-chat: the draft model has 512 tokens and the model 288", m["draft_refusal"])
                d.post("/v1/completions", tiny)
                self.assertEqual(len(re.findall("tiny is loaded without the draft model that is set for all", d.output())), 1)
                for command in (("ps",), ("inspect", "tiny")):
                    self.assertIn("stories-chat: the draft model has 512 tokens", berth(d, *command).stdout)
                answers(d)
                self.drafts(d, "stories-chat")
                self.assertNotIn("draft_refusal", model(d))
                # declared of this very model, it is a mistake
                p = berth(d, "configure", "tiny", "--speculative-draft-model", "stories-chat")
                self.assertEqual(p.returncode, 0, p.stdout)
                status, _, answer = d.post("/v1/completions", tiny)
                self.assertGreaterEqual(status, 400)
                self.assertIn("the draft model has 512 tokens and the model 288", answer["error"]["message"])

    def test_one_of_the_store_is_in_use_as_long_as_it_guesses(self):
        with Daemon() as d:
            plain = answers(d)
            p = berth(d, "package", "--gguf", os.path.join(MODELS, "stories-chat.gguf"), "local/draft:v1")
            self.assertEqual(p.returncode, 0, p.stdout)
            p = berth(d, "configure", "stories", "--speculative-draft-model", "local/draft:v1")
            self.assertEqual(p.returncode, 0, p.stdout)
            self.assertEqual(answers(d), plain)
            self.drafts(d, "local/draft:v1")
            worker = model(d)["pid"]
            os.kill(worker, signal.SIGSTOP)  # what it is asked now is not answered before it is removed
            c = d.connect()
            try:
                c.request("POST", "/v1/completions", '{"model": "stories", "prompt": "Once", "max_tokens": 4}',
                          {"Content-Type": "application/json"})
                self.assertTrue(wait_until(lambda: model(d)["n_running"] + model(d)["n_waiting"] == 1))
                status, _, body = d.request("DELETE", "/models/local/draft:v1")
                self.assertEqual(status, 409, body)
            finally:
                os.kill(worker, signal.SIGCONT)
            self.assertEqual(c.getresponse().status, 200)
            c.close()
            self.assertEqual(d.request("DELETE", "/models/local/draft:v1")[0], 200)
            self.assertNotEqual(model(d)["state"], "ready")  # it has ended with what guessed for it
            status, _, body = d.post("/v1/completions", {"model": "stories", "prompt": "Once", "max_tokens": 4})
            self.assertGreaterEqual(status, 400)
            self.assertIn("the draft model local/draft:v1 of stories", body["error"]["message"])
            berth(d, "configure", "stories", "--unset", "speculative-draft-model")
            self.assertEqual(answers(d), plain)


if __name__ == "__main__":
    unittest.main()
