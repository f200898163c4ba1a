# SPDX-License-Identifier: Apache-2.0
"""What quantised weights cost in perplexity is what they cost in llama.cpp, within half a percent, on every CPU level."""
import array
import lzma
import math
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, MODELS, ROOT  # noqa: E402

DATA = os.path.join(ROOT, "tests", "data", "perplexity")
WINDOW = 128  # llama-perplexity -c: the second half of each window counts, and a window begins with BOS
BOS = 1


def run(*args):
    return subprocess.run([BERTH, "debug", *args], stdout=subprocess.PIPE, check=True, timeout=600).stdout.decode()


class Perplexity(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def model(self, kind):
        if kind == "F32":
            return os.path.join(MODELS, "stories.gguf")
        path = os.path.join(self.dir.name, kind + ".gguf")
        with lzma.open(os.path.join(DATA, kind + ".gguf.xz")) as packed, open(path, "wb") as f:
            f.write(packed.read())
        return path

    def logits(self, model, tokens, *options):
        path = os.path.join(self.dir.name, "logits.f32")
        run("logits", model, "--tokens", ",".join(map(str, tokens)), "--out", path, *options)
        with open(path, "rb") as f:
            return array.array("f", f.read())

    def perplexity(self, model, *options):
        ids = [BOS] + [int(t) for t in run("tokenize", model, "--file", os.path.join(DATA, "text.txt")).split()]
        nll, count = 0.0, 0
        for at in range(0, len(ids) // WINDOW * WINDOW, WINDOW):
            tokens = [BOS] + ids[at + 1:at + WINDOW]
            logits = self.logits(model, tokens, *options)
            width = len(logits) // WINDOW
            for i in range(WINDOW // 2, WINDOW - 1):
                row = logits[i * width:(i + 1) * width]
                top = max(row)
                nll -= row[tokens[i + 1]] - top - math.log(sum(math.exp(x - top) for x in row))
                count += 1
        return math.exp(nll / count)

    def test_as_in_llama_cpp(self):
        with open(os.path.join(DATA, "expected.txt")) as f:
            expected = [line.split() for line in f]
        self.assertEqual(len(expected), 7)
        for kind, want in expected:
            got = self.perplexity(self.model(kind))
            self.assertLess(abs(got / float(want) - 1), 0.005, (kind, got, want))

    def test_caches_cost_little(self):
        # heads of 8 are no multiple of 32: no q8_0 here
        model = self.model("F32")
        exact = self.perplexity(model)
        for kind, most in (("f16", 0.001), ("bf16", 0.005)):
            got = self.perplexity(model, "--kv-cache-type", kind)
            self.assertLess(abs(got / exact - 1), most, (kind, got, exact))
        refused = subprocess.run([BERTH, "debug", "logits", model, "--tokens", "1", "--out", os.devnull,
                                  "--kv-cache-type", "q8_0"], stderr=subprocess.PIPE, timeout=600)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(b"multiples of 32", refused.stderr)


if __name__ == "__main__":
    unittest.main()
