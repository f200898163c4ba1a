#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which models may be loaded and stay: the sum that is made before a load, what makes room for what, what leaves by itself,
and what is not tried any more because it crashes again and again."""
import concurrent.futures
import json
import os
import re
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import SLOW, wait_until  # noqa: E402
from fault_case import LONG, Faults  # noqa: E402


class Room(Faults):
    models = ("a", "b", "c")

    def state(self):
        return {m["name"]: m["state"] for m in self.d.get("/berth/v1/models")[2]["models"]}

    def loaded(self):
        return sorted(name for name, state in self.state().items() if state == "ready")

    def test_a_model_that_does_not_fit_is_refused_with_the_sum(self):
        tiny_gguf.write(os.path.join(self.folder.name, "big.gguf"), pad_bytes=48 << 20)
        self.start("--max-memory", "48M")
        for _ in range(2):
            status, headers, answer = self.ask("big")
            self.assertEqual((status, answer["error"]["code"]), (503, "insufficient_memory"))
            self.assertEqual(headers.get("x-should-retry"), "false")
            message = answer["error"]["message"]
            self.assertGreaterEqual(len(re.findall(r"\d+(?:\.\d+)? [MG]iB", message)), 3, message)
            self.assertRegex(message, "max-memory")
            self.text("a")
        # A cache for far more context than there is memory, declared by settings.
        self.assertEqual(self.d.post("/berth/v1/configure", {"model": "b", "settings": {
            "context-size": 200000, "max-num-seqs": 4}})[0], 200)
        status, _, answer = self.ask("b")
        self.assertEqual((status, answer["error"]["code"]), (503, "insufficient_memory"), answer)
        self.assertRegex(answer["error"]["message"], "max-model-len|context-size")
        self.assertRegex(answer["error"]["message"], "max-num-seqs")
        self.d.post("/berth/v1/configure", {"model": "b", "settings": {"context-size": None, "max-num-seqs": None}})
        self.text("b")
        self.assertEqual(self.d.get("/readyz")[0], 200)

    def test_the_least_recently_used_makes_room_and_pinned_ones_never(self):
        self.start("--max-loaded", "2")
        for name in ("a", "b", "a", "c"):
            self.text(name)
        self.assertEqual(self.loaded(), ["a", "c"])
        self.d.post("/berth/v1/configure", {"model": "a", "settings": {"pinned": True}})
        self.text("b")
        self.assertEqual(self.loaded(), ["a", "b"])
        self.d.post("/berth/v1/configure", {"model": "b", "settings": {"pinned": True}})
        status, _, answer = self.ask("c")
        self.assertEqual(status, 503, answer)
        self.assertRegex(answer["error"]["message"], "pinned")
        self.assertEqual(self.loaded(), ["a", "b"])
        self.d.post("/berth/v1/configure", {"model": "b", "settings": {"pinned": False}})
        self.text("c")
        self.assertEqual(self.loaded(), ["a", "c"])

    def test_a_busy_model_is_never_ended_for_another(self):
        self.start("--max-loaded", "1")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            with self.frozen("a"):
                f = pool.submit(self.events, "a", ignore_eos=True, max_tokens=400)
                self.running(1, "a")
                g = pool.submit(self.ask, "b")
                self.assertTrue(wait_until(lambda: g.done() or self.info("b").get("n_waiting")))
            status, _, answer = g.result()
            self.assertIn(status, (200, 503), answer)  # it waits for the other's end, or is told why it cannot
            self.assertEqual(f.result()[-1].data, "[DONE]")
        self.text("b")

    def test_idle_models_leave(self):
        self.start("--keep-alive", "1")
        self.text("a")
        self.text("b", keep_alive=-1)
        self.assertEqual(self.state()["a"], "ready")
        self.assertTrue(wait_until(lambda: self.state()["a"] == "idle"), self.state())
        self.assertEqual(self.state()["b"], "ready")
        self.text("b", keep_alive=0)
        self.assertTrue(wait_until(lambda: self.state()["b"] == "idle"), self.state())
        self.text("a")


class Breaker(Faults):
    def test_a_crash_loop_breaks_the_model_for_a_while(self):
        """503 at once with a time to come again; /readyz says so when the model is pinned; the others go on."""
        self.slow("tiny")
        self.start()
        self.assertEqual(self.d.post("/berth/v1/configure", {"model": "tiny", "settings": {"pinned": True}})[0], 200)
        self.text("other")
        self.assertEqual(self.d.get("/readyz")[0], 200)
        end = time.monotonic() + 60 * SLOW
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            while self.info()["state"] != "broken":
                self.assertLess(time.monotonic(), end, self.info())
                f = pool.submit(self.ask, **LONG)
                while not f.done() and self.info()["state"] != "broken":
                    m = self.info()
                    if m.get("pid") and m.get("n_running"):
                        try:
                            os.kill(m["pid"], signal.SIGKILL)
                        except ProcessLookupError:
                            pass
                    time.sleep(0.01)
                self.assertIn(f.result()[0], (500, 503))
        start = time.monotonic()
        status, headers, answer = self.ask()
        self.assertEqual((status, answer["error"]["code"]), (503, "model_broken"))
        self.assertGreater(int(headers["retry-after"]), 0)
        self.assertLess(time.monotonic() - start, 5 * SLOW)
        status, _, answer = self.d.get("/readyz")
        self.assertEqual(status, 503)
        self.assertIn("tiny", json.dumps(answer))
        self.assertEqual(self.d.get("/livez")[0], 200)
        self.text("other")
        # Who knows better than to wait takes the model down and up again.
        self.d.post("/berth/v1/configure", {"model": "tiny", "settings": {"pinned": False}})
        self.d.post("/berth/v1/unload", {"model": "tiny"})
        if self.info()["state"] == "broken":
            self.assertEqual(self.d.get("/readyz")[0], 200)  # nobody promised this one any more
        else:
            self.text()


if __name__ == "__main__":
    unittest.main()
