# SPDX-License-Identifier: Apache-2.0
"""`berth run` at a terminal, in a real pseudo-terminal: a conversation with its keys and commands, and what a hostile
model can make of the terminal (nothing)."""
import glob
import json
import os
import re
import signal
import stat
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, wait_until  # noqa: E402
from cli_case import LIMIT_S, STORY, CliCase  # noqa: E402
from stub_server import StubServer  # noqa: E402
from terminal import Terminal  # noqa: E402

HINT = "Send a message (/? for help)"


class ChatCase(CliCase):
    def setUp(self):
        super().setUp()
        self.env["TERM"] = "xterm-256color"
        self.env.pop("NO_COLOR", None)
        self.terminals = []

    def tearDown(self):
        for t in self.terminals:
            t.close()
        super().tearDown()

    def open(self, *args, hint=HINT, argv=None, **env):
        try:
            t = Terminal(argv or [BERTH, "run", *args], {**self.env, **env}, self.home)
        except OSError as e:
            self.skipTest(f"no pseudo-terminal here: {e}")
        self.terminals.append(t)
        if hint:
            t.until(hint)
        return t

    def enter(self, t, line, answer=None):
        """Types a line and returns what is shown up to the next prompt, without styles."""
        t.type(line + "\r")
        if answer:
            t.until(answer)
        shown = t.until(HINT)
        return re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode().replace("\r", "")


class Conversation(ChatCase):
    ARGS = ("stories-chat", "-t", "0", "-n", "30")

    def saved(self, t, name="saved.json"):
        self.enter(t, "/save " + name, "Saved")
        with open(os.path.join(self.home, name), encoding="utf-8") as f:
            return json.load(f)

    def test_a_question_and_the_end(self):
        t = self.open(*self.ARGS)
        self.assertIn(STORY, self.enter(t, "Once upon a time"))
        t.type("\x04")
        self.assertEqual(t.wait(), 0)
        t = self.open(*self.ARGS)
        t.type("/bye\r")
        self.assertEqual(t.wait(), 0)

    def test_keys(self):
        t = self.open("stories-chat", "-n", "1")
        keys = [("abXc\x02\x7fd", "abdc"), ("world\x01hello \x05!", "hello world!"), ("one two\x17three", "one three"),
                ("gone\x15kept", "kept"), ("abc\x1b[D\x1b[D\x0b", "a"), ("h\u00e9\u20ac\U0001f600x\x7f!", "h\u00e9\u20ac\U0001f600!"),
                ("ab\x1b[H\x1b[3~", "b"), ("tail\x1b[1;5D\x1b[F!", "tail!")]
        for typed, _ in keys:
            self.enter(t, typed)
        said = [m["content"] for m in self.saved(t)["messages"] if m["role"] == "user"]
        self.assertEqual(said, [want for _, want in keys])

    def test_history(self):
        t = self.open("stories-chat", "-n", "1")
        self.enter(t, "first words")
        self.enter(t, '"""two\r. lines"""')
        t.type("\x04")
        t.wait()
        path = os.path.join(self.home, ".local/state/berth/chat_history")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        t = self.open("stories-chat", "-n", "1")
        self.enter(t, "\x1b[A\x1b[A")
        self.enter(t, "/set nohistory")
        self.enter(t, "secret one")
        self.assertEqual([m["content"] for m in self.saved(t)["messages"] if m["role"] == "user"],
                         ["first words", "secret one"])
        t.type("\x04")
        t.wait()
        t = self.open("stories-chat", "-n", "1", "--no-history")
        self.enter(t, "secret two")
        t = self.open("stories-chat", "-n", "1", BERTH_HISTORY="no")
        self.enter(t, "secret three")
        with open(path, encoding="utf-8") as f:
            kept = f.read()
        self.assertIn("first words", kept)
        self.assertIn("two\\n. lines", kept)
        self.assertNotIn("secret", kept)

    def test_history_keeps_its_end(self):
        folder = os.path.join(self.home, ".local/state/berth")
        os.makedirs(folder)
        with open(os.path.join(folder, "chat_history"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(f"line {i}") + "\n" for i in range(3000))
        t = self.open("stories-chat", "-n", "1")
        self.enter(t, "\x1b[A")
        with open(os.path.join(folder, "chat_history"), encoding="utf-8") as f:
            lines = f.read().splitlines()
        self.assertEqual((len(lines), lines[0], lines[-1]), (1001, '"line 2000"', '"line 2999"'))

    def test_several_lines(self):
        t = self.open("stories-chat", "-n", "1")
        t.type('"""one\r')
        t.until(b"\r\n\x1b[?2004l\x1b[?2004h. ")
        t.type('two"""\r')
        t.until(HINT)
        t.type("\x1b[200~pasted\rthree\tfour\x1b[201~")
        t.until("four")
        self.enter(t, "!")
        t.type('"""dropped\r')
        t.until(". ")
        t.type("\x03")
        t.until(HINT)
        self.assertEqual([m["content"] for m in self.saved(t)["messages"] if m["role"] == "user"],
                         ["one\ntwo", "pasted\nthree\tfour!"])

    def test_a_paste_is_no_command(self):
        t = self.open("stories-chat", "-n", "1")
        t.type("\x1b[200~a\x01\x15b\x1b[31mc\x1b[201~")
        t.until("c")
        self.enter(t, "")
        self.assertEqual(self.saved(t)["messages"][0]["content"], "ab[31mc")

    def test_ctrl_c_in_lines(self):
        t = self.open("stories-chat", "-n", "1")
        t.type("\x03")
        t.until("Use Ctrl + d or /bye to exit.")
        t.until(HINT)
        t.type("half a line")
        t.until("half a line")
        t.type("\x03")
        self.assertNotIn(b"Use Ctrl", t.until(HINT))
        self.enter(t, "whole")
        self.assertEqual(self.saved(t)["messages"][0]["content"], "whole")

    def test_commands(self):
        t = self.open(*self.ARGS)
        self.assertIn("/set parameter NAME VALUE", self.enter(t, "/?"))
        self.assertNotIn("/bye", self.enter(t, "/? show"))
        self.assertIn("Unknown command '/nonsense'. Type /? for help", self.enter(t, "/nonsense x"))
        self.assertIn("'/shwo'; did you mean /show?", self.enter(t, "/shwo"))
        self.assertIn("/set parameter NAME VALUE", self.enter(t, "/set"))
        self.assertIn("no saved conversation gone.json", self.enter(t, "/load gone.json"))
        self.assertIn("did you mean temperature?", self.enter(t, "/set parameter temprature 1"))
        self.assertIn("is not a number from 0 to 1", self.enter(t, "/set parameter top_p 7"))
        self.assertIn("top_k is now 40.", self.enter(t, "/set parameter top_k 40"))
        self.assertRegex(self.enter(t, "/show parameters"), r"top_k +40 .*\n(.*\n)*max_tokens +30 ")
        self.assertIn("top_k is now the default.", self.enter(t, "/set parameter top_k default"))
        self.assertIn("system message is set", self.enter(t, '/set system "Be brief."'))
        self.assertIn("\nBe brief.\n", self.enter(t, "/show system"))
        self.assertIn("There is no system message.", self.enter(t, '/set system ""'))
        self.assertRegex(self.enter(t, "/show info"), r"name +stories-chat\n")
        self.assertIn(STORY, self.enter(t, "Once upon a time"))
        self.assertRegex(self.enter(t, "/show messages"), "user: Once upon a time\nassistant: , there was")
        self.enter(t, "/set verbose")
        self.assertRegex(self.enter(t, "/retry"), STORY + r"(.|\n)*prompt \d+ tokens .*tokens/s.*seed \d+, fp_")
        self.enter(t, "/set quiet")
        self.assertIn("forgotten", self.enter(t, "/undo"))
        self.assertIn("nothing to forget", self.enter(t, "/undo"))
        self.assertIn("no question", self.enter(t, "/retry"))
        self.assertIn(STORY, self.enter(t, "Once upon a time"))
        self.assertIn("forgotten", self.enter(t, "/clear"))
        self.assertIn("(none)", self.enter(t, "/show messages"))
        self.assertIn(STORY, self.enter(t, "Once upon a time"))

    def test_save_and_load(self):
        t = self.open("stories-chat", "-n", "8", "--seed", "5", "--system", "Hm.")
        self.enter(t, "Once")
        saved = self.saved(t, "a b.json")
        self.assertEqual((saved["model"], saved["chat"], saved["system"], saved["parameters"]),
                         ("stories-chat", True, "Hm.", {"seed": 5, "max_tokens": 8}))
        self.assertEqual([m["role"] for m in saved["messages"]], ["user", "assistant"])
        self.assertEqual(saved["messages"][1]["seed"], 5)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(self.home, "a b.json")).st_mode), 0o600)
        with open(os.path.join(self.home, "other.json"), "w", encoding="utf-8") as f:
            f.write("{}")
        self.assertIn("holds something else", self.enter(t, "/save other.json"))
        self.assertEqual(glob.glob(os.path.join(self.home, "*.tmp")), [])
        first = self.enter(t, "/retry")
        t.type("\x04")
        t.wait()
        t = self.open("stories-chat")
        shown = self.enter(t, "/load a b.json")
        self.assertIn("The parameters are now those it was saved with", shown)
        self.assertIn("2 messages from a b.json.", shown)
        self.assertEqual(self.enter(t, "/retry"), first)  # the same words, by the same seed
        self.assertEqual(self.saved(t), saved)
        self.assertIn("no conversation that /save wrote", self.enter(t, "/load other.json"))
        self.assertIn("nosuch", self.enter(t, "/load nosuch"))
        t.type("/load stories\r")
        t.until("Completing texts with stories from here on.")
        t.until("Begin a text")
        t.type("/load a b.json\r")
        t.until("held with stories-chat; this is stories")
        t.until("Begin a text")

    def test_a_full_context(self):
        t = self.open("stories-chat", BERTH_MAX_MODEL_LEN="64")
        self.enter(t, "word " * 10)
        shown = self.enter(t, "word " * 60)
        self.assertRegex(shown, "berth: .*context")
        self.assertIn("/clear", shown)
        self.assertEqual(len(self.saved(t)["messages"]), 2)
        self.enter(t, "/clear")
        self.enter(t, "/set parameter ignore_eos yes")
        self.assertIn("(the context is full: /undo or /clear makes room)", self.enter(t, "Once upon a time"))
        self.enter(t, "/set parameter max_tokens 3")
        self.assertNotIn("full", self.enter(t, "/retry"))

    def test_resize_and_suspend(self):
        shell = "/bin/sh"
        if not os.path.exists(shell):
            self.skipTest("no shell")
        self.ok("list")
        t = self.open(hint=None, argv=[shell, "-mi"], PS1="shell$ ", ENV="")
        t.until("shell$ ")
        t.type(f"{BERTH} run stories-chat -n 1\r")
        t.until(HINT)
        t.resize(10, 40)
        t.type("kept words")
        t.until("kept words")
        for i, key in enumerate("VWXYZ"):  # the window changes at the moment of Ctrl-Z, and the line is drawn once all the same
            t.resize(10, 41 + i)
            t.type("\x1a")
            t.until("shell$ ")
            t.type("fg\r")
            t.until("> kept words")
            t.type(key)
            self.assertNotIn(b"kept words", t.until(key))
        self.assertNotIn("kept words", self.enter(t, "!"))
        self.assertEqual(self.saved(t)["messages"][0]["content"], "kept wordsVWXYZ!")
        # A line of 132 columns, whose cursor a terminal of 31 has moved to the fifth row by itself.
        t.type("0123456789" * 13)
        for _ in range(13):
            t.until("9")
        t.resize(10, 31)
        t.until("\x1b[4A\r\x1b[J> 0123")
        t.type("\x15")
        t.until(HINT)
        t.type("\x04")
        t.until("shell$ ")

    def test_dumb_terminal(self):
        t = self.open(*self.ARGS, hint=None, TERM="dumb")
        t.until("> ")
        t.type("Once upon a time\n")
        t.until(STORY)
        t.until("> ")
        t.type("/bye\n")
        self.assertEqual(t.wait(), 0)
        self.assertNotIn(b"\x1b", t.all)

    def test_terminated(self):
        t = self.open("stories-chat")
        os.kill(t.pid, signal.SIGTERM)
        self.assertEqual(t.wait(), -signal.SIGTERM)
        self.assertIn(b"\x1b[?2004l", t.all)


class Stopped(ChatCase):
    def test_ctrl_c_stops_the_answer(self):
        with StubServer([["Hello ", "there", 600.0], ["Second."]]) as s:
            t = self.open("stub", BERTH_PORT=str(s.port))
            t.type("one\r")
            t.until("there")
            t.type("\x03")
            t.until("stopped")
            t.until(HINT)
            self.assertTrue(s.left.wait(LIMIT_S))
            self.assertIn("Second.", self.enter(t, "two"))
            self.assertEqual([m["content"] for m in s.requests[1]["messages"]], ["one", "Hello there", "two"])
            self.assertIn("assistant (stopped): Hello there", self.enter(t, "/show messages"))

    def test_ctrl_c_before_the_first_word(self):
        with StubServer([[600.0], ["Second."]]) as s:
            t = self.open("stub", BERTH_PORT=str(s.port))
            t.type("one\r")
            self.assertTrue(wait_until(lambda: s.requests))
            t.type("\x03")
            t.until("(stopped)")
            t.until(HINT)
            self.assertIn("Second.", self.enter(t, "two"))
            self.assertEqual([m["content"] for m in s.requests[1]["messages"]], ["two"])

    def test_an_answer_that_breaks_off(self):
        with StubServer([["Half ", Exception()], ["Whole."]]) as s:
            t = self.open("stub", BERTH_PORT=str(s.port))
            shown = self.enter(t, "one")
            self.assertIn("Half", shown)
            self.assertIn("broke the answer off", shown)
            self.assertIn("The conversation is kept", shown)
            self.assertIn("Whole.", self.enter(t, "one"))
            self.assertEqual([m["content"] for m in s.requests[1]["messages"]], ["one"])

    def test_the_daemon_ends_and_comes_back(self):
        t = self.open("stories-chat", "-t", "0", "-n", "30")
        self.assertIn(STORY, self.enter(t, "Once upon a time"))
        self.ok("stop", "--daemon")
        shown = self.enter(t, "She went")
        self.assertIn("starting one", shown)
        self.assertNotIn("berth: http", shown)
        self.assertEqual(self.enter(t, "/show messages").count("user: "), 2)

    def test_one_answer_is_canceled(self):
        with StubServer([["**Hello", 600.0]]) as s:
            t = self.open("stub", "hi", hint=None, BERTH_PORT=str(s.port))
            self.assertTrue(wait_until(lambda: s.requests))
            t.type("\x03")
            self.assertEqual(t.wait(), 130)
            self.assertTrue(s.left.wait(LIMIT_S))
            self.assertIn(b"**Hello", t.all)  # held back, and shown at the end


class Shown(ChatCase):
    HOSTILE = "a\x1b[2J\x1b]0;title\x07\x9b31m\u202eb\rc\x08\x7f"

    def shown(self, pieces, *args, thinking=None, **env):
        with StubServer([pieces], thinking=thinking) as s:
            t = self.open("stub", "hi", *args, hint=None, BERTH_PORT=str(s.port), **env)
            self.assertEqual(t.wait(), 0)
            # Where the machine is slow the load was told meanwhile, and that erased again.
            return re.sub(r"^(?:\r[^\r\n]*)*\r(?=[^\r\n])", "", t.all.decode())

    def piped(self, pieces, *args, thinking=None):
        with StubServer([pieces], thinking=thinking) as s:
            return self.ok("run", "stub", "hi", *args, BERTH_PORT=str(s.port))

    def test_a_model_cannot_drive_the_terminal(self):
        want = "a\u241b[2J\u241b]0;title\u2407\ufffd31m\ufffdbc\u2408\u2421\r\n"
        for pieces in [self.HOSTILE], list(self.HOSTILE):
            self.assertEqual(self.shown(pieces), want)
            self.assertEqual(self.shown(pieces, "--no-color"), want)
            self.assertEqual(self.shown(pieces, "--no-markdown"), want)
        self.assertEqual(self.piped([self.HOSTILE]), self.HOSTILE + "\n")

    def test_markdown(self):
        text = ["# Ti", "tle\n**bo", "ld** `x`\n"]
        plain = "# Title\r\n**bold** `x`\r\n"
        self.assertEqual(self.shown(text), "\x1b[0;1;4mTitle\x1b[0m\r\n\x1b[0;1mbold\x1b[0m \x1b[0;36mx\x1b[0m\r\n")
        self.assertEqual(self.shown(text, "--no-markdown"), plain)
        self.assertEqual(self.shown(text, "--no-color"), plain)
        self.assertEqual(self.shown(text, NO_COLOR="1"), plain)
        self.assertEqual(self.shown(text, TERM="dumb"), plain)
        self.assertEqual(self.piped(text), "# Title\n**bold** `x`\n")

    def test_thinking(self):
        self.assertEqual(self.shown(["Yes."], thinking="Hm\x1b."), "\x1b[0;2mHm\u241b.\x1b[0m\r\n\r\nYes.\r\n")
        self.assertEqual(self.shown(["Yes."], "--no-color", thinking="Hm."), "Thinking:\r\nHm.\r\n\r\nYes.\r\n")
        self.assertEqual(self.piped(["Yes."], thinking="Hm."), "Yes.\n")

    def test_progress(self):
        load = [{"what": "loading weights", "done": 1000000, "total": 4000000}, 1.2,
                {"what": "loading weights", "done": 2000000, "total": 4000000}, 0.3]
        with StubServer([["Yes."]], load=load) as s:
            t = self.open("stub", "hi", hint=None, BERTH_PORT=str(s.port))
            self.assertEqual(t.wait(), 0)
            shown = t.all.decode()
            self.assertRegex(shown, r"loading weights \[#+\.+\]  25 %  1\.00 MB of 4\.00 MB")
            self.assertRegex(shown, r"\r +\rYes\.\r\n$")
            rc, out, err = self.berth("run", "stub", "hi", BERTH_PORT=str(s.port))
            self.assertEqual((rc, out, err), (0, "Yes.\n", ""))

    def test_what_is_sent(self):
        with StubServer([["Yes."]]) as s:
            env = {"BERTH_PORT": str(s.port), "BERTH_API_KEY": "k-123"}
            self.ok("run", "stub", "hi", "--keep-alive", "1h", "--min-tokens", "2", "--logit-bias", "3:-100",
                    "--stop-token-ids", "4,5", "--stop", "x", "--stop", "y", "--ignore-eos", **env)
            self.ok("run", "stub", "sum", "up:", stdin="line\n", **env)
            self.ok("run", "stub", stdin="line\n", **env)
            a, b, c = s.requests
            self.assertEqual({k: a[k] for k in ("keep_alive", "min_tokens", "logit_bias", "stop_token_ids", "stop", "ignore_eos")},
                             {"keep_alive": 3600, "min_tokens": 2, "logit_bias": {"3": -100.0}, "stop_token_ids": [4, 5],
                              "stop": ["x", "y"], "ignore_eos": True})
            self.assertIsInstance(a["seed"], int)
            self.assertNotEqual(a["seed"], b["seed"])
            self.assertEqual(b["messages"][0]["content"], "sum up:\n\nline")
            self.assertEqual(c["messages"][0]["content"], "line")
            self.assertEqual({h.get("Authorization") for h in s.headers}, {"Bearer k-123"})


class Once(CliCase):
    def test_speed_is_the_engines(self):
        """Of an answer that came in a few pieces, all at once, too: 99 tokens in the time that the audit log names."""
        audit, lines = os.path.join(self.home, "audit"), []

        def line(n):
            with open(audit) as f:
                told = f.readlines()
            return len(told) > n and json.loads(told[n])

        for args in ((), ("--no-stream",)):
            rc, out, err = self.berth("run", "stories", "Once", "-n", "100", "--ignore-eos", "--verbose", *args, BERTH_AUDIT_LOG=audit)
            self.assertEqual(rc, 0, err)
            told = float(re.search(r"answer 100 tokens, ([\d.]+) tokens/s, ", err).group(1))
            lines.append(wait_until(lambda: line(len(lines))))
            self.assertAlmostEqual(told * lines[-1]["decode_ms"] / 1000 / 99, 1, delta=0.01)
        self.assertNotIn("tokens/s", self.berth("run", "stories", "Once", "-n", "1", "--verbose")[2])  # no time between two

    def test_verbose_and_empty(self):
        rc, out, err = self.berth("run", "stories", "Once upon a time", "-t", "0", "-n", "30", "--verbose")
        self.assertEqual(rc, 0, err)
        self.assertRegex(err.splitlines()[-1], r"^berth: prompt \d+ tokens \(\d+ cached\), .*answer 30 tokens, .*seed \d+")
        seed = re.search(r"seed (\d+)", self.berth("run", "stories", "Lily", "-n", "20", "--verbose")[2]).group(1)
        self.assertEqual(self.ok("run", "stories", "Lily", "-n", "20", "--seed", seed),
                         self.ok("run", "stories", "Lily", "-n", "20", "--seed", seed))
        self.assertTrue(self.ok("run", "stories", "", "-n", "5"))

    def test_a_unix_socket_is_preferred(self):
        path = os.path.join(self.home, "s")
        p = subprocess.Popen([BERTH, "serve", "--socket", path, "--port", "0"], env=self.env, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        try:
            self.assertTrue(p.stdout.readline())
            out = self.ok("run", "stories", "Once upon a time", "-t", "0", "-n", "30", "--socket", path)
            self.assertTrue(out.startswith(STORY))
        finally:
            p.terminate()
            p.communicate(timeout=LIMIT_S)

    def test_no_daemon_is_started_for_elsewhere(self):
        self.refused(1, "none is started for another machine", "run", "stories", "x", "--host", "fe80::1")
        self.refused(1, "--tls-cert FILE --tls-key FILE", "run", "stories", "x", "--tls-cert", "/etc/ssl/certs/ca-certificates.crt")


if __name__ == "__main__":
    unittest.main()
