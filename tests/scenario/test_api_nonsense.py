#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every route that there is, asked nonsense: bodies, queries and names of wrong types and absurd values, drawn from a seed
(BERTH_TEST_SEED repeats a run).  Each is answered, in JSON, with no fault of the daemon's own, and afterwards all is as before."""
import json
import os
import random
import re
import shutil
import sys
import tempfile
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import ROOT, SLOW, Daemon  # noqa: E402

SEED = int(os.environ.get("BERTH_TEST_SEED", "7"))
ROUNDS = int(os.environ.get("BERTH_TEST_NONSENSE", "15"))  # times that each route is asked
WORDS = ["", " ", "tiny", "none", "a/b", "a//b", "../x", "./x", "/", "/dev/zero", "/etc/passwd", "/proc/self/mem", "a\0b", "a\nb", "\u202e",
         "x" * 300, "x" * 5000, "/" + "y/" * 3000, "sha256:" + "0" * 64, "sha256:" + "z" * 64, "localhost:99999/a:b", "a@b@c", "[::1]:x/y",
         "-1", "1e999", "%2e%2e%2f", "%00", "\U0001f600", "null", "{}", "tiny:latest", "hf.co/", "https://x/y", ":", "@", "a:b:c"]
NUMBERS = [0, 1, -1, 2.5, 1e308, -0.0, 2**31, 2**32, 2**63, 2**64, 10**40, -2**63]
KEYS = ["model", "path", "name", "settings", "replace", "when_idle", "stream", "keep_alive", "pinned", "chat_template", "all", "models", "from",
        "bearer-token", "token", "repair", "untagged", "older_than_s", "target", "context_size", "context-size", "runtime-flags",
        "raw-runtime-flags", "speculative", "mode", "vllm", "llamacpp", "draft_model", "num_tokens", "min_acceptance_rate", "threads",
        "speculative-draft-model", "speculative-num-tokens", "kv-cache-memory", "temperature", "prompt", "content", "tokens", "messages", "q"]
# Routes that ask a registry, which takes patience; they get names that none can have.
ELSEWHERE = re.compile("/(pull|create|remote|search)$")
NO_NAMES = [w for w in WORDS if re.search(r"^$|\.\.|//|[ \0\n@\[\u202e\U0001f600]|xxx|yyy", w)]
# Bodies that no program would send.
RAW = [b"", b"{", b"[]", b"null", b"7", b'"x"', b"\xff\xfe", b"{}{}", b'{"model":"tiny","model":"none"}', b'{"model":"\\ud800"}',
       b"[" * 5000, b'{"a":' * 300 + b"1" + b"}" * 300, b'{"model":"tiny"', b"\0" * 50, b'{"model":1e999}', b" " * 3000 + b"x"]


def routes():
    """(method, path with * for a name) of each route, in order; the daemon's end is left out."""
    with open(os.path.join(ROOT, "src/daemon/api/route.def"), encoding="utf-8") as f:
        found = re.findall(r'^ROUTE\("(\w+)", "([^"]+)"', f.read(), re.M)
    return [r for r in found if not r[1].endswith("/shutdown")]


class Nonsense(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="berth-nonsense-")
        tiny_gguf.write(os.path.join(cls.folder, "tiny.gguf"), n_ctx=256)
        # Nothing outside is asked: what these names lead to refuses the connection.
        cls.d = Daemon(models_dir=cls.folder, timeout=60 * SLOW, args=[
            "--threads", "1", "--default-registry", "localhost:1", "--hf-endpoint", "http://localhost:1",
            "--hub-search-endpoint", "http://localhost:1"], env={"https_proxy": "http://localhost:1", "no_proxy": "localhost"})
        cls.d.__enter__()

    @classmethod
    def tearDownClass(cls):
        rc = cls.d.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)
        shutil.rmtree(cls.d.state, ignore_errors=True)
        assert rc == 0, f"exit status {rc}\n{cls.d.output()}"

    def setUp(self):
        self.rng = random.Random(SEED)

    def value(self, depth=0):
        kind = self.rng.randrange(10 if depth < 3 else 7)
        if kind < 4:
            return self.rng.choice(WORDS)
        if kind < 6:
            return self.rng.choice(NUMBERS)
        if kind == 6:
            return self.rng.choice([None, True, False])
        if kind == 7:
            return [self.value(depth + 1) for _ in range(self.rng.randrange(5))]
        return {self.rng.choice(KEYS + WORDS): self.value(depth + 1) for _ in range(self.rng.randrange(6))}

    def body(self, route):
        if self.rng.randrange(4) == 0:
            return self.rng.choice(RAW)
        obj = {key: self.value() for key in self.rng.sample(KEYS, self.rng.randrange(1, 7))}
        if self.rng.randrange(2):
            obj["model"] = self.rng.choice(("tiny", "tiny", self.value()))
        if ELSEWHERE.search(route):
            obj.update(model=self.rng.choice(NO_NAMES), **{"from": self.rng.choice(NO_NAMES)})
        return json.dumps(obj).encode()

    def path(self, path):
        name = urllib.parse.quote(self.rng.choice(WORDS), safe="/:@" if self.rng.randrange(2) else "")
        path = path.replace("*", name + self.rng.choice(("", "", "/tag", "/push", "/repackage", "/export", "/x")))
        if self.rng.randrange(2) and not ELSEWHERE.search(path):
            path += "?" + "&".join(f"{self.rng.choice(('model', 'repo', 'tag', 'force', 'limit', 'source', 'lines', 'x'))}="
                                   f"{urllib.parse.quote(str(self.value(3)))}" for _ in range(self.rng.randrange(1, 4)))
        return path

    def test_every_route(self):
        asked = [r for r in routes() for _ in range(ROUNDS)]
        self.assertGreater(len(asked), 40 * ROUNDS)
        self.rng.shuffle(asked)
        for method, route in asked:
            if route == "/logs":  # may follow for ever
                continue
            path = self.path(route)
            body = self.body(route) if method == "POST" else None
            head = {"Content-Type": self.rng.choice(("application/json",) * 6 + ("application/x-tar", "text/plain", "x"))} if body is not None else {}
            what = (method, path, body)
            status, headers, answer = self.d.request(method, path, body, head)
            self.assertNotIn(status, (500, 501), (what, answer))
            if status >= 400 and method != "HEAD" and headers["content-type"].startswith("application/json"):
                error = json.loads(answer).get("error", {"message": "probe"})
                self.assertTrue(error["message"], what)
            elif status >= 400:
                self.assertTrue(answer.strip(), what)
            self.assertTrue(self.d.alive(), what)
        self.d.post("/engines/_configure", {"model": "tiny"})
        status, _, answer = self.d.post("/v1/completions", {"model": "tiny", "prompt": "abc", "max_tokens": 4})
        self.assertEqual(status, 200, answer)
        m = self.d.get("/berth/v1/models/tiny")[2]
        self.assertEqual((m["n_running"], m["n_waiting"], m["n_crashes"]), (0, 0, 0))


if __name__ == "__main__":
    unittest.main()
