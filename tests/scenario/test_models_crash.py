#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed, or its client leaves, at moments drawn by chance in the middle of pulls, pushes, loads, tags, removals
and prunes: the store opens, every blob is what its name says, every name points to a whole model, and a pull goes on.

BERTH_TEST_CRASHES says how many times (15); BERTH_TEST_SEED which moments."""
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import model_tar  # noqa: E402
import registry_server as rs  # noqa: E402
from berth_test import SLOW, Daemon, wait_until  # noqa: E402
from registry_case import noise  # noqa: E402

ROUNDS = int(os.environ.get("BERTH_TEST_CRASHES", "15"))
SEED = int(os.environ.get("BERTH_TEST_SEED", str(random.SystemRandom().randrange(1 << 30))))
LONGEST_S = 0.12 * SLOW
JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def slowly(h, status, headers, body):
    """Most of it, a pause, some more, and then nothing: how far it is is noted every two seconds."""
    h.head(status, headers, len(body))
    for part, pause in ((body[:70_000_000], 2.5), (body[70_000_000:85_000_000], 30 * SLOW)):
        h.wfile.write(part)
        h.wfile.flush()
        end = time.monotonic() + pause
        while time.monotonic() < end and not h.server.owner.is_closed:
            time.sleep(0.05)
    rs.hang_up(h)


class Crashes(unittest.TestCase):
    def setUp(self):
        self.r = rs.Registry().__enter__()
        self.addCleanup(self.r.__exit__, None, None, None)
        self.d = Daemon(models_dir="/nonexistent-models", timeout=60 * SLOW)
        self.addCleanup(self.d.__exit__, None, None, None)
        self.d.start()
        self.rng = random.Random(SEED)
        self.big = ""
        shared = noise(400_000, 99)  # a layer of several models: removals must leave it
        self.remote = {f"v{i}": self.r.add_model("ai/x", f"v{i}", [noise(12_000_000 + i, i), shared]) for i in range(4)}
        self.local = [model_tar.Model([(model_tar.GGUF, noise(6_000_000 + i, 50 + i)), (model_tar.TEMPLATE, b"{{ x }}")],
                                      context_size=100 + i) for i in range(3)]

    def ref(self, tag):
        return f"{self.r.host}/ai/x:{tag}"

    def ask(self, method, path, body=b"", kind="application/json"):
        """A connection on which it was asked, so that the client can leave."""
        s = socket.create_connection(("127.0.0.1", self.d.port), timeout=30 * SLOW)
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json\r\n"
        if method == "POST":
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"

        def send():
            try:
                s.sendall(head.encode() + b"\r\n" + body)
                while s.recv(65536):
                    pass
            except OSError:
                pass

        t = threading.Thread(target=send, daemon=True)
        t.start()
        return s, t

    def something(self):
        tag = self.rng.choice(list(self.remote))
        model = self.rng.choice(self.local)
        what = self.rng.choice(["pull"] * 4 + ["push", "load", "load", "tag", "rm", "prune", "repackage"])
        if what == "pull":
            return what, self.ask("POST", "/models/create", json.dumps({"from": self.ref(tag)}).encode())
        if what == "push":
            return what, self.ask("POST", f"/models/{self.ref(tag)}/push", b"{}")
        if what == "load":
            return what, self.ask("POST", "/models/load", model.tar(), "application/x-tar")
        if what == "tag":
            return what, self.ask("POST", f"/models/{model.id}/tag?repo=ai/local&tag=t{self.rng.randrange(3)}")
        if what == "repackage":
            return what, self.ask("POST", f"/models/{model.id}/repackage",
                                  json.dumps({"target": "ai/again", "context_size": self.rng.randrange(1, 4096)}).encode())
        if what == "rm":
            return what, self.ask("DELETE", f"/models/{self.rng.choice([self.ref(tag), model.id + '?force=true', 'ai/local:t1'])}")
        return what, self.ask("POST", "/berth/v1/prune", b"{}")

    def check(self, what):
        status, _, data = self.d.request("POST", "/berth/v1/verify", b"{}", JSON)
        lines = [json.loads(x) for x in data.decode().splitlines()]
        self.assertEqual((status, lines[-1].get("findings")), (200, 0), (what, SEED, lines[-5:]))
        known = set(self.remote.values()) | {self.big} | {m.id for m in self.local}
        for m in self.d.get("/models")[2]:
            self.assertTrue(m["id"] in known or "docker.io/ai/again:latest" in m.get("tags", []) or not m.get("tags"), (what, SEED, m))
            for tag in m.get("tags", []):
                if tag.startswith(self.r.host + "/ai/x:"):
                    self.assertEqual(m["id"], self.remote[tag.rpartition(":")[2]], (what, SEED))

    def test_a_pull_goes_on_after_a_kill(self):
        data = noise(90_000_000, 7)
        digest, layer = self.r.add_model("ai/big", "v1", [data]), rs.digest_of(data)
        ref, self.big = f"{self.r.host}/ai/big:v1", digest
        self.r.fault("GET", layer, slowly, times=1)
        s, t = self.ask("POST", "/models/create", json.dumps({"from": ref}).encode())
        self.assertTrue(wait_until(lambda: self.d.get("/berth/v1/df")[2]["partial_bytes"] > 80_000_000))
        self.d.stop(signal.SIGKILL)
        self.d.start()
        t.join(30 * SLOW)
        s.close()
        status, _, text = self.d.request("POST", "/models/create", json.dumps({"from": ref}).encode(), JSON)
        self.assertEqual(json.loads(text.decode().splitlines()[-1])["type"], "success", text[-300:])
        ranges = [x[2].get("range") for x in self.r.asked("GET", layer)]
        self.assertEqual(len(ranges), 2)
        self.assertGreaterEqual(int(ranges[1].removeprefix("bytes=").rstrip("-")), 64 << 20)
        self.assertEqual([m["id"] for m in self.d.get("/models")[2]], [digest])
        self.check("a pull that went on")

    def test_killed_at_any_moment(self):
        done = []
        for i in range(ROUNDS):
            running = [self.something() for _ in range(self.rng.randrange(1, 4))]
            time.sleep(self.rng.random() * LONGEST_S)
            if self.rng.random() < 0.75:
                done.append("kill -9 in " + ", ".join(x[0] for x in running))
                self.d.stop(signal.SIGKILL)
                self.d.start()
            else:
                done.append("clients left in " + ", ".join(x[0] for x in running))
            for _, (s, t) in running:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                t.join(30 * SLOW)
                s.close()
            self.check(done[-1])
        for tag, digest in self.remote.items():
            status, _, data = self.d.request("POST", "/models/create", json.dumps({"from": self.ref(tag)}).encode(), JSON)
            self.assertEqual(json.loads(data.decode().splitlines()[-1])["type"], "success", (SEED, data[-300:]))
        self.assertLessEqual(set(self.remote.values()), {m["id"] for m in self.d.get("/models")[2]})
        self.check("the end")
        print(f"{ROUNDS} rounds, seed {SEED}: {sum(x.startswith('kill') for x in done)} kills")


if __name__ == "__main__":
    unittest.main(verbosity=2)
