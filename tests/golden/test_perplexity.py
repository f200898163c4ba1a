# SPDX-License-Identifier: Apache-2.0
"""What small weights and small caches cost in perplexity is what they cost in llama.cpp, within half a percent."""
import lzma
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, MODELS, ROOT  # noqa: E402
from perplexity import perplexity  # noqa: E402
from stories_models import rounded, widen  # noqa: E402

DATA = os.path.join(ROOT, "tests", "data", "perplexity")


class Perplexity(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        with open(os.path.join(MODELS, "stories.gguf"), "rb") as f:
            self.exact = f.read()

    def model(self, kind):
        path = os.path.join(self.dir.name, kind + ".gguf")
        if kind in ("F32", "wide"):
            data = widen(self.exact) if kind == "wide" else self.exact
        elif kind in ("F16", "BF16"):
            data = rounded(self.exact, kind)
        else:
            with lzma.open(os.path.join(DATA, kind + ".gguf.xz")) as packed:
                data = packed.read()
        with open(path, "wb") as f:
            f.write(data)
        return path

    def test_as_in_llama_cpp(self):
        with open(os.path.join(DATA, "expected.txt")) as f:
            expected = [line.split() for line in f]
        self.assertEqual(len(expected), 14)
        for kind, cache, want in expected:
            got = perplexity(self.model(kind), os.path.join(DATA, "text.txt"), os.path.join(self.dir.name, "logits.f32"),
                             "--kv-cache-type", cache)
            self.assertLess(abs(got / float(want) - 1), 0.005, (kind, cache, got, want))

    def test_no_8_bit_blocks_for_heads_of_8(self):
        refused = subprocess.run([BERTH, "debug", "logits", self.model("F32"), "--tokens", "1", "--out", os.devnull,
                                  "--kv-cache-type", "q8_0"], stderr=subprocess.PIPE, timeout=600)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(b"multiples of 32", refused.stderr)


if __name__ == "__main__":
    unittest.main()
