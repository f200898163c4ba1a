# SPDX-License-Identifier: Apache-2.0
"""The prefix cache as clients see it: what is reused is told, answers stay the same, and nobody profits from another's prompts."""
import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import Daemon  # noqa: E402

PROMPT = "Once upon a time there was a little dog who liked to play in the park with his friends. " * 3


def ask(daemon, key=None, **more):
    body = {"model": "stories", "prompt": PROMPT, "max_tokens": 12, "temperature": 0, "seed": 1}
    body.update(more)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    status, _, answer = daemon.post("/v1/completions", body, headers=headers)
    assert status == 200, answer
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"], answer["choices"][0]["text"]


class Prefix(unittest.TestCase):
    def test_second_request_reuses_the_first(self):
        with Daemon() as d:
            first, text = ask(d)
            again, same = ask(d)
            self.assertEqual(first, 0)
            self.assertGreater(again, 32)
            self.assertEqual(text, same)
            self.assertEqual(ask(d, cache_salt="mine"), (0, text))
            self.assertGreater(ask(d, cache_salt="mine")[0], 32)
            self.assertEqual(ask(d, cache_salt="yours")[0], 0)
            _, _, several = d.post("/v1/completions", {"model": "stories", "prompt": [PROMPT, PROMPT], "max_tokens": 12,
                                                 "temperature": 0, "seed": 1, "cache_salt": "several"})
            self.assertEqual([c["text"] for c in several["choices"]], [text, text])

    def test_switched_off(self):
        with Daemon(args=["--enable-prefix-caching=no"]) as d:
            self.assertEqual(ask(d)[0], 0)
            self.assertEqual(ask(d)[0], 0)

    def test_keys_do_not_share(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "keys")
            with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as f:
                f.write("ann infer ann-0123456789abcdef0123\nbob infer bob-0123456789abcdef0123\n")
            with Daemon(args=["--api-keys", path]) as d:
                self.assertEqual(ask(d, "ann-0123456789abcdef0123")[0], 0)
                self.assertGreater(ask(d, "ann-0123456789abcdef0123")[0], 32)
                self.assertEqual(ask(d, "bob-0123456789abcdef0123")[0], 0)


if __name__ == "__main__":
    unittest.main()
