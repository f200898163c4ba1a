# SPDX-License-Identifier: Apache-2.0
"""What tests of the HTTP API share: the daemon over a runner that plays known models (tests/support/played/runner.h says
which), and refusals held to OpenAI's shape."""
import os
import socket
import unittest

from berth_test import BUILD, SLOW, Daemon
from openapi_check import check

FAKE = [os.path.join(BUILD, "tests/unit/test_api_http"), "--serve"]
WORDS = "w0 w1 w2 w3 w4 "


def fake(*args):
    return Daemon(models_dir=None, program=FAKE, args=args)


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.d = fake("--models", "/a:/b")
        cls.d.start()

    @classmethod
    def tearDownClass(cls):
        rc = cls.d.stop()
        assert rc == 0, f"exit status {rc}\n{cls.d.output()}"

    def complete(self, **body):
        return self.d.post("/v1/completions", {"model": "words", "prompt": "x", **body})

    def chat(self, **body):
        return self.d.post("/v1/chat/completions",
                           {"model": "words", "messages": [{"role": "user", "content": "x"}], **body})

    def refused(self, answer, status, param, code=None, words=""):
        got, headers, body = answer
        self.assertEqual(got, status, body)
        check(body, "ErrorResponse")
        e = body["error"]
        self.assertEqual(e["param"], param, e)
        if code:
            self.assertEqual(e["code"], code, e)
        self.assertIn(words, e["message"])
        self.assertIn("x-request-id", headers)
        return e

    def raw(self, data, timeout=10 * SLOW, half_close=False):
        """Bytes in, everything that comes back until the server closes (or falls silent)."""
        with socket.create_connection(("127.0.0.1", self.d.port), timeout=timeout) as s:
            try:
                s.sendall(data)
                if half_close:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            out = b""
            try:
                while True:
                    got = s.recv(65536)
                    if not got:
                        break
                    out += got
            except OSError:
                pass
            return out

    def slow_model(self):
        models = self.d.get("/berth/v1/models")[2]["models"]
        return next(m for m in models if m["name"] == "slow")
