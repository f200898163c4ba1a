# SPDX-License-Identifier: Apache-2.0
"""Commands that need no daemon: help, refusals of the command line, `berth debug`."""
import json
import os
import re
import struct
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import MODELS  # noqa: E402
from cli_case import CliCase  # noqa: E402


class Usage(CliCase):
    def test_unknown_words_name_the_nearest(self):
        self.refused(2, "no command 'rnu'; did you mean `berth run`\\?", "rnu")
        self.refused(2, "no flag --model: .*--models-dir", "serve", "--model", "/data/Qwen3-8B", "--trust-remote-code")
        self.refused(2, "no flag --gpu-memory-utilization=0.9: leave it out", "serve", "--gpu-memory-utilization=0.9")
        self.refused(2, "no flag -ngl: leave it out", "serve", "-ngl", "99")
        self.refused(2, "no flag --api-key: --api-keys FILE", "serve", "--api-key", "x")
        self.refused(2, "no flag --backend: leave it out", "run", "stories", "--backend", "llama.cpp")
        self.refused(2, "one word too many: a daemon serves every model", "serve", "Qwen/Qwen3-8B")
        self.refused(2, "no command 'debug logit'; did you mean `berth debug logits`\\?", "debug", "logit")
        self.refused(2, "no command 'xyzzy'; `berth help` lists them", "xyzzy")
        self.refused(2, "there is no `berth cp`: `berth tag MODEL NAME` gives", "cp", "a", "b")
        self.refused(2, "`berth run` has no commands of its own; `berth help run`", "help", "run", "it")
        self.refused(2, "did you mean --max-tokens\\?", "run", "stories", "--max-token", "3")
        self.refused(2, "did you mean --port\\?", "serve", "--prot", "3")
        self.refused(2, "needs MODEL", "run")
        self.refused(2, "one word too many", "list", "x")
        self.refused(2, "BERTH_PORT in the environment", "list", BERTH_PORT="http")
        self.refused(2, "--port: 99999 is out of range", "list", "--port", "99999")

    def test_help(self):
        top = self.ok("help")
        self.assertEqual(self.ok("--help"), top)
        names = [x.split() for x in re.findall(r"^    ((?:config |debug |configure show)?[a-z]+)(?= )", top, re.M)]
        for group in ("config", "debug"):
            self.assertIn([group], names)
            names.remove([group])
            page = self.ok("help", group)
            self.assertEqual(self.ok(group, "--help"), page)
            names += [x.split() for x in re.findall(rf"^    ({group} \w+)", page, re.M)]
        self.assertIn(["run"], names)
        self.assertIn(["debug", "plan"], names)
        self.assertIn(["config", "show"], names)
        for words in names:
            if words == ["berth"]:
                continue
            page = self.ok("help", *words)
            self.assertEqual(self.ok(*words, "--help"), page)
            for part in ("NAME", "SYNOPSIS", "DESCRIPTION", "FLAGS", "EXIT STATUS"):
                self.assertIn(part + "\n", page)
            self.assertFalse([x for x in page.splitlines() if len(x) > 100])

    def test_config_file(self):
        os.makedirs(os.path.join(self.home, ".config/berth"))
        with open(os.path.join(self.home, ".config/berth/config"), "w", encoding="utf-8") as f:
            f.write("port = 1\n")
        del self.env["BERTH_PORT"]
        self.assertTrue(json.loads(self.ok("version", "--json"))["url"].endswith(":1"))
        self.assertTrue(json.loads(self.ok("version", "--json", BERTH_PORT="2"))["url"].endswith(":2"))
        self.assertTrue(json.loads(self.ok("version", "--json", "--port", "3"))["url"].endswith(":3"))
        self.env["BERTH_PORT"] = "1"

    def test_help_and_check_need_no_good_file(self):
        path = os.path.join(self.home, ".config/berth/config")
        os.makedirs(os.path.dirname(path))
        with open(path, "w", encoding="utf-8") as f:
            f.write("prot = 1\nthreads = many\n")
        self.refused(2, "did you mean 'port'", "version")
        for words in (["help"], ["help", "run"], ["run", "--help"], ["completion", "bash"]):
            self.ok(*words)
        self.assertEqual(self.ok("config", "path"), path + "\n")
        rc, out, err = self.berth("config", "check")
        self.assertEqual((rc, out, err.count("\n")), (1, "", 2), err)


class Debug(CliCase):
    def test_tokens_there_and_back(self):
        text = "Once upon a time, there was a little girl. <s> \n é 🙂"
        ids = self.ok("debug", "tokenize", "stories", "--file", "-", stdin=text)
        self.assertRegex(ids, r"^\d+( \d+)*\n$")
        self.assertNotIn("1", ids.split())  # text never makes a control token
        path = os.path.join(self.home, "ids")
        with open(path, "w", encoding="utf-8") as f:
            f.write(ids)
        self.assertEqual(self.ok("debug", "detokenize", "stories", "--file", path), text)
        special = self.ok("debug", "tokenize", "stories", "--file", "-", "--special", stdin="<s>Once")
        self.assertEqual(special.split()[:2], ["1", "1"])
        self.assertEqual(self.ok("debug", "detokenize", "stories", "--tokens", "1,403,407"), "Once upon")
        self.refused(1, "'x' is not a token id", "debug", "detokenize", "stories", "--tokens", "1,x")
        self.refused(1, "512|vocabulary", "debug", "detokenize", "stories", "--tokens", "512")
        self.refused(2, "exactly one of --tokens IDS, --file FILE", "debug", "detokenize", "stories")
        self.refused(1, "did you mean 'stories'", "debug", "tokenize", "storis", "--file", "-")

    def test_logits(self):
        path = os.path.join(self.home, "l.f32")
        self.assertEqual(self.ok("debug", "logits", "stories", "--tokens", "1,403,407,261,378", "--out", path), "")
        with open(path, "rb") as f:
            exact = f.read()
        self.assertEqual(len(exact), 5 * 512 * 4)
        row = struct.unpack("<512f", exact[-2048:])
        self.assertEqual(max(range(512), key=row.__getitem__), 432)  # ","
        self.ok("debug", "logits", os.path.join(MODELS, "stories.gguf"), "--tokens", "1 403 407 261 378", "--out", path,
                "--threads", "1", "--cpu", "ref", "--kv-cache-type", "f16")
        with open(path, "rb") as f:
            other = f.read()
        far = max(abs(a - b) for a, b in zip(struct.unpack("<2560f", exact), struct.unpack("<2560f", other)))
        self.assertLess(far, 0.05)
        self.refused(1, "not in the vocabulary of 512", "debug", "logits", "stories", "--tokens", "512", "--out", path)
        self.refused(2, "needs --tokens IDS; see", "debug", "logits", "stories")
        self.refused(1, "for the result", "debug", "logits", "stories", "--tokens", "1", "--out", "/nowhere/x")

    def test_render(self):
        template, context = os.path.join(self.home, "t.jinja"), os.path.join(self.home, "c.json")

        def render(t, c, *args):
            with open(template, "w", encoding="utf-8") as f:
                f.write(t)
            with open(context, "w", encoding="utf-8") as f:
                f.write(c)
            return self.berth("debug", "render", template, "--context", context, *args)

        self.assertEqual(render("{% for m in messages %}\n[{{ m.role }}]{{ m.content | trim }}\n{% endfor %}",
                                '{"messages": [{"role": "user", "content": " hé "}]}'), (0, "[user]hé\n", ""))
        self.assertEqual(render("{{ strftime_now('%d %b %Y') }}", "{}", "--now", "1752148800"), (0, "10 Jul 2025", ""))
        rc, out, err = render("{{ raise_exception('no ' + x) }}", '{"x": "way"}')
        self.assertEqual((rc, out), (1, ""))
        self.assertRegex(err, "^berth: .*no way")
        for t, c in (("{% if %}", "{}"), ("x", "[]"), ("x", "{"), ("{{ 1/0 }}", "{}")):
            rc, out, err = render(t, c)
            self.assertEqual((rc, out, err.count("\n"), err[:7]), (1, "", 1, "berth: "), t)

    def test_show_and_plan(self):
        shown = json.loads(self.ok("debug", "show", os.path.join(MODELS, "stories.gguf")))
        self.assertEqual((shown["version"], shown["metadata"]["general.architecture"]), (3, "llama"))
        self.assertEqual(len(shown["tensors"]), 48)
        plan = self.ok("debug", "plan", "stories", "--max-model-len", "512", "--max-num-seqs", "3")
        self.assertRegex(plan, r"(?m)^context +512 ")
        self.assertRegex(plan, r"(?m)^sequences +3 ")
        other = os.path.join(self.home, "x.safetensors")
        with open(other, "wb") as f:
            f.write(b"\0" * 64)
        self.refused(1, "safetensors", "debug", "show", other)
        self.refused(1, "folder", "debug", "show", self.home)
        self.refused(1, "context", "debug", "plan", "stories", "--max-model-len", "1")
        both = self.ok("debug", "plan", "stories", "--speculative-draft-model", "stories-chat")
        self.assertRegex(both, r"draft model +\d+ bytes of the weights, \d+ of each block, 4 guesses\n")
        self.assertRegex(both, r"(?m)^prepared weights +\d+ bytes on the disk.*\nof the draft model +\d+ bytes on the disk")
        self.refused(1, "no model", "debug", "plan", "stories", "--speculative-draft-model", "none")


if __name__ == "__main__":
    unittest.main()
