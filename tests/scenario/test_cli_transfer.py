# SPDX-License-Identifier: Apache-2.0
"""How a pull, a push and a load are shown: bars on a terminal, lines elsewhere, JSON on request; Ctrl-C, and connections that
break.  Against a stand-in for the daemon, so that every step is known."""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, SLOW  # noqa: E402
from cli_case import LIMIT_S, CliCase  # noqa: E402
from manager_stub import ID, ManagerStub, progress, success  # noqa: E402
from registry_server import Registry  # noqa: E402
from terminal import Terminal  # noqa: E402

A, B, C = ("sha256:" + c * 64 for c in "abc")
TOTAL = 60_000_000
PAUSE_S = 0.12 * min(SLOW, 3)
DONE = success("Model pulled successfully", id=ID, name="docker.io/ai/smollm2:latest")


def course(mode="pull", end=DONE, seen=None):
    """seen: an Event that is waited for halfway."""
    steps = [progress(x, 0, n, TOTAL, mode) for x, n in ((A, 10_000_000), (B, 40_000_000), (C, 10_000_000))]
    for i in range(1, 11):
        steps += [progress(A, i * 1_000_000, 10_000_000, TOTAL, mode), progress(B, i * 4_000_000, 40_000_000, TOTAL, mode), PAUSE_S]
        if i == 5 and seen:
            steps.append(seen)
    return steps + [progress(C, 10_000_000, 10_000_000, TOTAL, mode), PAUSE_S, end]


def screen(data):
    """What a terminal shows at the end: lines, after cursor movements; colours fall."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[[0-9;]*[A-Za-z]|\r|\n)", data):
        up = re.fullmatch(r"\x1b\[(\d+)A", part)
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif up:
            row -= int(up.group(1))
        elif part == "\x1b[J":
            lines[row:] = [""]
        elif part and part[0] not in "\x1b\r":
            lines[row] = part
    return [x for x in lines if x]


class Terminals(CliCase):
    def shown(self, argv, stub, seen, text, **size):
        """(status, what was shown); the stand-in goes on, by the event seen, once text is shown."""
        try:
            t = Terminal([BERTH, *argv], {**self.env, "TERM": "xterm", "BERTH_PORT": str(stub.port)}, self.home, **size)
        except OSError:
            self.skipTest("there are no pseudo-terminals here: bars were NOT tried")
        try:
            t.until(text)
            seen.set()
            return t.wait(), t.all.decode().replace("\r\n", "\n")
        finally:
            t.close()

    def test_bars(self):
        seen = threading.Event()
        with ManagerStub(course=course(seen=seen)) as stub:
            status, out = self.shown(["pull", "smollm2"], stub, seen, "25.0 MB of 60.0 MB")
        self.assertEqual(status, 0, out)
        frames = re.split(r"\x1b\[\d+A", out)
        full = [f for f in frames if "5.00 MB of 10.0 MB" in f]
        self.assertTrue(full, out)
        rows = screen(full[0])
        self.assertEqual(rows[0], "pulling smollm2")
        self.assertRegex(rows[1], r"^aaaaaaaaaaaa \[#+\.+\]  50 %  5\.00 MB of 10\.0 MB$")
        self.assertRegex(rows[2], r"^bbbbbbbbbbbb \[#+\.+\]  (40|50) %  (16|20)\.0 MB of 40\.0 MB$")
        self.assertRegex(rows[3], r"^cccccccccccc \[\.+\]   0 %  0 B of 10\.0 MB$")
        self.assertRegex(rows[4], r"^all          \[#+\.+\]  (35|41) %  2[15]\.0 MB of 60\.0 MB  [\d.]+ [kM]B/s  0:\d\d left$")
        # Nothing of them stays; the last word does.
        last = screen(out)
        self.assertEqual(len(last), 2, last)
        self.assertRegex(last[0], r"^pulled docker\.io/ai/smollm2:latest \(60\.0 MB in .+, [\d.]+ MB/s\)$")
        self.assertEqual(last[1], ID)

    def test_narrow_and_low(self):
        many = [progress(f"sha256:{i:064x}", 0, 1000, 30000) for i in range(30)]
        seen = threading.Event()
        with ManagerStub(course=many + [progress(f"sha256:{0:064x}", 1000, 1000, 30000), seen, DONE]) as stub:
            status, out = self.shown(["pull", "smollm2"], stub, seen, "and 24 more", rows=10, columns=50)
        self.assertEqual(status, 0, out)
        for frame in re.split(r"\x1b\[\d+A", out)[:-1]:
            rows = screen(frame)
            self.assertLess(len(rows), 10, rows)
            self.assertLess(max(len(r) for r in rows), 50, rows)

    def test_docker(self):
        plugin = os.path.join(self.home, "docker-model")
        os.symlink(BERTH, plugin)
        seen = threading.Event()
        with ManagerStub(course=course("push", success("Model pushed successfully", "push", id=ID), seen)) as stub:
            try:
                t = Terminal([plugin, "push", "smollm2"], {**self.env, "TERM": "xterm", "BERTH_PORT": str(stub.port)}, self.home)
            except OSError:
                self.skipTest("there are no pseudo-terminals here: bars were NOT tried")
            t.until("5MB/10MB")
            seen.set()
            status = t.wait()
            out = t.all.decode().replace("\r\n", "\n")
            t.close()
        self.assertEqual(status, 0, out)
        self.assertRegex(out, r"aaaaaaaaaaaa: Uploading \[=+> +\]  \d+MB/10MB")
        self.assertRegex(out, r"cccccccccccc: Waiting ")
        self.assertEqual([x.rstrip() for x in screen(out)],
                         [f"{x * 12}: Push complete" for x in "abc"] + ["Model pushed successfully"])

    def test_interrupt(self):
        with ManagerStub(course=[progress(A, 1, 1000, 1000), 60 * SLOW]) as stub:
            try:
                t = Terminal([BERTH, "pull", "smollm2"], {**self.env, "TERM": "xterm", "BERTH_PORT": str(stub.port)}, self.home)
            except OSError:
                self.skipTest("there are no pseudo-terminals here: Ctrl-C was NOT tried")
            t.until("of 1.00 kB")
            began = time.monotonic()
            t.type("\x03")
            status = t.wait()
            out = t.all.decode().replace("\r\n", "\n")
            t.close()
        self.assertEqual(status, 130, out)
        self.assertLess(time.monotonic() - began, 5 * SLOW)
        self.assertEqual(screen(out)[-1], "berth: interrupted; `berth pull smollm2` goes on where it stopped")


class Lines(CliCase):
    def with_stub(self, stub, *args, **kw):
        return self.berth(*args, BERTH_PORT=str(stub.port), **kw)

    def test_quick_one_is_two_lines(self):
        with ManagerStub(course=[progress(A, 0, 10, 10), progress(A, 10, 10, 10), DONE]) as stub:
            rc, out, err = self.with_stub(stub, "pull", "smollm2")
            self.assertEqual((rc, err), (0, ""))
            self.assertRegex(out, rf"^pulled docker\.io/ai/smollm2:latest \(10 B in (under a second|\d+ s), [\d.]+ k?B/s\)\n{ID}\n$")
            self.assertEqual(self.with_stub(stub, "pull", "-q", "smollm2"), (0, ID + "\n", ""))
            self.assertEqual(stub.asked("POST", "/berth/v1/pull"), [{"model": "smollm2"}] * 2)

    def test_the_hubs_token_goes_to_the_hub(self):
        with ManagerStub(course=[DONE]) as stub:
            for ref in ("smollm2", "hf.co/org/name:Q4_K_M", "evil.example/hf.co/x"):
                self.with_stub(stub, "pull", "-q", ref, HF_TOKEN="hf_secret", HUGGING_FACE_HUB_TOKEN="hf_older")
            self.with_stub(stub, "pull", "-q", "hf.co/org/name", HUGGING_FACE_HUB_TOKEN="hf_older")
            bodies = stub.asked("POST", "/berth/v1/pull")
        self.assertEqual(bodies, [{"model": "smollm2"}, {"model": "hf.co/org/name:Q4_K_M", "token": "hf_secret"},
                                  {"model": "evil.example/hf.co/x"}, {"model": "hf.co/org/name", "token": "hf_older"}])

    def test_cached(self):
        with ManagerStub(course=[success("Using cached model: 256.35MiB", id=ID, name="docker.io/ai/smollm2:latest")]) as stub:
            rc, out, _ = self.with_stub(stub, "pull", "smollm2")
        self.assertEqual((rc, out), (0, f"docker.io/ai/smollm2:latest is up to date\n{ID}\n"))

    def test_json_is_the_events(self):
        events = [progress(A, 5, 10, 10), {"type": "warning", "message": "mind", "total": 0, "layer": {"size": 0, "current": 0}, "mode": "pull"},
                  DONE]
        with ManagerStub(course=events) as stub:
            rc, out, err = self.with_stub(stub, "pull", "smollm2", "--json")
        self.assertEqual((rc, err, [json.loads(x) for x in out.splitlines()]), (0, "", events))

    def test_what_goes_wrong(self):
        error = {"type": "error", "message": "Error: the registry has no such model", "total": 0,
                 "layer": {"size": 0, "current": 0}, "mode": "pull"}
        for steps, sentence in (
                ([progress(A, 1, 10, 10), error], "the registry has no such model"),
                ([b"<html>", b"<h1>502 Bad Gateway</h1>"], r"is no berth daemon; it answered: <html> <h1>502 Bad Gateway"),
                ([progress(A, 1, 10, 10)], "the daemon broke pulling smollm2 off"),
                ([b'{"type": "progress", "total": -5, "layer": {"id": 7, "size": "x", "current": null}}'],
                 "the daemon broke pulling smollm2 off"),
                ([b"x" * (5 << 20)], "a line of more than")):
            with ManagerStub(course=steps) as stub:
                rc, out, err = self.with_stub(stub, "pull", "smollm2")
            self.assertEqual((rc, out), (1, ""), steps)
            self.assertRegex(err, rf"^berth: .*{sentence}.*\n$")

    def test_whose_credentials_are_wanted(self):
        """The hint at the daemon's own key belongs to the daemon's refusal, not to a registry's."""
        with Registry(auth="basic") as r:
            self.refused(1, rf"log in with `docker login {r.host}`$", "pull", f"{r.host}/ai/x:v1")

    def test_notes_stand_above(self):
        warning = {"type": "warning", "message": "this model's format has no engine here", "total": 0,
                   "layer": {"size": 0, "current": 0}, "mode": "pull"}
        with ManagerStub(course=[warning, DONE]) as stub:
            rc, _, err = self.with_stub(stub, "pull", "smollm2")
        self.assertEqual((rc, err), (0, "berth: this model's format has no engine here\n"))

    def test_interrupt(self):
        with ManagerStub(course=[progress(A, 1, 1000, 1000), 60 * SLOW]) as stub:
            p = subprocess.Popen([BERTH, "push", "smollm2"], env={**self.env, "BERTH_PORT": str(stub.port)},
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            while not stub.asked("POST", "/berth/v1/push"):
                time.sleep(0.02)
            time.sleep(0.2)
            p.send_signal(signal.SIGINT)
            out, err = p.communicate(timeout=LIMIT_S)
        self.assertEqual((p.returncode, out, err),
                         (130, b"", b"berth: interrupted; `berth push smollm2` goes on where it stopped\n"))

    def test_load_streams(self):
        tar = os.path.join(self.home, "m.tar")
        data = os.urandom(300_000)
        with open(tar, "wb") as f:
            f.write(data)
        answer = [success(f"Model loaded successfully: {ID}")]
        with ManagerStub(course=answer, answers={("POST", f"/models/{ID}/tag"): {"message": "", "target": ""}}) as stub:
            rc, out, err = self.with_stub(stub, "load", "-i", "m.tar")
            self.assertEqual((rc, out, err), (0, f"loaded {ID}\n", ""))
            rc, out, err = self.with_stub(stub, "load", "reg.example/m:v1", stdin=data)  # a pipe: in chunks
            self.assertEqual((rc, out, err), (0, f"loaded reg.example/m:v1\n{ID}\n", ""))
            bodies = [b for m, p, b in stub.requests if p == "/models/load"]
            self.assertEqual(bodies, [data, data])
            self.assertIn(f"/models/{ID}/tag?repo=reg.example%2Fm&tag=v1", [p for m, p, _ in stub.requests])
            rc, _, err = self.with_stub(stub, "load", "-i", "nowhere.tar")
            self.assertEqual((rc, err), (1, "berth: opening nowhere.tar: No such file or directory\n"))
            rc, _, err = self.with_stub(stub, "load", "-i", ".")
            self.assertIn("is a folder", err)

    def test_verify(self):
        what = "its bytes are not those of its digest"
        finding = {"type": "warning", "message": what, "finding": {"digest": A, "name": "docker.io/ai/x:latest", "what": what}}
        end = {"type": "success", "findings": 1, "blob_bytes": 5000, "repaired": False}
        with ManagerStub(course=[{"type": "progress", "done": 1, "total": 5000}, finding, end]) as stub:
            rc, out, err = self.with_stub(stub, "verify")
        self.assertEqual((rc, err), (1, ""))
        self.assertEqual(out, f"docker.io/ai/x:latest {A}: its bytes are not those of its digest\n"
                              "5.00 kB verified, 1 thing is wrong; `berth verify --repair` removes what is corrupt\n")
        with ManagerStub(course=[{**end, "findings": 0}]) as stub:
            self.assertEqual(self.with_stub(stub, "verify"), (0, "5.00 kB verified, nothing wrong\n", ""))


if __name__ == "__main__":
    unittest.main()
