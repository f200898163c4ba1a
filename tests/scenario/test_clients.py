#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own clients, unmodified: the npm package `openai` (pinned in tests/support/npm, fetched once into the build
folder), and Python's where it is installed.  Skipped, saying so, where node, npm or the registry is out of reach."""
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import BUILD, ROOT, SLOW, Daemon  # noqa: E402
from fault_case import PAD_SLOW  # noqa: E402

SOURCE = os.path.join(ROOT, "tests/support/npm")
KEY = "0123456789abcdef-client"


def node_folder():
    """A folder with client.mjs and node_modules/openai; a string of why not when there is none."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None, "node and npm are not installed"
    at = os.path.join(BUILD, "tests/npm")
    os.makedirs(at, exist_ok=True)
    with open(os.path.join(SOURCE, "package-lock.json"), encoding="utf-8") as f:
        wanted = f.read()
    mark = os.path.join(at, "installed")
    have = ""
    if os.path.exists(mark):
        with open(mark, encoding="utf-8") as f:
            have = f.read()
    if have != wanted:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(SOURCE, name), at)
        try:
            p = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1",
                                "--fetch-timeout=20000"], cwd=at, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, timeout=120)
        except subprocess.TimeoutExpired:
            return None, "npm ci took longer than two minutes"
        if p.returncode != 0:
            return None, "npm ci failed: " + p.stdout.decode("utf-8", "replace").strip().replace("\n", " | ")[-300:]
        with open(mark, "w", encoding="utf-8") as f:
            f.write(wanted)
    shutil.copy(os.path.join(SOURCE, "client.mjs"), at)
    return at, None


class Clients:
    """The cases, for each of the clients below."""

    def setUp(self):
        models = tempfile.TemporaryDirectory(prefix="berth-clients-")
        self.addCleanup(models.cleanup)
        self.models = models.name
        tiny_gguf.write(os.path.join(self.models, "tiny.gguf"), pad_bytes=PAD_SLOW)

    def daemon(self, *args):
        d = Daemon(models_dir=self.models, args=["--threads", "1", *args])
        d.start()
        self.addCleanup(d.stop)
        return d

    def checks(self, command, folder):
        """Runs a client that says "ok NAME" of each of its checks."""
        p = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=120 * SLOW)
        lines = p.stdout.decode("utf-8", "replace").splitlines()
        self.assertTrue(any(line.startswith("ok ") for line in lines), lines)
        self.assertEqual([line for line in lines if not line.startswith("ok ")], [])
        self.assertEqual(p.returncode, 0)

    def test_answers(self):
        d = self.daemon()
        path = os.path.join(self.models, "tiny.gguf")
        self.assertEqual(d.post("/berth/v1/register", {"path": path, "name": "some/one:q4"})[0], 200)
        self.run_case(d, "answers")

    def test_errors(self):
        with open(os.path.join(self.models, "bad.gguf"), "wb") as f:
            f.write(b"GGUF" + b"\xff" * 100)
        self.run_case(self.daemon(), "errors")

    def test_full(self):
        self.run_case(self.daemon("--max-waiting", "1", "--max-num-seqs", "1"), "full")

    def test_keys(self):
        keys = os.path.join(self.models, "keys")
        with open(keys, "w", encoding="utf-8") as f:
            f.write(f"someone infer {KEY}\n")
        os.chmod(keys, 0o600)
        self.run_case(self.daemon("--api-keys", keys), "keys", KEY)


class Npm(Clients, unittest.TestCase):
    def run_case(self, d, case, *more):
        at, why = node_folder()
        if at is None:
            self.skipTest("OpenAI's npm client was NOT tried: " + why)
        self.checks(["node", "client.mjs", case, f"http://127.0.0.1:{d.port}", *more], at)


class Python(Clients, unittest.TestCase):
    """BERTH_TEST_PYTHON may name a command that runs another Python, one that has the package, in the script's folder."""
    FOLDER = os.path.join(ROOT, "tests/support")
    COMMAND = shlex.split(os.environ.get("BERTH_TEST_PYTHON", "")) or [sys.executable]

    @classmethod
    def setUpClass(cls):
        if cls.COMMAND == [sys.executable] and not importlib.util.find_spec("openai"):
            raise unittest.SkipTest("OpenAI's Python client was NOT tried: the package openai is not installed")

    def run_case(self, d, case, *more):
        self.checks([*self.COMMAND, "openai_client.py", case, f"http://127.0.0.1:{d.port}", *more], self.FOLDER)


if __name__ == "__main__":
    unittest.main()
