# SPDX-License-Identifier: Apache-2.0
"""A test case that runs berth's commands in a home of its own, on a port of its own."""
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from berth_test import BERTH, MODELS, SLOW

# llama2.c's greedy continuation of "Once upon a time" by the model that ships.
STORY = ", there was a little girl named Lily. She loved to play outside in the park."
LIMIT_S = 60 * SLOW
# What a command says meanwhile where something takes seconds (src/cli/progress.c, src/cli/artifact/transfer_draw.c).
PROGRESS = re.compile(r"berth: ([^:]+: ( *\d+ %  .* of .*|\d+ s)|(pulling|pushing) \S+(: .*)?)")


def free_port():
    """A port that nobody listens at, below those that the system gives to connections and to port 0."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class CliCase(unittest.TestCase):
    """A home, a port and, once a command wants one, a daemon of its own."""

    def setUp(self):
        self.home = tempfile.mkdtemp(prefix="berth-cli-")
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("BERTH_", "XDG_"))}
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            self.env.pop(name, None)
        self.env.update(HOME=self.home, BERTH_PORT=str(free_port()), BERTH_MODELS_DIR=MODELS)

    def tearDown(self):
        subprocess.run([BERTH, "stop", "--daemon"], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=LIMIT_S)
        shutil.rmtree(self.home, ignore_errors=True)

    def berth(self, *args, stdin=b"", **env):
        """(exit status, standard output, standard error)"""
        if isinstance(stdin, str):
            stdin = stdin.encode()
        p = subprocess.run([BERTH, *args], env={**self.env, **env}, input=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=LIMIT_S, cwd=self.home)
        return p.returncode, p.stdout.decode("utf-8"), p.stderr.decode("utf-8")

    def ok(self, *args, **kw):
        rc, out, err = self.berth(*args, **kw)
        self.assertEqual(rc, 0, f"{args}: {out}{err}")
        return out

    def refused(self, status, pattern, *args, **kw):
        """One sentence on standard error, nothing on standard output."""
        rc, out, err = self.berth(*args, **kw)
        lines = [x for x in err.splitlines() if "starting one" not in x and "is now declared as the chat template" not in x
                 and "this is a sanitizer build" not in x and not PROGRESS.fullmatch(x)]
        self.assertEqual((rc, out, len(lines)), (status, "", 1), f"{args}: {out}{err}"[:2000])
        self.assertTrue(lines[0].startswith("berth: "), lines)
        self.assertRegex(lines[0], pattern)
