#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draft models that are broken, foreign, absurd, gone or exchanged, and settings that name what is none: a sentence each time, or the
same answer as without; nothing crashes, and nothing is left behind."""
import glob
import os
import random
import shutil
import socket
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import ROOT, SLOW, Daemon, wait_until  # noqa: E402

ASK = {"model": "tiny", "prompt": "hello hello hello", "max_tokens": 24, "temperature": 0.7, "seed": 3}
# What a user sees when a worker was not up to something.
CRASHED = "worker process|broke the protocol|sign of life"


def patched(data, key, value):
    """The file with another value of a 32-bit key."""
    at = data.index(key.encode()) + len(key) + 4
    return data[:at] + struct.pack("<I", value) + data[at + 4:]


def children(pid):
    out = []
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(stat, encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            out.append(int(stat.split("/")[2]))
    return out


class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="berth-draft-")
        cls.models = os.path.join(cls.folder, "models")
        os.mkdir(cls.models)
        for i, name in enumerate(("tiny", "other", "third")):
            tiny_gguf.write(os.path.join(cls.models, name + ".gguf"), seed=i + 1, n_ctx=512)
        cls.d = Daemon(models_dir=cls.models, args=["--threads", "1", "--max-memory", "256M"], timeout=60 * SLOW)
        cls.d.__enter__()
        cls.plain = cls.d.post("/v1/completions", ASK)[2]["choices"][0]["text"]
        cls.d.post("/engines/unload", {"all": True})
        wait_until(lambda: not children(cls.d.pid))
        cls.n_fds = len(os.listdir(f"/proc/{cls.d.pid}/fd"))

    @classmethod
    def tearDownClass(cls):
        rc = cls.d.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)
        shutil.rmtree(cls.d.state, ignore_errors=True)
        assert rc == 0, f"exit status {rc}\n{cls.d.output()}"

    def tearDown(self):
        """As if nothing had been declared: the same answer, no process and no descriptor more."""
        for name in ("tiny", "other"):
            status, _, body = self.d.post("/berth/v1/configure", {"model": name, "settings": {
                "speculative-draft-model": None, "speculative-num-tokens": None, "speculative-min-acceptance-rate": None}})
            self.assertEqual(status, 200, body)
        self.same()
        self.d.post("/engines/unload", {"all": True})
        self.assertTrue(wait_until(lambda: not children(self.d.pid)), children(self.d.pid))
        self.assertTrue(wait_until(lambda: len(os.listdir(f"/proc/{self.d.pid}/fd")) <= self.n_fds))

    def declare(self, draft, model="tiny", **more):
        return self.d.post("/berth/v1/configure", {"model": model, "settings": {"speculative-draft-model": draft, **more}})

    def ask(self, **more):
        status, _, body = self.d.post("/v1/completions", {**ASK, **more})
        if status != 200:
            self.assertNotRegex(body["error"]["message"], CRASHED)
        return status, body

    def same(self):
        status, body = self.ask()
        self.assertEqual(status, 200, body)
        self.assertEqual(body["choices"][0]["text"], self.plain)

    def tried(self, path):
        """Declared, and asked if that went: a sentence, or the same answer.  True: it guesses."""
        status, _, body = self.declare(path)
        if status != 200:
            self.assertIn("speculative-draft-model", body["error"]["message"], path)
            return False
        status, body = self.ask()
        if status == 200:
            self.assertEqual(body["choices"][0]["text"], self.plain, path)
            return True
        self.assertIn("the draft model", body["error"]["message"], path)
        return False

    def write(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def good(self):
        with open(os.path.join(self.models, "other.gguf"), "rb") as f:
            return f.read()

    def test_corpus(self):
        files = [f for kind in ("gguf", "model", "tokenizer", "weights")
                 for f in sorted(glob.glob(os.path.join(ROOT, "tests", "fuzz", "corpus", kind, "*"))) if os.path.isfile(f)]
        self.assertGreater(len(files), 20)
        for f in files:
            self.tried(f)
        self.assertTrue(self.tried(os.path.join(self.models, "other.gguf")))

    def test_cut_and_changed_files(self):
        data, rng = self.good(), random.Random(5)
        header = data.index(b"output.weight") + 40
        for n in (0, 3, 4, 8, 24, 100, header // 2, header, len(data) // 2, len(data) - 1):
            self.assertFalse(self.tried(self.write("cut.gguf", data[:n])), n)
        for i in range(40):
            bad = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                bad[rng.randrange(header)] = rng.randrange(256)
            self.tried(self.write("changed.gguf", bytes(bad)))

    def test_absurd_numbers(self):
        data = self.good()
        for key in ("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
                    "attention.head_count_kv", "rope.dimension_count", "attention.layer_norm_rms_epsilon"):
            for value in (0, 1, 3, 7, 65536, 0x7fffffff, 0xffffffff, 0x7fc00000, 0xff800000):
                self.tried(self.write("absurd.gguf", patched(data, "llama." + key, value)))
        at = data.index(b"output_norm.weight")
        nan = data[:at + 4096] + b"\xff\xff\xff\x7f" * ((len(data) - at - 4096) // 4)
        self.tried(self.write("nan.gguf", nan + data[len(nan):]))

    def test_other_vocabularies_and_shapes(self):
        tiny_gguf.write(os.path.join(self.folder, "deep.gguf"), n_layer=7, n_embd=64, n_ctx=64, seed=9)
        tiny_gguf.write(os.path.join(self.folder, "short.gguf"), n_ctx=8, seed=9)
        tiny_gguf.write(os.path.join(self.folder, "large.gguf"), pad_bytes=300 << 20)
        try:
            self.assertTrue(self.tried(os.path.join(self.folder, "deep.gguf")))
            self.tried(os.path.join(self.folder, "short.gguf"))
            self.assertFalse(self.declare(os.path.join(self.folder, "large.gguf"))[0] >= 500)
            status, body = self.ask()
            self.assertGreaterEqual(status, 400)
            self.assertIn("with its draft model takes", body["error"]["message"])
        finally:
            os.unlink(os.path.join(self.folder, "large.gguf"))
        for name in ("stories", "stories-chat"):
            self.assertFalse(self.tried(os.path.join(ROOT, "models", name + ".gguf")))

    def test_names_that_are_none(self):
        os.mkfifo(os.path.join(self.folder, "pipe.gguf"))
        os.symlink("loop.gguf", os.path.join(self.folder, "loop.gguf"))
        s = socket.socket(socket.AF_UNIX)
        s.bind(os.path.join(self.folder, "sock"))
        self.addCleanup(s.close)
        for name in ("none", "a/b", "a//b", "../tiny", "./tiny", "/", "//", "/dev/zero", "/dev/full", "/proc/self/mem", "/proc/kmsg",
                     self.folder, self.folder + "/pipe.gguf", self.folder + "/sock", self.folder + "/loop.gguf", "tiny\n", " ",
                     "x" * 300, "/" + "x" * 5000, "sha256:" + "0" * 64, "\u202etiny", 7, [], {}, True, "tiny/../other"):
            status, _, body = self.declare(name)
            self.assertIn(status, (400, 404, 413), (name, body))
            self.assertTrue(body["error"]["message"], name)
        self.assertEqual(self.d.get("/berth/v1/models/tiny")[2]["settings"], {})

    def test_numbers_that_are_none(self):
        for n in (17, 4294967295, 1 << 40, -1, 2.5, "many", [], True):
            self.assertEqual(self.declare("other", **{"speculative-num-tokens": n})[0], 400, n)
        for x in (-0.1, 1.1, 1e300, "x", [], True):
            self.assertEqual(self.declare("other", **{"speculative-min-acceptance-rate": x})[0], 400, x)
        for spec in (7, [], "other", {"draft_model": 7}, {"draft_model": "none"}, {"draft_model": "other", "num_tokens": "many"},
                     {"draft_model": "other", "num_tokens": 99}, {"draft_model": "other", "num_tokens": -3},
                     {"draft_model": "other", "num_tokens": 2.5}, {"draft_model": "other", "min_acceptance_rate": 7},
                     {"draft_model": "other", "min_acceptance_rate": -1}, {"draft_model": "other", "min_acceptance_rate": "x"}):
            status, _, body = self.d.post("/engines/_configure", {"model": "tiny", "speculative": spec})
            self.assertIn(status, (400, 404), (spec, body))
        for flags in (["--model-draft"], ["--model-draft", "none"], ["--model-draft", "/etc/passwd"], ["--draft-max", "many"],
                      ["--draft-max", "-1"], ["--draft-max", "99999999999999999999"], ["-md", ""]):
            status, _, body = self.d.post("/engines/_configure", {"model": "tiny", "runtime-flags": flags})
            self.assertIn(status, (400, 404), (flags, body))
        self.assertEqual(self.d.get("/berth/v1/models/tiny")[2]["settings"], {})

    def test_itself_and_in_a_circle(self):
        self.assertTrue(self.tried("tiny"))
        self.assertEqual(self.declare("tiny", "other")[0], 200)
        self.assertTrue(self.tried("other"))
        self.assertEqual(self.d.post("/v1/completions", {**ASK, "model": "other"})[0], 200)
        self.same()
        self.assertTrue(self.tried(os.path.join(self.models, "tiny.gguf")))

    def test_gone_exchanged_and_cut_while_it_guesses(self):
        path = self.write("moving.gguf", self.good())
        self.assertTrue(self.tried(path))
        os.unlink(path)
        self.same()
        self.d.post("/engines/unload", {"all": True})
        status, body = self.ask()
        self.assertGreaterEqual(status, 400)
        self.assertIn("the draft model", body["error"]["message"])
        self.write("moving.gguf", self.good())
        self.same()
        self.write("new.gguf", self.good()[:5000])
        os.rename(os.path.join(self.folder, "new.gguf"), path)
        self.same()
        self.d.post("/engines/unload", {"all": True})
        self.assertFalse(self.tried(path))

    def test_clients_that_leave_and_settings_that_change(self):
        self.assertEqual(self.declare("other", **{"speculative-num-tokens": 16, "speculative-min-acceptance-rate": 0})[0], 200)
        for n in (0, 1, 2, 5):
            events = self.d.stream("/v1/completions", {**ASK, "max_tokens": 400, "stream": True})
            for _ in range(n):
                next(events, None)
            events.close()
        self.assertTrue(wait_until(lambda: self.d.get("/berth/v1/models/tiny")[2].get("n_running", 0) == 0))
        self.same()
        events = self.d.stream("/v1/completions", {**ASK, "max_tokens": 400, "stream": True})
        next(events)
        for draft in (None, "third", "other", None, "tiny"):
            self.assertIn(self.declare(draft)[0], (200, 409))
        try:
            for _ in events:
                pass
        except AssertionError as e:  # it was ended by somebody's wish: said in the stream
            self.assertNotRegex(str(e), CRASHED)
        self.same()


if __name__ == "__main__":
    unittest.main()
