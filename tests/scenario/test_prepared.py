#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepared weights (docs/STORE.md): made once in the background, used from the moment they are there and after every restart, with the
same answers; and nothing but speed is lost when they cannot be made."""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import BERTH, MODELS, SLOW, Daemon, wait_until  # noqa: E402



def level():
    """One that has the layout for all types: AVX2, else plain C, which takes ten times as long."""
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return "avx2" if " avx2 " in f.read() else "ref"


LEVEL = ["--cpu", level(), "--threads", "1"]
PAD = int((1 << 20) / SLOW)
ASKED = ({"prompt": "hello", "max_tokens": 30, "temperature": 0, "ignore_eos": True, "seed": 1},
         {"prompt": "one two", "max_tokens": 30, "temperature": 1.2, "ignore_eos": True, "seed": 7, "n": 3})


def berth(d, *args):
    env = dict(d.env, BERTH_URL=f"http://127.0.0.1:{d.port}", BERTH_AUTOSTART="no")
    return subprocess.run([BERTH, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120 * SLOW)


def preparer(pid):
    """The process that prepares, of this daemon, or None."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as f:
                children = f.read().split()
            for child in children:
                with open(f"/proc/{child}/cmdline", "rb") as f:
                    if b"--prepare" in f.read().split(b"\0"):
                        return int(child)
        except OSError:
            continue
    return None


class Prepared(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="berth-prepared-")
        self.addCleanup(self.folder.cleanup)
        tiny_gguf.write(os.path.join(self.folder.name, "tiny.gguf"), q8=True, pad_bytes=PAD)
        self.d = None

    def daemon(self, *args, like=None, env=None):
        """One with the folder's model; like: in the home of an earlier one."""
        d = Daemon(models_dir=self.folder.name, args=[*LEVEL, *args], env=env, timeout=120 * SLOW)
        if like:
            shutil.rmtree(d.state)
            d.state, d.env = like.state, dict(like.env, **(env or {}))
        d.start()
        self.addCleanup(shutil.rmtree, d.state, True)
        self.addCleanup(d.stop)
        return d

    def files(self, d):
        folder = os.path.join(d.state, ".local", "share", "berth", "store", "prepared")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def path(self, d, name):
        return os.path.join(d.state, ".local", "share", "berth", "store", "prepared", name)

    def load(self, d, model="tiny"):
        status, _, answer = d.post("/berth/v1/load", {"model": model})
        self.assertEqual(status, 200, answer)

    def unload(self, d, model="tiny"):
        d.post("/berth/v1/unload", {"model": model})
        self.assertTrue(wait_until(lambda: self.info(d, model)["state"] == "idle"))

    def info(self, d, model="tiny"):
        return d.get(f"/berth/v1/models/{model}")[2]

    def prepared(self, d, what="yes", model="tiny", of="prepared"):
        ok = wait_until(lambda: self.info(d, model).get(of) == what)
        self.assertTrue(ok, f"{self.info(d, model).get(of)}\n{d.output()}")

    def drafts(self, d, what="yes", model="tiny"):
        self.prepared(d, what, model, "draft_prepared")

    def logged(self, d, text):
        self.assertTrue(wait_until(lambda: text in d.output()), f"{text}\n{d.output()}")

    def answers(self, d, model="tiny"):
        out = []
        for body in ASKED:
            status, _, answer = d.post("/v1/completions", {"model": model, "logprobs": 2, **body})
            self.assertEqual(status, 200, answer)
            out.append([(c["text"], c["finish_reason"], c["logprobs"]) for c in answer["choices"]])
        return out

    def plain(self):
        """The answers without."""
        d = self.daemon("--no-prepare")
        out = self.answers(d)
        self.assertEqual(self.info(d)["prepared"], "off")
        self.assertEqual(self.files(d), [])
        self.assertEqual(d.stop(), 0)
        return out

    def metric(self, d, name):
        for line in d.request("GET", "/metrics")[2].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    def caught(self, d):
        """The preparing process, held still."""
        pid = []

        def catch():
            p = preparer(d.pid)
            if p is None:
                return False
            try:
                os.kill(p, signal.SIGSTOP)
            except ProcessLookupError:
                return False
            pid.append(p)
            return True

        self.assertTrue(wait_until(catch, step=0.001), d.output())
        return pid[0]

    def big(self, name="big"):
        """A model that takes a while to prepare."""
        tiny_gguf.write(os.path.join(self.folder.name, name + ".gguf"), q8=True, pad_bytes=int((24 << 20) / SLOW), seed=5)
        return name

    def test_made_once_and_used_from_then_on(self):
        plain = self.plain()
        d = self.daemon()
        self.load(d)
        self.prepared(d)
        self.assertEqual(self.answers(d), plain)
        self.assertEqual(self.answers(d), plain)
        info = self.info(d)
        name = "sha256-" + info["digest"].removeprefix("sha256:") + ".v1"
        self.assertEqual(self.files(d), [name])
        size = os.stat(self.path(d, name)).st_size
        self.assertEqual(size, info["prepared_bytes"])
        self.assertEqual(os.stat(self.path(d, name)).st_mode & 0o777, 0o444)
        self.assertEqual(self.metric(d, "berth_prepared_total"), 1)
        self.assertEqual(self.metric(d, "berth_prepare_failures_total"), 0)
        self.assertEqual(self.metric(d, "berth_store_prepared_bytes"), size)
        self.assertRegex(berth(d, "inspect", "tiny").stdout, r"prepared +yes, ")
        self.assertRegex(berth(d, "df").stdout, r"(?m)^prepared +1 ")
        df = d.get("/berth/v1/df")[2]
        self.assertEqual((df["prepared"], df["prepared_bytes"]), (1, size))
        with open(self.path(d, name), "rb") as f:
            made = f.read()
        self.unload(d)
        self.load(d)  # LOAD takes it along
        self.assertEqual(self.info(d)["prepared"], "yes")
        self.assertEqual(self.answers(d), plain)
        self.assertEqual(d.stop(), 0)
        d = self.daemon(like=d)
        self.load(d)
        self.assertEqual(self.info(d)["prepared"], "yes")
        self.assertEqual(self.answers(d), plain)
        self.assertEqual(self.metric(d, "berth_prepared_total"), 0)
        with open(self.path(d, name), "rb") as f:
            self.assertEqual(f.read(), made)
        d.post("/berth/v1/prune", {})
        self.assertEqual(self.files(d), [name])  # it is loaded
        self.unload(d)
        freed = d.post("/berth/v1/prune", {})[2]["freed_bytes"]
        self.assertEqual((freed, self.files(d)), (size, []))

    def test_off(self):
        d = self.daemon(env={"BERTH_NO_PREPARE": "yes"})
        self.load(d)
        time.sleep(0.3)
        self.assertEqual((self.info(d)["prepared"], self.files(d)), ("off", []))
        tiny_gguf.write(os.path.join(self.folder.name, "plain.gguf"))
        self.assertEqual(d.stop(), 0)
        d = self.daemon(like=d, env={"BERTH_NO_PREPARE": "no"})
        self.load(d, "plain")  # float32: nothing to gain
        self.assertEqual(self.info(d, "plain")["prepared"], "none")
        self.load(d)
        self.prepared(d)

    def declare(self, d, model="tiny", **settings):
        status, _, answer = d.post("/berth/v1/configure", {"model": model, "settings": {k.replace("_", "-"): v for k, v in settings.items()}})
        self.assertEqual(status, 200, answer)

    def test_off_for_one_model(self):
        name = self.big()
        tiny_gguf.write(os.path.join(self.folder.name, "other.gguf"), q8=True, pad_bytes=PAD, seed=3)
        plain = self.plain()
        d = self.daemon()
        self.declare(d, no_prepare=True)
        self.load(d)
        self.load(d, "other")  # the others are
        self.prepared(d, model="other")
        self.assertEqual((self.info(d)["prepared"], self.info(d)["settings"]), ("off", {"no-prepare": True}))
        self.assertEqual(len(self.files(d)), 1)
        self.assertEqual(self.answers(d), plain)
        self.assertRegex(berth(d, "inspect", "tiny").stdout, r"prepared +off\n")
        self.assertRegex(berth(d, "configure", "show").stdout, r"(?m)^tiny +no-prepare +true$")
        self.assertEqual(d.stop(), 0)
        d = self.daemon(like=d)  # kept across restarts
        self.load(d)
        self.assertEqual(self.info(d)["prepared"], "off")
        p = berth(d, "configure", "tiny", "--unset", "no-prepare")
        self.assertEqual(p.returncode, 0, p.stdout)
        self.load(d)
        self.prepared(d)
        self.assertEqual(len(self.files(d)), 2)
        self.unload(d)
        p = berth(d, "configure", "tiny", "--no-prepare")  # takes away what is there
        self.assertEqual((p.returncode, len(self.files(d))), (0, 1), p.stdout)
        self.load(d)
        self.assertEqual((self.info(d)["prepared"], len(self.files(d))), ("off", 1))
        self.assertEqual(self.answers(d), plain)
        self.load(d, name)  # and what is on its way
        pid = self.caught(d)
        self.declare(d, name, no_prepare=True)
        os.kill(pid, signal.SIGCONT)
        self.assertTrue(wait_until(lambda: preparer(d.pid) is None and len(self.files(d)) == 1), self.files(d))
        self.assertEqual(d.output().count("were not prepared"), 0)
        self.declare(d, name, no_prepare=None)
        self.load(d, name)
        self.prepared(d, model=name)
        self.assertEqual(d.stop(), 0)
        d = self.daemon(like=d)
        self.declare(d, name, no_prepare=True)  # not loaded since the start, its digest known from before
        self.assertEqual(len(self.files(d)), 1)

    def test_on_for_one_model_alone(self):
        tiny_gguf.write(os.path.join(self.folder.name, "other.gguf"), q8=True, pad_bytes=PAD, seed=3)
        d = self.daemon("--no-prepare")
        self.load(d)
        p = berth(d, "configure", "other", "--prepare")
        self.assertEqual(p.returncode, 0, p.stdout)
        self.load(d, "other")
        self.prepared(d, model="other")
        self.assertEqual((self.info(d)["prepared"], len(self.files(d))), ("off", 1))
        status, _, answer = d.post("/engines/_configure", {"model": "other", "runtime-flags": ["--no-repack"]})
        self.assertEqual(status, 202, answer)
        self.load(d, "other")
        self.assertEqual((self.info(d, "other")["prepared"], self.files(d)), ("off", []))

    def stream(self, d, model, out, body):
        text = [""] * body.get("n", 1)
        for e in d.stream("/v1/completions", {"model": model, "stream": True, **body}):
            for c in e.json.get("choices", []) if e.data.startswith("{") else []:
                text[c["index"]] += c["text"]
        out[id(body)] = text

    def test_answers_under_way_go_on(self):
        name = self.big()
        bodies = [{"prompt": "hello", "max_tokens": 64, "temperature": 0, "ignore_eos": True, "seed": 1},
                  {"prompt": "a b c", "max_tokens": 64, "temperature": 1.3, "ignore_eos": True, "seed": 9, "n": 2}]
        texts = []
        for args in (["--no-prepare"], []):
            d = self.daemon(*args)
            self.load(d, name)
            pid = None if args else self.caught(d)
            out = {}
            threads = [threading.Thread(target=self.stream, args=(d, name, out, b)) for b in bodies]
            for t in threads:
                t.start()
            if pid:
                self.assertTrue(wait_until(lambda: self.info(d, name)["n_running"] == 2))
                self.assertRegex(self.info(d, name)["prepared"], r"^\d+ %$")
                os.kill(pid, signal.SIGCONT)
                self.prepared(d, model=name)
                self.assertEqual(self.info(d, name)["n_running"], 2)  # in the middle of both
            for t in threads:
                t.join()
            texts.append([out[id(b)] for b in bodies])
            self.assertEqual(d.stop(), 0)
        self.assertEqual(texts[0], texts[1])
        self.assertTrue(all(len(t) == 64 for b in texts[1] for t in b), texts[1])

    def test_a_process_that_dies_is_told_and_not_tried_again(self):
        name = self.big()
        d = self.daemon()
        self.load(d, name)
        os.kill(self.caught(d), signal.SIGKILL)
        self.logged(d, "its weights were not prepared, it runs from its file: preparing the weights: its worker was killed by SIGKILL")
        self.assertEqual((self.info(d, name)["prepared"], self.files(d)), ("no", []))
        self.answers(d, name)
        self.unload(d, name)
        self.load(d, name)
        self.answers(d, name)
        self.assertEqual(d.output().count("were not prepared"), 1)
        self.assertEqual(self.info(d, name)["prepared"], "no")
        self.assertEqual(self.metric(d, "berth_prepare_failures_total"), 1)
        self.load(d)  # others are
        self.prepared(d)

    def test_killed_at_any_moment(self):
        name = self.big()
        rng = random.Random(4)
        d = self.daemon()
        for i in range(4 if SLOW == 1 else 2):
            self.load(d, name)
            if i % 2:
                self.caught(d)
            else:
                time.sleep(rng.random() * 0.4)
            d.stop(signal.SIGKILL)
            d = self.daemon(like=d)
            self.assertFalse([f for f in self.files(d) if not f.endswith(".v1")], self.files(d))
            for f in self.files(d):
                shutil.move(self.path(d, f), os.path.join(self.folder.name, "made"))
        self.load(d, name)
        self.prepared(d, model=name)
        made = os.path.join(self.folder.name, "made")
        if os.path.exists(made):  # one that was whole before a kill has the very bytes
            with open(made, "rb") as a, open(self.path(d, self.files(d)[0]), "rb") as b:
                self.assertEqual(a.read(), b.read())

    def test_stopping_and_unloading_meanwhile(self):
        name = self.big()
        d = self.daemon()
        self.load(d, name)
        pid = self.caught(d)
        self.unload(d, name)
        os.kill(pid, signal.SIGCONT)
        self.assertTrue(wait_until(lambda: len(self.files(d)) == 1 and self.files(d)[0].endswith(".v1")))  # for the next load
        self.load(d, name)
        self.assertEqual(self.info(d, name)["prepared"], "yes")
        self.unload(d, name)
        os.unlink(self.path(d, self.files(d)[0]))
        self.load(d, name)
        self.caught(d)
        self.assertEqual(d.stop(), 0)
        self.assertEqual(self.files(d), [])

    def test_files_that_are_not_its_own(self):
        plain = self.plain()
        d = self.daemon()
        self.load(d)
        self.prepared(d)
        name = self.files(d)[0]
        self.unload(d)
        size = os.stat(self.path(d, name)).st_size
        for wrong in (b"", b"x" * 100, b"\0" * size):
            os.unlink(self.path(d, name))
            with open(self.path(d, name), "wb") as f:
                f.write(wrong)
            n = d.output().count("are not its own and were deleted")
            self.load(d)
            self.assertTrue(wait_until(lambda: d.output().count("are not its own and were deleted") == n + 1))
            self.prepared(d)
            self.assertEqual(self.answers(d), plain)
            self.assertEqual(os.stat(self.path(d, name)).st_size, size)
            self.unload(d)
        self.assertEqual(d.stop(), 0)
        for left in (name + ".part", name.removesuffix(".v1") + ".v0", name.removesuffix(".v1") + ".v2"):
            shutil.copy(self.path(d, name), self.path(d, left))
        d = self.daemon(like=d)
        self.assertEqual(self.files(d), [name])

    def test_with_a_model_of_the_store(self):
        d = self.daemon()
        p = berth(d, "package", "--gguf", os.path.join(self.folder.name, self.big() + ".gguf"), "local/big:v1")
        self.assertEqual(p.returncode, 0, p.stdout)
        self.load(d, "local/big:v1")
        pid = self.caught(d)
        self.assertEqual(d.request("DELETE", "/models/local/big:v1")[0], 200)
        os.kill(pid, signal.SIGCONT)
        self.assertTrue(wait_until(lambda: preparer(d.pid) is None and self.files(d) == []), self.files(d))
        p = berth(d, "package", "--gguf", os.path.join(self.folder.name, "tiny.gguf"), "local/tiny:v1")
        self.assertEqual(p.returncode, 0, p.stdout)
        self.load(d, "local/tiny:v1")
        self.prepared(d, model="local/tiny:v1")
        self.assertEqual(len(self.files(d)), 1)
        digest = self.info(d, "local/tiny:v1")["digest"].removeprefix("sha256:")
        self.assertEqual(self.files(d), [f"sha256-{digest}.v1"])
        self.unload(d, "local/tiny:v1")
        d.post("/berth/v1/prune", {})
        self.assertEqual(len(self.files(d)), 1)  # it is in the store
        self.load(d, "local/tiny:v1")
        self.assertEqual(self.info(d, "local/tiny:v1")["prepared"], "yes")
        self.assertEqual(d.request("DELETE", "/models/local/tiny:v1")[0], 200)
        self.assertEqual(self.files(d), [])

    def draft(self, name="small", pad_bytes=PAD // 2):
        """A model that guesses for the others."""
        tiny_gguf.write(os.path.join(self.folder.name, name + ".gguf"), q8=True, pad_bytes=pad_bytes, seed=11)
        return name

    def files_of(self, d, *models):
        return sorted(f"sha256-{self.info(d, m)['digest'].removeprefix('sha256:')}.v1" for m in models)

    def test_a_draft_model(self):
        plain = self.plain()
        name = self.draft()
        d = self.daemon()
        self.declare(d, speculative_draft_model=name)
        self.load(d)
        self.prepared(d)
        self.drafts(d)
        self.assertEqual(self.answers(d), plain)
        self.assertTrue(wait_until(lambda: self.info(d)["n_drafted"] > 0))
        self.assertEqual(len(self.files(d)), 2)
        self.load(d, name)  # where it is the model, it has the same file, at once
        self.assertEqual(self.info(d, name)["prepared"], "yes")
        self.assertEqual(self.files(d), self.files_of(d, "tiny", name))
        info = self.info(d)
        self.assertEqual(info["draft_prepared_bytes"], self.info(d, name)["prepared_bytes"])
        self.assertNotIn("draft_prepared", self.info(d, name))
        self.assertEqual(self.metric(d, "berth_prepared_total"), 2)
        self.assertRegex(berth(d, "inspect", "tiny").stdout, r"draft prepared +yes, ")
        self.assertIn("): guesses from prepared weights", d.output())
        self.unload(d, name)
        d.post("/berth/v1/prune", {})
        self.assertEqual(len(self.files(d)), 2)  # it still guesses
        self.assertEqual(d.stop(), 0)
        d = self.daemon(like=d)
        self.load(d)  # LOAD takes both along
        info = self.info(d)
        self.assertEqual((info["prepared"], info["draft_prepared"]), ("yes", "yes"))
        self.assertEqual(self.answers(d), plain)
        self.assertEqual(self.metric(d, "berth_prepared_total"), 0)
        self.unload(d)
        d.post("/berth/v1/prune", {})
        self.assertEqual(self.files(d), [])

    def test_a_draft_model_by_its_path_which_was_a_model_before(self):
        name = self.draft()
        d = self.daemon("--speculative-draft-model", os.path.join(self.folder.name, name + ".gguf"))
        self.load(d, name)
        self.prepared(d, model=name)
        self.load(d)
        info = self.info(d)
        self.assertEqual(info["draft_prepared"], "yes")
        self.prepared(d)
        self.declare(d, speculative_draft_model="tiny")  # itself: one file, used twice
        self.load(d)
        info = self.info(d)
        self.assertEqual((info["prepared"], info["draft_prepared"]), ("yes", "yes"))
        self.assertEqual(len(self.files(d)), 2)

    def test_a_draft_model_under_way(self):
        name = self.draft(pad_bytes=int((24 << 20) / SLOW))
        big = self.big()
        body = {"prompt": "hello", "max_tokens": 24, "temperature": 0.8, "ignore_eos": True, "seed": 1}
        texts = []
        for args in (["--no-prepare"], []):
            d = self.daemon(*args)
            out = {}
            if not args:
                self.load(d, big)
                self.prepared(d, model=big)
            self.declare(d, big, speculative_draft_model=name)
            self.load(d, big)
            pid = None if args else self.caught(d)
            t = threading.Thread(target=self.stream, args=(d, big, out, body))
            t.start()
            if pid:
                self.assertTrue(wait_until(lambda: self.info(d, big)["n_running"] == 1))
                info = self.info(d, big)
                self.assertEqual(info["prepared"], "yes")
                self.assertRegex(info["draft_prepared"], r"^\d+ %$")
                os.kill(pid, signal.SIGCONT)
                self.drafts(d, model=big)
                self.assertEqual(self.info(d, big)["n_running"], 1)
            t.join()
            texts.append(out[id(body)])
            self.assertEqual(d.stop(), 0)
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(len(texts[1][0]), 24)

    def test_a_draft_model_that_cannot_be_prepared(self):
        name = self.draft(pad_bytes=int((24 << 20) / SLOW))
        plain = self.plain()
        d = self.daemon()
        self.load(d)
        self.prepared(d)
        self.declare(d, speculative_draft_model=name)
        self.load(d)
        os.kill(self.caught(d), signal.SIGKILL)
        self.logged(d, f"model {name}: its weights were not prepared, it runs from its file: ")
        self.drafts(d, "no")
        self.assertEqual(self.info(d)["prepared"], "yes")
        self.assertEqual(self.answers(d), plain)
        for i in range(3 if SLOW == 1 else 1):  # the daemon is killed meanwhile
            d.stop(signal.SIGKILL)
            d = self.daemon(like=d)
            self.load(d)
            self.caught(d)
        d.stop(signal.SIGKILL)
        d = self.daemon(like=d)
        self.assertEqual(len(self.files(d)), 1)
        self.load(d)
        self.drafts(d)
        self.assertEqual(self.answers(d), plain)
        self.load(d, name)
        wrong = self.files_of(d, name)[0]  # not its own: deleted and made again
        size = os.stat(self.path(d, wrong)).st_size
        self.unload(d)
        self.unload(d, name)
        os.unlink(self.path(d, wrong))
        with open(self.path(d, wrong), "wb") as f:
            f.write(b"\0" * size)
        self.load(d)
        self.logged(d, f"model {name}: the prepared weights in the store are not its own and were deleted")
        self.drafts(d)
        self.assertEqual(self.answers(d), plain)
        self.assertEqual(d.output().count("were deleted"), 1)

    def test_a_draft_model_of_the_store(self):
        d = self.daemon()
        for model in ("v1", "v2"):
            path = os.path.join(self.folder.name, self.draft("draft" + model, int((12 << 20) / SLOW)) + ".gguf")
            p = berth(d, "package", "--gguf", path, "--context-size", "512" if model == "v1" else "1024", "local/draft:" + model)
            self.assertEqual(p.returncode, 0, p.stdout)
        self.declare(d, speculative_draft_model="local/draft:v1")
        self.load(d)
        self.prepared(d)
        self.drafts(d)
        self.assertEqual(len(self.files(d)), 2)
        self.unload(d)
        d.post("/berth/v1/prune", {})
        self.assertEqual(len(self.files(d)), 1)  # it is in the store
        self.load(d)
        self.assertEqual(self.info(d)["draft_prepared"], "yes")
        self.prepared(d)
        self.assertEqual(d.request("DELETE", "/models/local/draft:v1")[0], 200)
        self.assertEqual(self.files(d), self.files_of(d, "tiny"))
        self.declare(d, speculative_draft_model="local/draft:v2")
        self.load(d)
        pid = self.caught(d)
        self.assertEqual(d.request("DELETE", "/models/local/draft:v2")[0], 200)
        os.kill(pid, signal.SIGCONT)
        self.assertTrue(wait_until(lambda: preparer(d.pid) is None and len(self.files(d)) == 1), self.files(d))

    def test_a_draft_model_off(self):
        name = self.draft(pad_bytes=int((24 << 20) / SLOW))
        d = self.daemon("--no-prepare")
        self.declare(d, speculative_draft_model=name)
        self.load(d)
        time.sleep(0.3)
        info = self.info(d)
        self.assertEqual((info["prepared"], info["draft_prepared"], self.files(d)), ("off", "off", []))
        self.assertEqual(d.stop(), 0)
        d = self.daemon(like=d)
        self.declare(d, no_prepare=True)  # of the model: then of what guesses for it, too
        self.load(d)
        time.sleep(0.3)
        info = self.info(d)
        self.assertEqual((info["prepared"], info["draft_prepared"], self.files(d)), ("off", "off", []))
        self.declare(d, no_prepare=None)
        self.declare(d, name, no_prepare=True)  # of what guesses alone
        self.load(d)
        self.prepared(d)
        self.assertEqual(self.info(d)["draft_prepared"], "off")
        self.assertEqual(len(self.files(d)), 1)
        self.declare(d, name, no_prepare=None)
        self.unload(d)
        self.load(d)
        pid = self.caught(d)
        self.declare(d, no_prepare=True)  # while it is made
        os.kill(pid, signal.SIGCONT)
        self.assertTrue(wait_until(lambda: preparer(d.pid) is None and self.files(d) == []), self.files(d))
        self.assertEqual(d.output().count("were not prepared"), 0)

    def test_a_draft_model_that_is_left_away(self):
        stories = os.path.join(MODELS, "stories.gguf")
        d = self.daemon("--speculative-draft-model", stories)
        self.load(d)
        self.prepared(d)
        self.assertIn("draft_refusal", self.info(d))
        self.assertNotIn("draft_prepared", self.info(d))
        self.assertEqual(len(self.files(d)), 1)
        self.assertEqual(d.stop(), 0)

    def test_no_room(self):
        room = os.path.join(self.folder.name, "room")
        os.mkdir(room)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", room], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("no tmpfs may be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", room])
        d = self.daemon("--store", os.path.join(room, "store"))
        self.load(d)
        self.logged(d, "it runs from its file: ")
        self.assertRegex(d.output(), r"[\d.]+ MB of prepared weights and a spare of 268 MB do not fit in the 1\d\d MB that are free")
        self.assertEqual(self.info(d)["prepared"], "no")
        self.assertEqual(os.listdir(os.path.join(room, "store", "prepared")), [])
        self.answers(d)


if __name__ == "__main__":
    unittest.main()
