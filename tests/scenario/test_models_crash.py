#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed, or its client leaves, at moments drawn by chance in the middle of pulls, pushes, loads, tags, removals
and prunes: the store opens, every blob is what its name says, every name points to a whole model, and a pull goes on.
So it is when berth's commands are killed: the daemon gives up what they asked for, or ends it.

BERTH_TEST_CRASHES says how many times (15); BERTH_TEST_SEED which moments."""
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import model_tar  # noqa: E402
import registry_server as rs  # noqa: E402
import tiny_gguf  # noqa: E402
from berth_test import BERTH, SLOW, Daemon, wait_until  # noqa: E402
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


class CrashCase(unittest.TestCase):
    """A registry, a daemon, and what the store may hold of both."""

    def setUp(self):
        self.r = rs.Registry().__enter__()
        self.addCleanup(self.r.__exit__, None, None, None)
        self.d = Daemon(models_dir="/nonexistent-models", timeout=60 * SLOW)
        self.addCleanup(self.d.__exit__, None, None, None)
        self.d.start()
        self.rng = random.Random(SEED)
        self.big, self.made = "", []
        shared = noise(400_000, 99)  # a layer of several models: removals must leave it
        self.remote = {f"v{i}": self.r.add_model("ai/x", f"v{i}", [noise(12_000_000 + i, i), shared]) for i in range(4)}
        self.local = [model_tar.Model([(model_tar.GGUF, noise(6_000_000 + i, 50 + i)), (model_tar.TEMPLATE, b"{{ x }}")],
                                      context_size=100 + i) for i in range(3)]

    def ref(self, tag):
        return f"{self.r.host}/ai/x:{tag}"

    def check(self, what):
        status, _, data = self.d.request("POST", "/berth/v1/verify", b"{}", JSON)
        lines = [json.loads(x) for x in data.decode().splitlines()]
        self.assertEqual((status, lines[-1].get("findings")), (200, 0), (what, SEED, lines[-5:]))
        known = set(self.remote.values()) | {self.big} | {m.id for m in self.local} | set(self.made)
        for m in self.d.get("/models")[2]:
            self.assertTrue(m["id"] in known or "docker.io/ai/again:latest" in m.get("tags", []) or not m.get("tags"), (what, SEED, m))
            for tag in m.get("tags", []):
                if tag.startswith(self.r.host + "/ai/x:"):
                    self.assertEqual(m["id"], self.remote[tag.rpartition(":")[2]], (what, SEED))

    def pull_all(self):
        for tag, digest in self.remote.items():
            status, _, data = self.d.request("POST", "/models/create", json.dumps({"from": self.ref(tag)}).encode(), JSON)
            self.assertEqual(json.loads(data.decode().splitlines()[-1])["type"], "success", (SEED, data[-300:]))
        self.assertLessEqual(set(self.remote.values()), {m["id"] for m in self.d.get("/models")[2]})
        self.check("the end")


class Crashes(CrashCase):
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
        self.pull_all()
        print(f"{ROUNDS} rounds, seed {SEED}: {sum(x.startswith('kill') for x in done)} kills")


def processes_of(session):
    """Those that a command has left behind: it was given a session of its own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(pid))
    return found


class CommandLines(CrashCase):
    """kill -9 of the command, and not of the daemon."""

    def setUp(self):
        super().setUp()
        self.env = {**self.d.env, "BERTH_PORT": str(self.d.port), "BERTH_AUTOSTART": "no"}
        for i in range(3):
            tiny_gguf.write(self.file(i), seed=i, pad_bytes=6_000_000)
            p = self.start("package", "--gguf", self.file(i), "-o", self.file(i) + ".tar")
            self.assertEqual(p.wait(60 * SLOW), 0)
            self.made.append(self.id_of(self.file(i) + ".tar"))
        self.saved = os.path.join(self.d.state, "saved.tar")

    def file(self, i):
        return os.path.join(self.d.state, f"made-{i}.gguf")

    @staticmethod
    def id_of(tar):
        with open(tar, "rb") as f:
            return rs.digest_of(model_tar.read(f.read())[0]["manifest.json"])

    def start(self, *args):
        return subprocess.Popen([BERTH, *args], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, start_new_session=True)

    def is_idle(self):
        text = self.d.get("/metrics")[2]
        return "\nberth_jobs_running 0\n" in text and "\nberth_jobs_waiting 0\n" in text

    def stored(self, i):
        """The made model, in the store under the name that it is pushed by."""
        if self.made[i] not in {m["id"] for m in self.d.get("/models")[2]}:
            with open(self.file(i) + ".tar", "rb") as f:
                status, _, text = self.d.request("POST", "/models/load", f.read(), {"Content-Type": "application/x-tar", **JSON})
            self.assertEqual(status, 200, text)
        self.assertEqual(self.d.post(f"/models/{self.made[i]}/tag?repo={self.r.host}/ai/pushed&tag=v{i}", b"")[0], 201)
        return f"{self.r.host}/ai/pushed:v{i}"

    def command(self, what):
        """The command line, and about how long it takes."""
        i, tag = self.rng.randrange(3), self.rng.choice(list(self.remote))
        if what == "pull":
            self.d.request("DELETE", f"/models/{self.ref(tag)}?force=true")
            return ["pull", self.ref(tag)], 0.08
        if what == "push":
            name = self.stored(i)
            self.r.manifests.pop(("ai/pushed", f"v{i}"), None)
            for digest in self.d.get(f"/berth/v1/manifest?model={self.made[i]}")[2]["layers"]:
                self.r.blobs.pop(digest["digest"], None)
            return ["push", name], 0.05
        if what == "package":
            self.d.request("DELETE", f"/models/{self.made[i]}?force=true")
            return ["package", "--gguf", self.file(i), f"made:v{i}"], 0.05
        if what == "export":
            return ["export", self.stored(i), "-o", self.saved], 0.025
        if what == "tag":
            return ["tag", self.stored(i), f"local:t{self.rng.randrange(3)}"], 0.01
        if what == "rm":
            return ["rm", "-f", self.stored(i)], 0.01
        return ["prune"], 0.01

    def check_all(self, what):
        self.assertTrue(wait_until(self.is_idle), (what, SEED))
        self.check(what)
        for m in self.d.get("/models")[2]:
            for tag in m.get("tags", []):
                if tag.startswith(("docker.io/ai/made:v", self.r.host + "/ai/pushed:v")):
                    self.assertEqual(m["id"], self.made[int(tag[-1])], (what, SEED))
        # What the registry was given under a name is all there, and a file that has its name is whole.
        for (repo, ref), (_, data) in list(self.r.manifests.items()):
            if repo == "ai/pushed" and ref.startswith("v"):
                self.assertEqual(rs.digest_of(data), self.made[int(ref[1:])], (what, SEED))
                self.assertLessEqual({x["digest"] for x in json.loads(data)["layers"]}, set(self.r.blobs), (what, SEED))
        if os.path.exists(self.saved):
            self.assertIn(self.id_of(self.saved), self.made, (what, SEED))
            os.unlink(self.saved)

    def test_killed_at_any_moment(self):
        n_killed, commands = {}, ["pull", "push", "package", "export", "tag", "rm", "prune"]
        for _ in range(ROUNDS):
            chosen = self.rng.sample(commands, self.rng.randrange(1, 3), counts=[4, 2, 2, 1, 1, 1, 1])
            lines = [(what, *self.command(what)) for what in sorted(set(chosen))]
            running = sorted((time.monotonic() + self.rng.random() * longest * SLOW, what, self.start(*args))
                             for what, args, longest in lines)
            for when, what, p in running:
                time.sleep(max(0, when - time.monotonic()))
                p.kill()
                rc = p.wait(30 * SLOW)
                self.assertIn(rc, (0, -9) if len(running) == 1 else (0, 1, -9), (what, SEED))
                n_killed[what] = n_killed.get(what, 0) + (rc == -9)
                self.assertTrue(wait_until(lambda: not processes_of(p.pid)), (what, SEED))
            self.check_all(", ".join(x[1] for x in running))
        self.pull_all()
        print(f"{ROUNDS} rounds, seed {SEED}: killed in {n_killed}")

    def test_a_pull_goes_on(self):
        data = noise(30_000_000, 7)
        self.big = self.r.add_model("ai/big", "v1", [data])
        ref, layer = f"{self.r.host}/ai/big:v1", rs.digest_of(data)
        self.r.fault("GET", layer, rs.stall(0.8, 30 * SLOW), times=1)
        p = self.start("pull", ref)
        self.assertTrue(wait_until(lambda: self.d.get("/berth/v1/df")[2]["partial_bytes"] > 20_000_000))
        p.kill()
        p.wait()
        self.check_all("a pull whose command was killed")
        self.assertEqual(self.d.get("/models")[2], [])
        self.assertEqual(self.start("pull", ref).wait(60 * SLOW), 0)
        ranges = [x[2].get("range") for x in self.r.asked("GET", layer)]
        self.assertEqual((len(ranges), ranges[0]), (2, None))
        self.assertGreaterEqual(int(ranges[1].removeprefix("bytes=").rstrip("-")), 20_000_000)
        self.assertEqual([m["id"] for m in self.d.get("/models")[2]], [self.big])
        self.check_all("a pull that went on")


if __name__ == "__main__":
    unittest.main(verbosity=2)
