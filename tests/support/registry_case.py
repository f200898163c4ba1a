# SPDX-License-Identifier: Apache-2.0
"""What scenarios of registries share: a store in a folder of its own, driven by registry_tool."""
import json
import os
import random
import shutil
import subprocess
import tempfile
import unittest

from berth_test import BUILD, SLOW

TOOL = os.path.join(BUILD, "tests", "tool", "registry_tool")


def noise(n, seed=1):
    """n bytes that begin like a GGUF, the same for the same seed."""
    return b"GGUF\3\0\0\0" + random.Random(seed).randbytes(n - 8)


class Failed(AssertionError):
    def __init__(self, error, message):
        super().__init__(f"{error}: {message}")
        self.error, self.message = error, message


class RegistryCase(unittest.TestCase):
    def setUp(self):
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # many small stores, each fully synced
        self.dir = tempfile.mkdtemp(prefix="berth-registry-", dir=shm)
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.store = os.path.join(self.dir, "store")
        self.env = {k: v for k, v in os.environ.items() if k.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")}

    wrapped = ()  # a command that the tool is run by

    def start(self, *args, store=None, **options):
        opts = [x for k, v in {"stall_ms": int(1000 * SLOW), "pause_ms": 20, **options}.items() for x in ("--" + k.replace("_", "-"), str(v))]
        return subprocess.Popen([*self.wrapped, TOOL, *opts, store or self.store, *args], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def finish(self, p, timeout=60 * SLOW):
        out, self.log = p.communicate(timeout=timeout)
        self.lines = [json.loads(x) for x in out.splitlines()]
        if p.returncode != 0:
            if not self.lines or "error" not in self.lines[-1]:
                raise AssertionError(f"status {p.returncode}: {out}{self.log}")
            raise Failed(self.lines[-1]["error"], self.lines[-1]["message"])
        return self.lines[-1] if self.lines else {}

    def tool(self, *args, timeout=60 * SLOW, **kw):
        """The last line as an object; Failed when it is an error.  self.lines: all of them, self.log: standard error."""
        return self.finish(self.start(*args, **kw), timeout)

    def fails(self, code, *args, **kw):
        """The sentence of the error, whose code this must be."""
        with self.assertRaises(Failed) as c:
            self.tool(*args, **kw)
        self.assertEqual(c.exception.error, code, c.exception.message)
        return c.exception.message

    def names(self, store=None):
        self.tool("list", store=store)
        return {x["name"]: x["digest"] for x in self.lines}

    def check_store(self, store=None):
        """Every blob is what its name says, every model whole."""
        self.assertEqual(self.tool("verify", store=store)["findings"], 0, self.log)

    def blob(self, digest, store=None):
        with open(os.path.join(store or self.store, "blobs", "sha256", digest.removeprefix("sha256:")), "rb") as f:
            return f.read()

    def docker_config(self, config, name="docker"):
        folder = os.path.join(self.dir, name)
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "config.json"), "w") as f:
            f.write(config if isinstance(config, str) else json.dumps(config))
        return folder
