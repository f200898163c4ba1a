# SPDX-License-Identifier: Apache-2.0
"""What is made from the command table: help, manual pages, docs/CLI.md, and completion as shells carry it out."""
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, ROOT  # noqa: E402
from cli_case import LIMIT_S, CliCase  # noqa: E402


class Pages(CliCase):
    def commands(self):
        found = re.findall(r"^## berth ([a-z ]+)$", self.ok("help", "--markdown"), re.M)
        self.assertTrue({"run", "serve", "config show", "debug plan"} <= set(found), found)
        return found

    def test_reference_is_the_table(self):
        with open(os.path.join(ROOT, "docs", "CLI.md"), encoding="utf-8") as f:
            self.assertEqual(f.read(), self.ok("help", "--markdown"), "run `make docs/CLI.md` and commit what it made")

    def test_synopsis_shows_what_is_required(self):
        def synopsis(*words):
            return self.ok("help", *words).split("SYNOPSIS\n")[1].split("\n\n")[0].strip()

        self.assertEqual(synopsis("debug", "logits"), "berth debug logits MODEL --tokens IDS --out FILE [FLAGS]")
        self.assertEqual(synopsis("debug", "detokenize"), "berth debug detokenize MODEL (--tokens IDS | --file FILE) [FLAGS]")
        self.assertEqual(synopsis("stop"), "berth stop (MODEL | --all | --daemon) [FLAGS]")

    def test_manual_pages(self):
        folder = os.path.join(self.home, "man")
        os.mkdir(folder)
        self.ok("help", "--man-dir", folder)
        names = sorted(os.listdir(folder))
        self.assertEqual(names, sorted(["berth.1"] + [f"berth-{c.replace(' ', '-')}.1" for c in self.commands()]))
        for name in names:
            with open(os.path.join(folder, name), encoding="ascii") as f:
                page = f.read()
            self.assertRegex(page, r'\n\.TH BERTH[A-Z\\-]* 1 "\d{4}-\d\d-\d\d" "berth \d')
            words = name[:-2].split("-")[1:]
            self.assertEqual(page, self.ok("help", "--man", *words))
        if not shutil.which("mandoc"):
            self.skipTest("mandoc is not installed: pages were not checked for mistakes of roff")
        p = subprocess.run(["mandoc", "-Tlint", "-Wstyle"] + names, cwd=folder, stdout=subprocess.PIPE, timeout=LIMIT_S)
        self.assertEqual((p.returncode, p.stdout.decode()), (0, ""))

    def test_output_that_cannot_be_written(self):
        for args in (["--help"], ["help", "run"], ["version"], ["config", "show"], ["completion", "bash"], ["df", "--json"]):
            p = subprocess.run([BERTH, *args], env=self.env, stderr=subprocess.PIPE, timeout=LIMIT_S,
                               preexec_fn=lambda: os.close(1))
            self.assertEqual((p.returncode, p.stderr), (1, b"berth: writing to standard output: Bad file descriptor\n"), args)
            with open("/dev/full", "wb") as full:
                p = subprocess.run([BERTH, *args], env=self.env, stdout=full, stderr=subprocess.PIPE, timeout=LIMIT_S)
            self.assertEqual((p.returncode, p.stderr), (1, b"berth: writing to standard output: No space left on device\n"))


class Completion(CliCase):
    def shell(self, *argv):
        env = {**self.env, "PATH": os.path.dirname(BERTH) + ":" + self.env.get("PATH", "")}
        p = subprocess.run(argv, env=env, cwd=self.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
        self.assertEqual((p.returncode, p.stderr), (0, b""), argv)
        return p.stdout.decode()

    def script(self, shell):
        path = os.path.join(self.home, "berth." + shell)
        with open(path, "w", encoding="utf-8") as f:
            f.write(self.ok("completion", shell))
        return path

    def test_bash(self):
        path = self.script("bash")

        def complete(*words):
            text = ('. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _berth; printf "%s\\n" "${COMPREPLY[@]}"')
            return sorted(self.shell("bash", "-c", text, path, *words).split())

        self.assertEqual(complete("berth", "sta"), ["status"])
        self.assertEqual(complete("berth", "conf"), ["config", "configure"])
        self.assertEqual(complete("berth", "config", ""), ["check", "path", "show"])
        self.assertEqual(complete("berth", "run", "sto"), ["stories", "stories-chat"])
        self.assertEqual(complete("berth", "run", "--seed", "3", "stories-"), ["stories-chat"])
        self.assertEqual(complete("berth", "run", "stories", "sto"), [])  # the prompt
        self.assertEqual(complete("berth", "run", "--max-t"), ["--max-tokens"])
        self.assertEqual(complete("berth", "serve", "--log-level", ""), ["debug", "error", "info", "warn"])
        self.assertEqual(complete("berth", "serve", "--log-level", "=", "d"), ["debug"])
        self.assertEqual(complete("berth", "configure", "show", "stories-"), ["stories-chat"])
        self.assertEqual(complete("berth", "config", "show", "por"), ["port"])
        self.assertEqual(complete("berth", "debug", "render", "berth.b"), ["berth.bash"])
        self.assertNotIn("--api-key", complete("berth", "list", "--"))
        self.assertFalse(os.path.exists(os.path.join(self.home, ".local/state/berth")), "a daemon was started")

    def test_zsh(self):
        path = self.script("zsh")
        if not shutil.which("zsh"):
            self.skipTest("zsh is not installed")
        self.shell("zsh", "-n", path)
        # As a user's terminal would show it: the shell in a pseudo-terminal of its own.
        shown = self.shell("zsh", "-f", "-c", '''
            export TERM=vt100
            zmodload zsh/zpty; zpty z zsh -f -i
            zpty -w z "PS1=; autoload -Uz compinit; compinit -D; source $1; echo re'ady'"
            zpty -r z out '*ready*'
            zpty -w -n z $'berth config sh\\t\\n'; zpty -w z "echo do'ne'"
            zpty -r z out '*done*'; print -r -- $out''', "zsh", path)
        self.assertIn("models-dir", shown)

    def test_fish(self):
        path = self.script("fish")
        if not shutil.which("fish"):
            self.skipTest("fish is not installed")

        def complete(line):
            out = self.shell("fish", "--no-config", "-c", f"source {path}; complete -C '{line}'")
            return sorted(x.split("\t")[0] for x in out.splitlines())

        self.assertEqual(complete("berth stat"), ["status"])
        self.assertEqual(complete("berth config "), ["check", "path", "show"])
        self.assertTrue({"stories", "stories-chat"} <= set(complete("berth run sto")))
        self.assertEqual(complete("berth serve --log-level "), ["debug", "error", "info", "warn"])

    def test_refusal(self):
        self.refused(2, "there is no completion for 'tcsh'; there is for bash, zsh and fish", "completion", "tcsh")


if __name__ == "__main__":
    unittest.main()
