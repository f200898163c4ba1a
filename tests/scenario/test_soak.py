#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Twenty seconds of tests/soak/soak.py: `make soak MINUTES=60` is the whole of it."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "soak"))
from soak import Soak  # noqa: E402


class ShortSoak(unittest.TestCase):
    def test_twenty_seconds(self):
        said = []
        problems = Soak(20, 4, 1, out=said.append).run()
        self.assertEqual(problems[:20], [], "\n".join(said))


if __name__ == "__main__":
    unittest.main()
