#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What happens when things break: workers that die, hang or crash again and again, queues that are full, models that do
not fit, signals at bad moments, disks that are full.  Each test ends with a daemon that serves as before."""
import collections
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import SLOW, Client, Daemon, frozen, wait_until  # noqa: E402
from fault_case import LONG, Faults  # noqa: E402
from raw_http import Wire, get, parse, post  # noqa: E402

class Crashes(Faults):
    def test_kill_under_50_streams(self):
        """Those that it worked on get an error and no end; those that waited may go on with the next worker, whole;
        another model's streams do not notice."""
        # Eight streams fill the worker, with ten times more tokens than it makes in a second; then it stands still.
        tiny_gguf.write(os.path.join(self.folder.name, "tiny.gguf"), n_ctx=65536)
        self.start("--max-num-seqs", "16", "--max-model-len", "65536")
        alone = self.text("other", max_tokens=1500, ignore_eos=True)
        self.text()
        pid = self.info()["pid"]
        wires = [Wire(self.d.port, timeout=120 * SLOW) for _ in range(50)]
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            there = []
            for i, w in enumerate(wires[:8]):
                self.push(w, i, max_tokens=60000)
                there.append(pool.submit(lambda w, got: got + w.rest()[0], w, w.until(b"data: ")))
            with frozen(pid):
                for i, w in enumerate(wires[8:]):
                    self.push(w, i, max_tokens=1000)
                    there.append(pool.submit(lambda w: w.rest()[0], w))
                others = [pool.submit(self.events, "other", max_tokens=1500, ignore_eos=True) for _ in range(2)]
                whole = [pool.submit(self.ask, max_tokens=1000, ignore_eos=True) for _ in range(4)]
                self.running(54)
                os.kill(pid, signal.SIGKILL)
            fates = [self.fate(f.result()) for f in there]
            self.assertEqual(fates[:8], ["killed"] * 8)
            for f in whole:
                status, _, answer = f.result()
                self.assertTrue(status == 200 or (status, answer["error"]["code"]) == (500, "worker_crashed"), answer)
            for f in others:
                events = f.result()
                self.assertEqual(events[-1].data, "[DONE]")
                self.assertEqual("".join(e.json["choices"][0]["text"] for e in events[:-1]), alone)
        for w in wires:
            w.close()
        self.text()
        self.assertNotEqual(self.info()["pid"], pid)
        self.assertEqual((self.info()["n_crashes"], self.info("other")["n_crashes"]), (1, 0))
        self.idle()

    def push(self, wire, seed, **more):
        wire.push(post("/v1/completions", json.dumps(self.body(stream=True, n=2, ignore_eos=True, seed=seed, **more)),
                       b"Connection: close\r\n"))

    def fate(self, data):
        """What became of a stream of two answers: "whole" or "killed", and nothing between."""
        (answer,) = parse(data)
        self.assertTrue(answer.whole)
        last = answer.body.strip().split(b"\n\n")[-1].removeprefix(b"data: ")
        if last == b"[DONE]":
            self.assertEqual(answer.body.count(b'"finish_reason":"length"'), 2)
            self.assertNotIn(b'"error"', answer.body)
            return "whole"
        self.assertIn(answer.status, (200, 500))  # 500: nothing had been sent
        self.assertEqual(json.loads(last)["error"]["code"], "worker_crashed")
        self.assertNotIn(b"[DONE]", answer.body)
        self.assertLess(answer.body.count(b'"finish_reason":"length"'), 2)
        return "killed"

    def test_a_worker_that_hangs_is_ended(self):
        slow = self.slow()
        self.start("--hang-timeout", "3")
        self.text(slow)
        pid = self.info(slow)["pid"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            there = [pool.submit(self.events, slow, **LONG) for _ in range(4)]
            self.running(4, slow)
            os.kill(pid, signal.SIGSTOP)
            for f in there:
                self.failed(f, "worker_crashed")
        self.assertTrue(wait_until(lambda: not os.path.exists(f"/proc/{pid}")))
        self.text(slow)
        self.assertEqual(self.metric("berth_worker_hangs_total"), 1)

    def test_a_crash_while_it_loads(self):
        tiny_gguf.write(os.path.join(self.folder.name, "big.gguf"), pad_bytes=64 << 20)
        self.start()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            for _ in range(2):
                f = pool.submit(self.ask, "big")
                self.assertTrue(wait_until(lambda: self.children(), step=0.0005))
                for pid in self.children():
                    os.kill(pid, signal.SIGKILL)
                self.assertIn(f.result()[0], (200, 500, 503))
                self.d.post("/berth/v1/unload", {"model": "big"})
        self.text("big")

    def paused(self, then):
        """Sixty requests, of which some wait in the pause before the second restart, when then(model) is called: their answers."""
        slow = self.slow()
        self.start("--max-num-seqs", "1")
        self.text(slow)
        with concurrent.futures.ThreadPoolExecutor(60) as pool:
            there = [pool.submit(self.ask, slow, ignore_eos=True, max_tokens=40) for _ in range(60)]
            self.running(30, slow)
            for _ in range(2):
                crashes = self.info(slow)["n_crashes"]
                self.assertTrue(wait_until(lambda: self.info(slow).get("n_running"), step=0.001))
                os.kill(self.info(slow)["pid"], signal.SIGKILL)
                self.assertTrue(wait_until(lambda: self.info(slow)["n_crashes"] > crashes, step=0.001))
            then(slow)
            left = concurrent.futures.wait(there, max(120, 30 * SLOW)).not_done
            self.text(slow)  # with this one those that were forgotten would be served
            self.assertEqual(len(left), 0)
        return [f.result() for f in there]

    def test_unloaded_in_the_pause_before_a_restart(self):
        answers = self.paused(lambda slow: self.d.post("/berth/v1/unload", {"model": slow}))
        self.assertIn("model_unloaded", [a["error"]["code"] for status, _, a in answers if status != 200])

    def test_configured_in_the_pause_before_a_restart(self):
        answers = self.paused(lambda slow: self.d.post("/berth/v1/configure", {"model": slow, "settings": {"keep-alive": "5m"}}))
        self.assertEqual({a["error"]["code"] for status, _, a in answers if status != 200}, {"worker_crashed"})
        self.assertIn(200, [a[0] for a in answers])

    def children(self):
        with open(f"/proc/{self.d.pid}/task/{self.d.pid}/children", encoding="ascii") as f:
            mine = [int(p) for p in f.read().split()]
        for task in os.listdir(f"/proc/{self.d.pid}/task"):
            try:
                with open(f"/proc/{self.d.pid}/task/{task}/children", encoding="ascii") as f:
                    mine += [int(p) for p in f.read().split()]
            except OSError:
                pass
        return sorted(set(mine))

    def test_hundreds_of_kills_leave_nothing(self):
        self.start()
        self.text()
        fds = len(os.listdir(f"/proc/{self.d.pid}/fd"))
        for _ in range(3):  # one answer between two crashes: never broken
            for i in range(8):
                self.d.post("/berth/v1/unload", {"model": "tiny"}) if i % 2 else os.kill(self.info()["pid"], signal.SIGKILL)
                wait_until(lambda: self.info()["state"] != "ready" or True, timeout=0)
                status = self.ask()[0]
                self.assertIn(status, (200, 500, 503))
                wait_until(lambda: self.ask()[0] == 200)
        self.assertLessEqual(len(os.listdir(f"/proc/{self.d.pid}/fd")), fds + 4)
        self.assertEqual(len(self.children()), 1)


class Queues(Faults):
    def test_a_full_queue_refuses_with_a_time(self):
        self.start("--max-waiting", "2", "--max-num-seqs", "1")
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            with self.frozen():
                there = [pool.submit(self.ask, seed=i) for i in range(20)]
                self.assertTrue(wait_until(lambda: sum(f.done() for f in there) == 17))
            all_ = [f.result() for f in there]
        self.assertEqual(collections.Counter(status for status, _, _ in all_), {200: 3, 429: 17})
        for status, headers, answer in all_:
            if status == 429:
                self.assertEqual(answer["error"]["code"], "queue_full")
                self.assertEqual(answer["error"]["type"], "rate_limit_error")
                self.assertGreater(int(headers["retry-after"]), 0)
        self.text("other")
        self.text()
        self.idle()

    def test_a_deadline_ends_an_answer(self):
        """The work stops; whole answers become 504, streams an error."""
        slow = self.slow()
        self.start("--request-timeout", "2")
        self.answers(slow)
        status, _, answer = self.ask(slow, **LONG)
        self.assertEqual((status, answer["error"]["code"]), (504, "timeout"))
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            self.failed(pool.submit(self.events, slow, **LONG), "timeout")
        self.idle(slow)
        self.answers(slow)

    def answers(self, model):
        """It answers within the time for requests; on a machine that is busy perhaps not the first of them."""
        self.assertTrue(wait_until(lambda: self.ask(model)[0] == 200))


class Signals(Faults):
    def test_sigterm_lets_100_streams_end(self):
        self.start("--max-num-seqs", "32", "--drain-timeout", "10m")
        with self.frozen(), concurrent.futures.ThreadPoolExecutor(100) as pool:
            wires = [Wire(self.d.port, timeout=60 * SLOW) for _ in range(100)]
            for w in wires:
                w.push(post("/v1/completions", json.dumps(self.body(stream=True, max_tokens=600, ignore_eos=True))))
            there = [pool.submit(w.rest) for w in wires]
            self.running(100)
            pid = self.info()["pid"]
            self.d.process.send_signal(signal.SIGTERM)
            self.assertTrue(wait_until(self.d.is_closed))
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(self.d.stop(sig=0, timeout=60 * SLOW), 0)
            answers = [parse(f.result()[0]) for f in there]
        for w in wires:
            w.close()
        self.assertEqual([[a.status for a in each] for each in answers], [[200]] * 100)
        self.assertEqual(len({re.sub(rb'"(id|created)":[^,]*|: keep-alive\n\n', b"", each[0].body) for each in answers}), 1)
        self.assertTrue(answers[0][0].body.endswith(b"data: [DONE]\n\n") and answers[0][0].whole)

    def test_sigterm_has_a_timeout(self):
        slow = self.slow()
        self.start("--drain-timeout", "1")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            there = [pool.submit(self.events, slow, **LONG) for _ in range(4)]
            self.running(4, slow)
            start = time.monotonic()
            self.assertEqual(self.d.stop(timeout=30 * SLOW), 0)
            self.assertLess(time.monotonic() - start, 6 * SLOW)
            for f in there:
                events, error = self.ended(f)
                self.assertNotIn("[DONE]", [e.data for e in events])
                self.assertTrue(error or "error" in events[-1].json, events[-1:])

    def test_drain_order(self):
        """/readyz turns first, and connections are still taken; then no new ones."""
        self.start("--drain-delay", "3", "--drain-timeout", "10m")
        port = self.d.port
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with self.frozen():
                f = pool.submit(self.events, ignore_eos=True, max_tokens=400, n=2)
                self.running(1)
                self.d.process.send_signal(signal.SIGTERM)
                self.assertTrue(wait_until(lambda: self.d.get("/readyz")[0] == 503, timeout=2.9))
                self.assertEqual(self.d.get("/livez")[0], 200)
            self.assertEqual(f.result()[-1].data, "[DONE]")
            self.assertEqual(self.d.stop(sig=0, timeout=30 * SLOW), 0)
        with self.assertRaises(OSError):
            Client(port).get("/livez")

    def test_sigterm_while_a_model_loads(self):
        tiny_gguf.write(os.path.join(self.folder.name, "big.gguf"), pad_bytes=48 << 20)
        for delay in (0, 0.01, 0.03):
            self.start("--drain-timeout", "5")
            w = Wire(self.d.port, timeout=60)
            w.push(post("/v1/completions", json.dumps({"model": "big", "prompt": "a", "max_tokens": 1})))
            time.sleep(delay)
            self.assertEqual(self.d.stop(timeout=30 * SLOW), 0)
            for a in parse(w.rest()[0]):
                self.assertIn(a.status, (200, 500, 503))
            w.close()

    def test_a_second_sigint_ends_at_once(self):
        slow = self.slow()
        self.start()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            there = [pool.submit(self.events, slow, **LONG) for _ in range(4)]
            self.running(4, slow)
            self.d.process.send_signal(signal.SIGINT)
            self.assertTrue(wait_until(self.d.is_closed))
            self.assertTrue(self.d.alive())
            start = time.monotonic()
            self.d.process.send_signal(signal.SIGINT)
            self.d.process.wait(10 * SLOW)
            self.assertLess(time.monotonic() - start, 3 * SLOW)
            for f in there:
                try:
                    self.assertNotIn("[DONE]", [e.data for e in f.result()])
                except (OSError, AssertionError, ValueError):
                    pass  # cut off
        rc = self.d.process.returncode
        self.assertIn(rc, (0, 1, 130, -signal.SIGINT), self.d.output())
        self.d.process.stdout.close()
        self.d.process = None

    def test_workers_end_with_a_daemon_that_is_killed(self):
        self.start()
        self.text()
        pid = self.info()["pid"]
        self.d.process.kill()
        self.d.process.wait()
        self.d.process.stdout.close()
        self.d.process = None
        self.assertTrue(wait_until(lambda: not os.path.exists(f"/proc/{pid}")))

    def test_sighup_and_sigpipe_change_nothing(self):
        self.start("--log-file", os.path.join(self.folder.name, "log"))
        alone = self.text(max_tokens=400, ignore_eos=True)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with self.frozen():
                f = pool.submit(self.events, max_tokens=400, ignore_eos=True)
                self.running(1)
                for sig in (signal.SIGHUP, signal.SIGPIPE, signal.SIGHUP, signal.SIGPIPE):
                    self.d.process.send_signal(sig)
                    time.sleep(0.02)
                os.kill(self.info()["pid"], signal.SIGPIPE)
            events = f.result()
            self.assertEqual("".join(e.json["choices"][0]["text"] for e in events[:-1]), alone)
        self.text()

    def test_nobody_reads_what_it_says(self):
        """Standard output and error are a pipe whose reader is gone."""
        r, w = os.pipe()
        ready_r, ready_w = os.pipe()
        d = Daemon(models_dir=self.folder.name)
        p = subprocess.Popen([*d.program, "--port", "0", "--ready-fd", str(ready_w), "--log-level", "debug"], env=d.env,
                             stdin=subprocess.DEVNULL, stdout=w, stderr=w, pass_fds=[ready_w])
        os.close(w)
        os.close(ready_w)
        try:
            with os.fdopen(ready_r, "rb") as f:
                port = int(f.readline().decode().split()[0].removeprefix("port="))
            os.close(r)
            c = Client(port)
            for _ in range(5):
                self.assertEqual(c.post("/v1/completions", self.body())[0], 200)
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(30 * SLOW), 0)
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()


class Disks(Faults):
    def test_a_full_disk_under_the_log(self):
        self.start("--log-file", "/dev/full")
        for _ in range(5):
            self.text()
        self.assertTrue(wait_until(lambda: self.metric("berth_log_lines_dropped_total") > 0))

    def test_a_log_folder_that_is_not_there(self):
        with self.assertRaisesRegex(RuntimeError, "/nowhere/log"):
            Daemon(models_dir=self.folder.name, args=["--log-file", "/nowhere/log"]).start()

    def test_the_bound_holds_while_many_write(self):
        log = os.path.join(self.folder.name, "log")
        self.start("--log-file", log, "--log-file-size", "64k", "--log-file-count", "3", "--log-level", "debug")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for status, _, _ in pool.map(lambda i: self.ask(max_tokens=1), range(600)):
                self.assertEqual(status, 200)
        files = [f for f in os.listdir(self.folder.name) if f.startswith("log")]
        self.assertLessEqual(len(files), 3, files)
        self.assertGreater(len(files), 1, files)
        self.assertLessEqual(sum(os.path.getsize(os.path.join(self.folder.name, f)) for f in files), 3 * 65536 + 65536)
        self.assertEqual(self.metric("berth_log_lines_dropped_total"), 0)

    def test_no_prompt_and_no_key_anywhere(self):
        secret, key = "zebra umbrella quartz", "key-of-the-house-0123456789"
        folder = self.folder.name
        with open(os.path.join(folder, "keys"), "w", encoding="utf-8") as f:
            f.write(f"anna infer,manage {key}\n")
        os.chmod(os.path.join(folder, "keys"), 0o600)
        self.start("--log-file", os.path.join(folder, "log"), "--log-level", "debug", "--audit-log",
                   os.path.join(folder, "audit"), "--api-keys", os.path.join(folder, "keys"))
        auth = {"Authorization": "Bearer " + key}
        for body in (self.body(prompt=secret), self.body(prompt=secret, stream=True),
                     self.body(prompt=secret * 5000), self.body(prompt=secret, temperature=-1)):
            self.d.request("POST", "/v1/completions", json.dumps(body).encode(),
                           {"Content-Type": "application/json", **auth})
        self.d.request("POST", "/v1/chat/completions", json.dumps({
            "model": "tiny", "max_tokens": 2, "messages": [{"role": "user", "content": secret}]}).encode(),
            {"Content-Type": "application/json", **auth})
        self.d.request("POST", "/v1/completions", ('{"model":"tiny","prompt":"' + secret).encode(),
                       {"Content-Type": "application/json", **auth})
        self.assertEqual(self.d.get("/v1/models", {"Authorization": "Bearer wrong-" + key})[0], 401)
        seen = self.d.get("/metrics", auth)[2] + json.dumps(self.d.get("/logs?lines=1000", auth)[2]) + self.d.output()
        seen += json.dumps(self.d.get("/berth/v1/status", auth)[2])
        with open(f"/proc/{self.d.pid}/cmdline", "rb") as f:
            seen += f.read().decode()
        for name in ("log", "audit"):
            def text(path=os.path.join(folder, name)):
                with open(path, encoding="utf-8") as f:
                    return f.read()
            self.assertTrue(wait_until(lambda: "tiny" in text()), name)
            seen += text()
        for word in secret.split() + [key]:
            self.assertNotIn(word, seen)

    def test_prompts_are_logged_where_it_is_asked_for(self):
        log = os.path.join(self.folder.name, "log")
        self.start("--log-file", log, "--log-level", "debug", "--log-prompts")
        self.text(prompt="zebra umbrella")

        def text():
            with open(log, encoding="utf-8") as f:
                return f.read()
        self.assertTrue(wait_until(lambda: "zebra umbrella" in text()))
        self.assertRegex(text(), r"warn .*log-prompts")
        self.assertEqual(os.stat(log).st_mode & 0o777, 0o600)
        with self.assertRaisesRegex(RuntimeError, "log-file"):
            Daemon(models_dir=self.folder.name, args=["--log-prompts"]).start()


class Texts(Faults):
    """Limits of the context, and what makes a stream differ from the whole answer when it is done wrongly."""

    def pieces(self, **more):
        return [c["text"] for e in self.events(**more) if e.kind == "data" and e.data != "[DONE]"
                for c in e.json["choices"]]

    def test_the_context_s_end(self):
        self.start("--max-model-len", "64")
        ids = [260 + i % 20 for i in range(80)]
        status, _, answer = self.ask(prompt=ids[:60], max_tokens=None, ignore_eos=True)
        self.assertEqual((status, answer["choices"][0]["finish_reason"]), (200, "length"), answer)
        self.assertEqual(answer["usage"]["prompt_tokens"], 60)
        self.assertIn(answer["usage"]["total_tokens"], (63, 64))
        for n in (64, 65, 80):
            for stream in (False, True):
                status, _, answer = self.ask(prompt=ids[:n], max_tokens=1, stream=stream)
                self.assertEqual((status, answer["error"]["code"]), (400, "context_length_exceeded"), n)
                for number in (str(n), "64"):
                    self.assertIn(number, answer["error"]["message"])
        for more, right in ((4, 200), (5, 400), (10 ** 6, 400)):  # what was asked for is given or refused, never cut
            status, _, answer = self.ask(prompt=ids[:60], max_tokens=more, ignore_eos=True)
            self.assertEqual(status, right, answer)
            if right == 400:
                self.assertEqual((answer["error"]["code"]), "context_length_exceeded")
                for number in (str(more), "60", "64"):
                    self.assertIn(number, answer["error"]["message"])
        self.idle()

    def test_characters_of_many_tokens(self):
        """Only bytes of emoji, in any order: every frame is UTF-8, and the stream says what the whole answer says."""
        self.start()
        bias = {str(3 + b): 60 for b in "\U0001F600\U0001F30A\u00e9".encode()}
        for seed in range(12):
            whole = self.text(logit_bias=bias, max_tokens=40, seed=seed)
            self.assertEqual("".join(self.pieces(logit_bias=bias, max_tokens=40, seed=seed)), whole)

    def test_stop_strings_across_frames(self):
        self.start()
        whole = self.text(max_tokens=60)
        for at, n in ((10, 1), (17, 3), (30, 8), (5, 2)):
            stop = whole[at:at + n]
            status, _, answer = self.ask(max_tokens=60, stop=[stop, "never seen"])
            pieces = self.pieces(max_tokens=60, stop=[stop, "never seen"])
            cut = whole[:whole.index(stop)]
            self.assertEqual((status, answer["choices"][0]["text"], "".join(pieces)), (200, cut, cut))
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        # Held back and then given after all: a stop string that begins and does not go on.
        stop = whole[20:22] + "\u2603"
        self.assertEqual("".join(self.pieces(max_tokens=60, stop=[stop])), whole)

    def test_empty_answers(self):
        self.start()
        bias = {"2": 100}
        status, _, answer = self.ask(logit_bias=bias)
        self.assertEqual((status, answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]), (200, "", "stop"))
        self.assertEqual("".join(self.pieces(logit_bias=bias)), "")
        for stream in (False, True):
            body = {"model": "tiny", "messages": [{"role": "user", "content": ""}], "logit_bias": bias}
            if not stream:
                message = self.d.post("/v1/chat/completions", body)[2]["choices"][0]["message"]
                self.assertEqual(message["content"], "")
            else:
                self.assertEqual(list(self.d.stream("/v1/chat/completions", {**body, "stream": True}))[-1].data, "[DONE]")

    def test_one_begin_token(self):
        """It is put before a text, never doubled, and a text that spells it does not become it."""
        self.start()
        self.assertEqual(self.ask(prompt=[1, 260, 261])[2]["usage"]["prompt_tokens"], 3)
        plain = self.ask(prompt="abc")[2]["usage"]["prompt_tokens"]
        self.assertGreater(self.ask(prompt="<s>abc")[2]["usage"]["prompt_tokens"], plain + 1)


if __name__ == "__main__":
    unittest.main()
