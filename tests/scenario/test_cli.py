# SPDX-License-Identifier: Apache-2.0
"""The command line as a person or a script meets it: answers, refusals, exit statuses, pipes, signals, a daemon that
comes and goes by itself."""
import concurrent.futures
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, MODELS, SLOW, Daemon, wait_until  # noqa: E402
from cli_case import LIMIT_S, STORY, CliCase  # noqa: E402


class Run(CliCase):
    def test_answers_and_starts_a_daemon_once(self):
        rc, out, err = self.berth("run", "stories", "Once upon a time", "-t", "0", "-n", "30")
        self.assertEqual((rc, out.startswith(STORY), out[-1]), (0, True, "\n"), out)
        self.assertRegex(err, r"^berth: no daemon listens on http://127\.0\.0\.1:\d+; starting one \(log: .*serve\.log\)\n$")
        log = os.path.join(self.home, ".local/state/berth/serve.log")

        def logged():  # once the answer is out
            with open(log, encoding="utf-8") as f:
                return "status=200" in f.read()
        self.assertTrue(wait_until(logged))
        rc, again, err = self.berth("run", "stories", "Once", "upon", "a", "time", "-t", "0", "-n", "30")
        self.assertEqual((rc, again, err), (0, out, ""))

    def test_several_commands_start_one_daemon(self):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: self.berth("run", "stories", "Once upon a time", "-t", "0", "-n", "12"),
                                    range(4)))
        for rc, out, err in results:
            self.assertEqual((rc, out), (0, results[0][1]), err)

    def test_prompt_from_standard_input(self):
        want = self.ok("run", "stories", "Once upon a time", "-t", "0", "-n", "20")
        self.assertEqual(self.ok("run", "stories", "-t", "0", "-n", "20", stdin="Once upon a time\n"), want)
        self.refused(1, "there is no prompt", "run", "stories")

    def test_streaming_and_whole_answers_are_the_same(self):
        args = ("run", "stories", "Lily", "--seed", "7", "--temperature", "0.9", "--top-k", "40", "--top-p", "0.95",
                "--min-p", "0.01", "--repetition-penalty", "1.1", "-n", "40")
        streamed = self.ok(*args)
        self.assertEqual(self.ok(*args, "--no-stream"), streamed)
        answer = json.loads(self.ok(*args, "--json"))
        self.assertEqual(answer["choices"][0]["text"].rstrip("\n"), streamed.rstrip("\n"))
        self.assertEqual(answer["usage"]["completion_tokens"], 40)

    def test_stop_texts(self):
        out = self.ok("run", "stories", "Once upon a time", "-t", "0", "-n", "60", "--stop", "zzz", "--stop", "Lily")
        self.assertEqual(out, ", there was a little girl named \n")

    def test_model_by_path(self):
        folder = os.path.join(self.home, "a b")
        os.mkdir(folder)
        shutil.copy(os.path.join(MODELS, "stories.gguf"), os.path.join(folder, "mine.gguf"))
        out = self.ok("run", "a b/mine.gguf", "Once upon a time", "-t", "0", "-n", "30")
        self.assertTrue(out.startswith(STORY))
        self.assertIn("mine", self.ok("ps"))
        os.symlink(folder, os.path.join(self.home, "link"))
        self.assertEqual(self.ok("run", "./link/mine.gguf", "Once upon a time", "-t", "0", "-n", "30"), out)

    def test_refusals(self):
        self.refused(1, "storis", "run", "storis", "x")
        self.refused(1, "No such file", "run", "./none.gguf", "x")
        self.refused(1, "does not end in .gguf", "run", "/etc/passwd", "x")
        self.refused(1, "no chat template.*--chat-template FILE", "run", "stories", "--chat", "x")
        self.refused(1, "context", "run", "stories", "word " * 5000)
        self.refused(1, "valid UTF-8", "run", "stories", stdin=b"\xff\xfe")
        self.refused(2, "exclude each other", "run", "stories", "--chat", "--complete", "x")
        self.refused(2, "--temperature: 'hot' is not a number", "run", "stories", "-t", "hot", "x")
        self.refused(2, "--top-p: '1.5'", "run", "stories", "--top-p", "1.5", "x")

    def test_chat(self):
        # This template joins the contents: greedy, the answer is the text's own continuation.
        out = self.ok("run", "stories-chat", "Once upon a time", "-t", "0", "-n", "30")
        self.assertTrue(out.startswith(STORY), out)
        template = os.path.join(self.home, "t.jinja")
        with open(template, "w", encoding="utf-8") as f:
            f.write("{{ bos_token }}Once upon a {{ messages[-1]['content'] }}")
        out = self.ok("run", "stories", "--chat-template", template, "time", "-t", "0", "-n", "30")
        self.assertTrue(out.startswith(STORY), out)
        with open(template, "w", encoding="utf-8") as f:
            f.write("{{ messages[")
        self.refused(1, "line 1", "run", "stories", "--chat-template", template, "time")
        self.assertNotIn("messages[", self.ok("configure", "show"))  # and not kept for others
        self.refused(1, "is empty", "run", "stories", "--chat-template", "/dev/null", "time")


class Interrupted(CliCase):
    """Answers long enough to be cut off."""

    def setUp(self):
        super().setUp()
        self.env.update(BERTH_MAX_MODEL_LEN="60000", BERTH_MAX_NUM_SEQS="2")
        self.ok("list")

    def start(self, *flags, stdout=subprocess.PIPE):
        return subprocess.Popen([BERTH, "run", "stories", "Once", "--ignore-eos", "-t", "0", *flags], env=self.env, stdout=stdout,
                                stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=self.home)

    def loaded(self):
        return json.loads(self.ok("ps", "--json"))

    def is_idle(self):
        return sum(m.get("n_running", 0) for m in self.loaded()) == 0

    def test_ctrl_c_cancels(self):
        with self.start() as p:
            self.assertTrue(p.stdout.read(10))
            p.send_signal(signal.SIGINT)
            p.communicate(timeout=LIMIT_S)
            self.assertEqual(p.returncode, 130)
        self.assertTrue(wait_until(self.is_idle))

    def test_reader_that_leaves(self):
        with self.start() as p:
            self.assertTrue(p.stdout.read(10))
            p.stdout.close()
            self.assertEqual(p.wait(LIMIT_S), -signal.SIGPIPE)
            self.assertEqual(p.stderr.read(), b"")
        self.assertTrue(wait_until(self.is_idle))

    def test_full_disk(self):
        with open("/dev/full", "wb") as full, self.start(stdout=full) as p:
            _, err = p.communicate(timeout=LIMIT_S)
        self.assertEqual((p.returncode, err),
                         (1, b"berth: writing the answer to standard output: No space left on device\n"))

    def test_worker_killed(self):
        with self.start() as p:
            self.assertTrue(p.stdout.read(10))
            os.kill(self.loaded()[0]["pid"], signal.SIGKILL)
            _, err = p.communicate(timeout=LIMIT_S)
        self.assertEqual(p.returncode, 1)
        self.assertRegex(err.decode(), r"^berth: .*SIGKILL")
        self.assertTrue(self.ok("run", "stories", "Once upon a time", "-t", "0", "-n", "30").startswith(STORY))

    def test_daemon_killed(self):
        def stat(pid):
            """(state, parent)"""
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                state, parent = f.read().rsplit(")", 1)[1].split()[:2]
            return state, int(parent)

        with self.start() as p:
            self.assertTrue(p.stdout.read(10))
            worker = self.loaded()[0]["pid"]
            os.kill(stat(worker)[1], signal.SIGKILL)
            _, err = p.communicate(timeout=LIMIT_S)
        self.assertEqual(p.returncode, 1)
        self.assertTrue(err.startswith(b"berth: "), err)

        def is_gone():
            try:
                return stat(worker)[0] == "Z"
            except FileNotFoundError:
                return True

        self.assertTrue(wait_until(is_gone))

    def test_daemon_killed_before_a_whole_answer(self):
        daemon = json.loads(self.ok("status", "--json"))["pid"]
        with self.start("--no-stream") as p:
            self.assertTrue(wait_until(lambda: not self.is_idle()))
            os.kill(daemon, signal.SIGKILL)
            _, err = p.communicate(timeout=LIMIT_S)
        self.assertEqual(p.returncode, 1)
        self.assertRegex(err.decode(), "^berth: .* broke off before its answer was whole .*; its log says why")


class Manage(CliCase):
    def test_list_ps_stop(self):
        self.assertEqual(json.loads(self.ok("ps", "--json")), [])
        rc, out, err = self.berth("ps")
        self.assertEqual((rc, out.count("\n")), (0, 1))
        self.assertRegex(err, "^berth: no daemon listens on ")
        listed = json.loads(self.ok("list", "--json"))
        self.assertEqual([m["name"] for m in listed], ["stories", "stories-chat"])
        self.assertEqual([m["state"] for m in listed], ["idle", "idle"])
        rows = self.ok("list").splitlines()
        self.assertRegex(rows[0], r"^NAME +SIZE +MODIFIED +STATE +DIGEST OR FILE$")
        self.assertRegex(rows[1], r"^stories +1\.19 MB +.* ago +idle +/.*stories\.gguf$")
        self.ok("run", "stories", "Once", "-n", "1")
        loaded = json.loads(self.ok("ps", "--json"))
        self.assertEqual([(m["name"], m["state"], m["arch"], m["quant"], m["n_params"]) for m in loaded],
                         [("stories", "ready", "llama", "F32", 292800)])
        self.assertEqual(self.ok("stop", "stories"), "unloaded stories\n")
        self.assertEqual(json.loads(self.ok("ps", "--json")), [])
        self.refused(1, "'stories' is not loaded", "stop", "stories")
        self.refused(1, "nosuch", "stop", "nosuch")
        self.ok("run", "stories", "Once", "-n", "1")
        self.assertEqual(self.ok("stop", "--all"), "unloaded stories\n")
        self.refused(2, "exactly one of", "stop")
        self.refused(2, "exactly one of", "stop", "stories", "--all")
        self.assertRegex(self.ok("stop", "--daemon"), "^stopped the daemon on http")
        rc, out, err = self.berth("stop", "--daemon")
        self.assertEqual((rc, out), (0, ""), err)
        self.refused(1, "no daemon listens", "stop", "stories")

    def test_version(self):
        self.assertRegex(self.ok("version"), r"^berth \d+\.\d+\.\d+\ndaemon not running\n$")
        self.ok("list")
        v = json.loads(self.ok("version", "--json"))
        self.assertEqual(v["daemon"], v["version"])
        self.assertTrue(v["url"].endswith(self.env["BERTH_PORT"]))

    def test_daemon_ends_when_idle(self):
        with Daemon(args=["--exit-idle", "1"]) as d:
            self.assertEqual(d.get("/health")[0], 200)
            self.assertEqual(d.process.wait(LIMIT_S), 0)

    def test_something_else_on_the_port(self):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", int(self.env["BERTH_PORT"])))
            s.listen()
            rc, out, err = self.berth("serve")
        self.assertEqual(rc, 1, out + err)
        self.assertRegex(err, "in use.*--port")

    def test_a_wrong_cpu_level_is_refused_at_once(self):
        self.refused(2, "--cpu.*abacus.*this machine has", "serve", "--port", "0", "--cpu", "abacus")

    def test_a_missing_models_dir_is_said(self):
        with Daemon(args=["--models-dir", "/nonexistent/models"]) as d:
            rc, out, err = self.berth("list", "--port", str(d.port))
            self.assertEqual(rc, 0, err)
            self.assertIn("has no models; `berth pull NAME`", err)
        self.assertIn("/nonexistent/models", d.output())

    def test_a_daemon_without_a_place_for_its_state(self):
        with Daemon(env={"XDG_STATE_HOME": "/dev/null/x"}) as d:
            rc, out, err = self.berth("run", "stories", "Once", "-n", "2", "--port", str(d.port))
            self.assertEqual(rc, 0, err)
            said = "will not be kept across restarts: cannot create the folder /dev/null/x"
            self.assertTrue(wait_until(lambda: said in d.output()), d.output())
            self.refused(1, "cannot create the folder /dev/null/x", "configure", "stories", "--pin", "--port", str(d.port))

    def test_stop_takes_a_path(self):
        path = os.path.join(MODELS, "stories.gguf")
        self.ok("run", path, "Once", "-n", "2")
        self.assertEqual(self.ok("stop", path), "unloaded stories\n")
        self.refused(1, "not loaded", "stop", path)

    def test_remote_addresses_need_permission(self):
        rc, out, err = self.berth("serve", "--host", "0.0.0.0", "--port", "0")
        self.assertEqual(rc, 1, out + err)
        self.assertRegex(err, "loopback|--insecure")


class Hostile(CliCase):
    def test_broken_files_are_refused_and_the_daemon_lives(self):
        with open(os.path.join(MODELS, "stories.gguf"), "rb") as f:
            good = f.read()
        cases = {
            "empty": b"",
            "cut": good[:10000],
            "cut-tensors": good[:-100],
            "magic": b"GGML" + good[4:],
            "version": good[:4] + struct.pack("<I", 99) + good[8:],
            "counts": good[:8] + struct.pack("<QQ", 1 << 60, 1 << 60) + good[24:],
        }
        for name, data in cases.items():
            with open(os.path.join(self.home, name + ".gguf"), "wb") as f:
                f.write(data)
            self.refused(1, name, "run", f"./{name}.gguf", "x")
        os.mkfifo(os.path.join(self.home, "fifo.gguf"))
        self.refused(1, "regular file", "run", "./fifo.gguf", "x")
        os.mkdir(os.path.join(self.home, "dir.gguf"))
        self.refused(1, "regular file", "run", "./dir.gguf", "x")
        self.assertTrue(self.ok("run", "stories", "Once upon a time", "-t", "0", "-n", "30").startswith(STORY))

    def test_absurd_prompts(self):
        self.refused(1, "context", "run", "stories", stdin=b"a" * (10 << 20))
        self.assertTrue(self.ok("run", "stories", "Once upon a time", "-t", "0", "-n", "30").startswith(STORY))

    def test_template_that_loops(self):
        template = os.path.join(self.home, "t.jinja")
        with open(template, "w", encoding="utf-8") as f:
            f.write("{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}")
        start = time.monotonic()
        self.refused(1, "template", "run", "stories", "--chat-template", template, "x")
        self.assertLess(time.monotonic() - start, 30 * SLOW)
        self.ok("run", "stories-chat", "Once", "-n", "1")


if __name__ == "__main__":
    unittest.main()
