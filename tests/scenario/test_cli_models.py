# SPDX-License-Identifier: Apache-2.0
"""The commands that move models, with a real daemon and a registry on loopback: package, push, pull, run, tag, rm, export, load,
verify, lock; what they print, and that the same files give the same digest everywhere."""
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, MODELS, ROOT  # noqa: E402
from cli_case import STORY, CliCase  # noqa: E402
from registry_server import Registry  # noqa: E402

STORIES = os.path.join(MODELS, "stories.gguf")
DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class Models(CliCase):
    def setUp(self):
        super().setUp()
        shutil.copy(STORIES, os.path.join(self.home, "stories.gguf"))
        shutil.copy(os.path.join(ROOT, "LICENSE"), os.path.join(self.home, "LICENSE"))

    def package(self, name, *args):
        """The digest."""
        out = self.ok("package", "--gguf", "stories.gguf", *args, name)
        first, digest = out.splitlines()
        self.assertRegex(first, rf"^packaged {re.escape(name)} \(1\.\d+ MB\)$")
        self.assertRegex(digest, DIGEST)
        return digest

    def tell(self, *model):
        return self.ok("run", *model, "Once upon a time", "-t", "0", "-n", "20")

    def test_round(self):
        """Packaged, pushed, removed, pulled back by digest, run."""
        with Registry() as r:
            name = f"{r.host}/team/stories:v1"
            digest = self.package(name, "--license", "LICENSE", "--context-size", "1024")
            shown = json.loads(self.ok("show", name, "--json"))
            self.assertEqual((shown["id"], shown["tags"]), (digest, [name]))
            config = shown["config"]
            self.assertEqual((config["format"], config["architecture"], config["parameters"], config["quantization"], config["size"],
                              config["context_size"], config["gguf"]["llama.block_count"]),
                             ("gguf", "llama", "292.80K", "F32", "1.13MiB", 1024, "5"))
            out = self.ok("push", name).splitlines()
            self.assertRegex(out[0], rf"^pushed {name} \(1\.\d+ MB in .*\)$")
            self.assertEqual(out[1], digest)
            self.assertEqual(self.ok("rm", name), f"untagged {name}\ndeleted {digest}\n")
            self.assertEqual(self.ok("list", "-q").split(), ["stories", "stories-chat"])
            by_digest = f"{r.host}/team/stories@{digest}"
            self.assertEqual(self.ok("pull", by_digest).splitlines()[1], digest)
            self.assertEqual(self.tell(by_digest)[:40], STORY[:40])
            # The same bytes under their name: nothing is fetched again.
            self.assertEqual(self.ok("pull", name), f"{name} is up to date\n{digest}\n")
            self.assertRegex(self.ok("list"), rf"(?m)^{name} +1\.\d+ MB +\d+ seconds? ago +\w+ +{digest[:19]}$")
            self.assertRegex(self.ok("inspect", name), rf"(?s)^names +{name}\ndigest +{digest}\n.*format +gguf\n.*context +1024 tokens\n")
            self.assertEqual(json.loads(self.ok("inspect", name, "--remote", "--json"))["id"], digest)
            self.assertRegex(self.ok("df"), r"(?m)^store +4 +1\.\d+ MB ")
            self.assertRegex(self.ok("verify"), r"^1\.\d+ MB verified, nothing wrong\n$")
            events = [json.loads(x) for x in self.ok("verify", "--json").splitlines()]
            self.assertEqual((events[-1]["type"], events[-1]["findings"]), ("success", 0))

    def test_readme(self):
        """The README's round, word for word but for the registry and its address."""
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as f:
            block = re.search(r"```sh\n[^`]*?^docker-registry serve [^\n]*\n(berth package .*?)```", f.read(), re.S | re.M).group(1)
        self.assertEqual([x.split()[1] for x in block.splitlines()], ["package", "push", "rm", "pull", "run"])
        folder = os.path.join(self.home, "bin")
        os.mkdir(folder)
        os.symlink(BERTH, os.path.join(folder, "berth"))
        with Registry() as r:
            p = subprocess.run(["sh", "-ec", block.replace("localhost:5001", r.host)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**self.env, "PATH": folder + ":" + self.env["PATH"]})
        self.assertEqual(p.returncode, 0, p.stderr)
        self.assertEqual(p.stdout.decode().splitlines()[-1][:40], STORY[:40])

    def test_run_pulls_what_can_only_be_there(self):
        with Registry() as r:
            name = f"{r.host}/team/stories:v1"
            self.package(name, "--push")
            self.ok("rm", "-f", name)
            self.refused(1, "no model is called", "run", "--pull", "never", name, "x")
            rc, out, err = self.berth("run", name, "Once upon a time", "-t", "0", "-n", "20")
            self.assertEqual((rc, out[:40]), (0, STORY[:40]))
            self.assertEqual(err.splitlines()[:2], [f"berth: {name} is not here; pulling it", "berth: Model pulled successfully"])
            self.refused(1, "no model is called 'storis'", "run", "storis", "x")  # may be a slip: nobody is asked
            rc, _, err = self.berth("run", f"{r.host}/team/none:v1", "x")
            self.assertEqual(rc, 1)
            self.assertRegex(err, r"is not here; pulling it\nberth: .*404")
            asked = [x for x in r.requests if "/none/" in str(x)]
            self.assertTrue(asked)

    def test_names(self):
        digest = self.package("mine")
        self.assertEqual(self.ok("tag", "mine", "mine:two"), "mine is now mine:two too\n")
        self.ok("tag", digest, "reg.example/team/x")
        self.assertEqual(self.ok("list", "-q").split()[:3], ["ai/mine", "ai/mine:two", "reg.example/team/x"])
        self.refused(1, "3 names point to the model", "rm", digest)
        self.refused(1, "there is no model 'nosuch' in the store; `berth list`", "rm", "nosuch")
        self.refused(1, "there is no model 'nosuch' in the store; `berth list`", "push", "nosuch")
        self.refused(1, "'stories' is the file /.*, and no model of the store: `berth inspect stories`", "show", "stories")
        self.refused(1, "no name that a model can be given", "tag", "mine", "a@b")
        other = self.package("mine", "--context-size", "77")  # the name leaves the first
        self.assertNotEqual(other, digest)
        self.ok("rm", "mine:two", "reg.example/team/x")
        out = self.ok("prune")
        self.assertRegex(out, r"(?m)^\d.* freed$")
        self.assertEqual([m["id"] for m in json.loads(self.ok("list", "--json")) if m["source"] == "store"], [other])
        self.assertEqual(json.loads(self.ok("rm", "mine", "--json")), [{"Untagged": "docker.io/ai/mine:latest"}, {"Deleted": other}])

    def test_same_files_same_digest(self):
        digest = self.package("one", "--license", "LICENSE")
        os.utime(os.path.join(self.home, "stories.gguf"), (1, 1))
        os.chmod(os.path.join(self.home, "stories.gguf"), 0o600)
        self.assertEqual(self.package("two", "--license", os.path.join(self.home, "LICENSE")), digest)
        # As a tar file: no daemon is asked, the bytes repeat, and what loads is the same model.
        self.ok("stop", "--daemon")
        out = self.ok("package", "--gguf", "stories.gguf", "--license", "LICENSE", "-o", "a.tar")
        self.assertRegex(out, rf"^packaged a\.tar \(1\.\d+ MB\)\n{digest}\n$")
        self.ok("package", "--gguf", "stories.gguf", "--license", "LICENSE", "-o", "b.tar", "--json")
        self.assertTrue(filecmp.cmp(os.path.join(self.home, "a.tar"), os.path.join(self.home, "b.tar"), shallow=False))
        self.assertIn("not running", self.berth("version")[1])
        with tarfile.open(os.path.join(self.home, "a.tar")) as tar:
            names = tar.getnames()
        self.assertEqual((names[:2], names[-1], len(names)), (["blobs", "blobs/sha256"], "manifest.json", 6))
        self.assertEqual(self.ok("load", "-i", "a.tar", "three"), f"loaded three\n{digest}\n")
        # Out again: the same model, also through a pipe.
        self.assertEqual(self.ok("export", "three", "-o", "c.tar").split(":")[0], "c.tar")
        with open(os.path.join(self.home, "c.tar"), "rb") as f:
            whole = f.read()
        self.assertEqual(self.ok("load", stdin=whole), f"loaded {digest}\n")
        # What is there and is no file is written into, and stays what it is.
        full, pipe = (os.path.join(self.home, name) for name in ("full", "pipe"))
        os.symlink("/dev/full", full)
        os.mkfifo(pipe)
        for command in (("export", "three"), ("package", "--gguf", "stories.gguf")):
            self.refused(1, "full.*No space left on device", *command, "-o", "full")
            self.assertTrue(os.path.islink(full))
        got = []

        def read():
            with open(pipe, "rb") as f:
                got.append(f.read())
        t = threading.Thread(target=read)
        t.start()
        self.ok("export", "three", "-o", "pipe")
        t.join()
        self.assertEqual(got, [whole])
        self.assertEqual([x for x in os.listdir(self.home) if x.endswith(".part")], [])

    def test_from(self):
        digest = self.package("base", "--license", "LICENSE")
        with open(os.path.join(self.home, "t.jinja"), "w", encoding="utf-8") as f:
            f.write("{% for m in messages %}{{ m.content }}{% endfor %}")
        out = self.ok("package", "--from", "base", "--context-size", "128", "--chat-template", "t.jinja", "chat")
        new = out.splitlines()[1]
        self.assertNotEqual(new, digest)
        self.assertEqual(json.loads(self.ok("show", "chat", "--json"))["config"]["context_size"], 128)
        self.assertEqual(self.ok("run", "chat", "Once upon a time", "-t", "0", "-n", "20")[:40], STORY[:40])
        used = [r for r in json.loads(self.ok("df", "--json"))["rows"] if r["type"] == "store"][0]["bytes"]
        self.assertLess(used, 1_300_000)  # the weights are there once
        self.ok("package", "--from", "base", "--format", "cncf", "pack")
        self.assertIn("modelfs", json.loads(self.ok("show", "pack", "--json"))["config"])
        self.assertEqual(self.tell("pack:latest")[:40], STORY[:40])

    def test_refusals(self):
        for args, status, sentence in (
                (("x",), 1, "say what the model is made of"), (("--gguf", "nowhere.gguf", "x"), 1, "opening nowhere.gguf: No such file"),
                (("--gguf", "stories.gguf", "--dduf", "y", "x"), 1, "--gguf and --dduf exclude each other"),
                (("--gguf", "stories.gguf"), 2, "say how the model is called"), (("--gguf", "LICENSE", "x"), 1, "there are no weights here"),
                (("--gguf", ".", "x"), 1, "is a folder, and no file"), (("--safetensors", "nowhere", "x"), 1, "opening the folder nowhere"),
                (("--gguf", "stories.gguf", "--format", "tar", "x"), 1, "neither docker nor cncf"),
                (("--gguf", "stories.gguf", "--format", "cncf", "--context-size", "9", "x"), 1, "context"),
                (("--gguf", "m-00002-of-00003.gguf", "x"), 1, "give the first, the others are found beside it"),
                (("--gguf", "stories.gguf", "-o", "a.tar", "x"), 2, "a tar file holds no name")):
            self.refused(status, re.escape(sentence), "package", *args)
        self.assertEqual(os.path.exists(os.path.join(self.home, ".local/state/berth/serve.log")), False)  # no daemon for nothing
        with open(os.path.join(self.home, "bad.gguf"), "wb") as f:
            f.write(b"GGUF" + b"\xff" * 100)
        self.refused(1, "bad.gguf", "package", "--gguf", "bad.gguf", "x")
        rc, _, err = self.berth("load", stdin=b"x" * 2000)
        self.assertEqual(rc, 1)
        self.assertTrue(err.splitlines()[-1].startswith("berth: "), err)
        self.refused(1, "may hold letters and digits", "pull", "Bad Name")

    def test_docker_package(self):
        plugin = os.path.join(self.home, "docker-model")
        os.symlink(BERTH, plugin)
        digest = self.package("mine", "--license", "LICENSE")
        p = subprocess.run([plugin, "package", "--gguf", "stories.gguf", "-l", "LICENSE", "theirs"], env=self.env, cwd=self.home,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said = [x for x in p.stderr.splitlines() if b"this is a sanitizer build" not in x]
        self.assertEqual((p.returncode, p.stdout, said), (0, b"Model packaged successfully\n", []))
        self.assertEqual(json.loads(self.ok("show", "theirs", "--json"))["id"], digest)

    def test_locked(self):
        with Registry() as r:
            name = f"{r.host}/team/stories:v1"
            digest = self.package(name, "--push")
            self.ok("lock", name, "stories")
            self.assertEqual(self.ok("lock", "--check"), "2 models are as berth.lock says\n")
            self.assertEqual(self.tell("--locked", name)[:40], STORY[:40])
            self.assertEqual(self.tell("--locked", "stories")[:40], STORY[:40])
            bench = ("bench", "--locked", name, "--no-limits", "-c", "1", "--num-prompts", "1", "--output-len", "5", "--json")
            result = json.loads(self.ok(*bench))
            self.assertEqual(result["model_id"], f"{name.rpartition(':')[0]}:v1@{digest}")
            self.assertGreater(result["results"][0]["worker_memory"]["rss_bytes"], 0)
            # The tag moves in the registry and here; the lock does not.
            moved = self.package(name, "--context-size", "512", "--push")
            self.ok("prune")
            self.refused(1, f"is {moved} here, and {digest} in the lock", "run", "--locked", name, "x")
            self.refused(1, f"is {moved} here, and {digest} in the lock", *bench)
            self.assertEqual(self.berth("lock", "--check")[:2], (1, f"{name} is {moved} here, and {digest} in the lock\n"))
            self.assertEqual(self.ok("pull", "--locked", name).splitlines()[-1], digest)
            self.ok("lock", "--apply")
            self.assertEqual(json.loads(self.ok("show", name, "--json"))["id"], digest)
            self.assertEqual(self.tell("--locked", name)[:40], STORY[:40])
            # Declared parameters count, too.
            self.ok("configure", name, "--context-size", "256")
            self.refused(1, "context-size of .* is 256 here, and nothing in the lock", "run", "--locked", name, "x")
            self.ok("lock", "--update")
            with open(os.path.join(self.home, "berth.lock"), encoding="utf-8") as f:
                self.assertEqual(json.load(f)["models"][name], {"digest": moved, "parameters": {"context-size": 256}})


if __name__ == "__main__":
    unittest.main()
