# SPDX-License-Identifier: Apache-2.0
"""A test case with a daemon of its own and models that answer thousands of tokens a second, for tests that break things."""
import os
import re
import tempfile
import unittest

import tiny_gguf
from berth_test import SLOW, Daemon, Refused, frozen, wait_until

# Half a million tokens: minutes of the slow model's time, seconds of the tiny one's.
LONG = {"ignore_eos": True, "max_tokens": 4000, "n": 128}
# pad_bytes of a model that makes a few thousand tokens a second, of all answers together: fewer than Python reads even
# where the machine is busy, and so few that an answer of thousands is under way for seconds.
PAD_SLOW = (32 if SLOW == 1 else 8) << 20


class Faults(unittest.TestCase):
    """A daemon with the tiny model under the names that a test asks for."""
    args = ()
    models = ("tiny", "other")

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="berth-faults-")
        self.addCleanup(self.folder.cleanup)
        for i, name in enumerate(self.models):
            tiny_gguf.write(os.path.join(self.folder.name, name + ".gguf"), seed=i + 1)
        self.d = None

    def slow(self, name="slow"):
        """A model whose long answers are under way long, and whose streams a test can read as fast as they come."""
        tiny_gguf.write(os.path.join(self.folder.name, name + ".gguf"), pad_bytes=PAD_SLOW)
        return name

    def start(self, *args, env=None):
        """The daemon, which must stop with 0 in the end."""
        self.d = Daemon(models_dir=self.folder.name, args=["--threads", "1", *self.args, *args], env=env, timeout=120 * SLOW)
        self.d.start()
        self.addCleanup(self.over)
        return self.d

    def over(self):
        if self.d.process is not None:
            rc = self.d.stop()
            self.assertEqual(rc, 0, self.d.output())

    def body(self, model="tiny", **more):
        return {"model": model, "prompt": "hello", "seed": 1, "max_tokens": 4, **more}

    def ask(self, model="tiny", **more):
        """(status, headers, answer)"""
        return self.d.post("/v1/completions", self.body(model, **more))

    def text(self, model="tiny", **more):
        status, _, answer = self.ask(model, **more)
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["text"]

    def events(self, model="tiny", **more):
        return list(self.d.stream("/v1/completions", self.body(model, stream=True, **more)))

    def ended(self, future):
        """A stream's events; those of one that had not begun: none, and its refusal's error."""
        try:
            return future.result(), None
        except Refused as e:
            return [], e.error

    def failed(self, future, code):
        """A stream that ended in an error, and in nothing that looks like an end."""
        events, error = self.ended(future)
        self.assertEqual((error or events[-1].json["error"])["code"], code)
        self.assertNotIn("[DONE]", [e.data for e in events])
        for e in events[:-1]:
            if e.kind == "data":
                self.assertEqual([c["finish_reason"] for c in e.json["choices"]], [None] * len(e.json["choices"]))

    def info(self, model="tiny"):
        return next(m for m in self.d.get("/berth/v1/models")[2]["models"] if m["name"] == model)

    def frozen(self, model="tiny"):
        """Loads the model; its worker stands still in a `with` of this."""
        self.text(model)
        return frozen(self.info(model)["pid"])

    def running(self, n, model="tiny"):
        """Waits until the daemon has n requests: of a worker that is frozen, or of answers that are LONG."""
        got = wait_until(lambda: self.info(model).get("n_running", 0) + self.info(model).get("n_waiting", 0) >= n)
        self.assertTrue(got, self.info(model))

    def idle(self, model="tiny"):
        self.assertTrue(wait_until(lambda: (lambda m: not m.get("n_running") and not m.get("n_waiting") and
                                            not m.get("blocks_used"))(self.info(model))), self.info(model))

    def metric(self, name):
        """The sum over all labels."""
        text = self.d.get("/metrics")[2]
        return sum(float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.M))
