#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a daemon tells of itself, from outside: metrics that add up to what was asked, probes, the log with its files and its
followers, the audit log, and that none of them holds what it must not."""
import concurrent.futures
import http.client
import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import exposition as prom  # noqa: E402
from berth_test import BERTH, ROOT, SLOW, Daemon, wait_until  # noqa: E402

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def load_doc():
    sys.dont_write_bytecode = True
    path = os.path.join(ROOT, "dev", "metrics_doc.py")
    spec = importlib.util.spec_from_loader("metrics_doc", importlib.machinery.SourceFileLoader("metrics_doc", path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slurp(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def scrape(d, path="/metrics"):
    status, headers, body = d.request("GET", path)
    assert status == 200, body
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8", headers
    return prom.parse(body)


def complete(d, headers=None, **body):
    return d.post("/v1/completions", {"model": "stories", "prompt": "Once upon a time", "max_tokens": 8, **body},
                  headers)


def promtool(body):
    p = subprocess.run(["promtool", "check", "metrics"], input=body, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=60)
    return p.returncode, p.stdout.decode()


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.d = Daemon()
        cls.d.start()

    @classmethod
    def tearDownClass(cls):
        rc = cls.d.stop()
        assert rc == 0, f"exit status {rc}\n{cls.d.output()}"

    def test_the_document_is_the_table(self):
        doc = load_doc()
        self.assertEqual(slurp(os.path.join(ROOT, "docs", "METRICS.md")), doc.document(), "run dev/metrics_doc.py > docs/METRICS.md")
        kinds = {name: (kind.lower(), set(filter(None, labels.split(","))))
                 for _, name, _, kind, labels, _, _ in doc.rows()}
        complete(self.d)
        self.assertTrue(wait_until(lambda: prom.value(scrape(self.d), "berth_request_seconds_count", model="stories")))
        families = scrape(self.d, "/metrics/vllm")
        self.assertEqual({n: f.kind for n, f in families.items()}, {n: k for n, (k, _) in kinds.items()})
        for name, family in families.items():
            for _, labels in family.samples:
                self.assertEqual({n for n, _ in labels} - {"le"}, kinds[name][1], name)
        self.assertEqual(set(scrape(self.d)), {n for _, n, group, *_ in doc.rows() if group == "OWN"})

    def test_promtool_has_nothing_to_say(self):
        if not shutil.which("promtool"):
            self.skipTest("promtool (Debian: prometheus) is not installed; only our own reader has read the metrics")
        complete(self.d)
        rc, said = promtool(self.d.request("GET", "/metrics")[2])
        self.assertEqual((rc, said), (0, ""))
        _, said = promtool(self.d.request("GET", "/metrics/vllm")[2])
        others = [x for x in said.splitlines() if not re.fullmatch(r"vllm:\S+ metric names should not contain ':'", x)]
        self.assertEqual(others, [])

    def test_counters_add_up_to_what_was_asked(self):
        complete(self.d)
        before = scrape(self.d)
        usages, n_ok = [], 0
        for body in ({}, {"n": 2, "temperature": 1.0}, {"prompt": ["One day", "The sun was"]}, {"max_tokens": 1}):
            status, _, answer = complete(self.d, **body)
            self.assertEqual(status, 200, answer)
            usages.append(answer["usage"])
            n_ok += 1
        for event in self.d.stream("/v1/completions", {"model": "stories", "prompt": "Once", "max_tokens": 9, "stream": True,
                                                       "stream_options": {"include_usage": True}}):
            if event.kind == "data" and event.data != "[DONE]" and event.json.get("usage"):
                usages.append(event.json["usage"])
        n_ok += 1
        self.assertEqual(complete(self.d, model="nothing-of-the-kind")[0], 404)
        self.assertEqual(complete(self.d, prompt="x " * 5000)[0], 400)
        self.assertEqual(complete(self.d, top_p=5)[0], 400)
        self.assertTrue(wait_until(lambda: prom.total(scrape(self.d), "berth_requests_in_flight") == 0))
        after = scrape(self.d)
        prom.assert_monotonic(before, after)

        def grown(name, **labels):
            return prom.total(after, name, **labels) - prom.total(before, name, **labels)

        self.assertEqual(grown("berth_requests_total", model="stories", api="completions", code="200", reason=""), n_ok)
        self.assertEqual(grown("berth_requests_total", model="other", code="404", reason="model_not_found"), 1)
        self.assertEqual(grown("berth_requests_total", code="400", reason="context_length_exceeded"), 1)
        self.assertEqual(grown("berth_requests_total", code="400"), 2)
        self.assertEqual(grown("berth_requests_total"), n_ok + 3)
        for metric, field in (("prompt", "prompt_tokens"), ("generated", "completion_tokens")):
            self.assertEqual(grown(f"berth_{metric}_tokens_total", model="stories"), sum(u[field] for u in usages), metric)
        self.assertEqual(grown("berth_cached_prompt_tokens_total", model="stories"),
                         sum(u["prompt_tokens_details"]["cached_tokens"] for u in usages))
        for name in ("queue", "time_to_first_token", "request"):
            count = [prom.value(f, f"berth_{name}_seconds_count", model="stories") or 0 for f in (before, after)]
            self.assertEqual(count[1] - count[0], n_ok, name)
        self.assertEqual(prom.value(after, "berth_models", state="ready"), 1)
        self.assertEqual(grown("berth_http_answers_total", route="/metrics", code="200") >= 1, True)
        loaded = [dict(labels) for _, labels in after["berth_model_loaded"].samples]
        self.assertEqual([(x["model"], x["engine"], x["quant"]) for x in loaded], [("stories", "berth", "F32")])
        self.assertGreater(prom.value(after, "berth_memory_bytes", model="stories", pool="kv"), 0)
        self.assertGreater(prom.value(after, "berth_worker_resident_memory_bytes", model="stories"), 1 << 20)
        self.assertGreater(prom.value(after, "process_resident_memory_bytes"), 1 << 20)
        self.assertGreater(prom.value(after, "process_open_fds"), 5)
        self.assertLess(abs(prom.value(after, "process_start_time_seconds") - time.time()), 600)
        self.assertTrue(wait_until(lambda: (prom.value(scrape(self.d), "berth_kv_blocks", model="stories") or 0) > 0))

    def test_vllm_names_say_the_same(self):
        complete(self.d)
        self.assertTrue(wait_until(lambda: prom.value(scrape(self.d), "berth_request_seconds_count", model="stories")))
        families = scrape(self.d, "/metrics/vllm")
        for theirs, ours in (("vllm:prompt_tokens_total", "berth_prompt_tokens_total"),
                             ("vllm:generation_tokens_total", "berth_generated_tokens_total"),
                             ("vllm:num_requests_running", "berth_requests_running"),
                             ("vllm:e2e_request_latency_seconds_count", "berth_request_seconds_count")):
            self.assertIsNotNone(prom.value(families, theirs, model_name="stories"), theirs)
            self.assertEqual(prom.value(families, theirs, model_name="stories"),
                             prom.value(families, ours, model="stories"), theirs)

    def test_what_clients_write_is_no_label(self):
        for i in range(20):
            complete(self.d, model=f"sk-invented-{i}")
        self.d.request("GET", "/sk-invented-path")
        body = self.d.request("GET", "/metrics/vllm")[2]
        self.assertNotIn(b"sk-invented", body)

    def test_a_client_that_leaves_is_counted_as_that(self):
        before = prom.total(scrape(self.d), "berth_requests_cancelled_total")
        body = json.dumps({"model": "stories", "prompt": "Once", "max_tokens": 2000, "ignore_eos": True, "stream": True,
                           "n": 128}).encode()
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", self.d.port)) as s:
                s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                          b"Content-Length: %d\r\n\r\n" % len(body) + body)
                s.recv(4096)
        self.assertTrue(wait_until(
            lambda: prom.total(scrape(self.d), "berth_requests_cancelled_total") == before + 3))
        self.assertGreaterEqual(prom.total(scrape(self.d), "berth_requests_total", code="499", reason="cancelled"), 3)

    def test_scrapes_under_load_are_sound_and_never_go_back(self):
        last, done = scrape(self.d), threading.Event()
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            work = [pool.submit(lambda: [complete(self.d)[0] for _ in range(5)]) for _ in range(5)]
            while not done.is_set():
                now = scrape(self.d)
                prom.assert_monotonic(last, now)
                last = now
                if all(w.done() for w in work):
                    done.set()
        self.assertEqual({s for w in work for s in w.result()}, {200})


class Probes(unittest.TestCase):
    def test_alive_ready_and_healthy(self):
        with Daemon() as d:
            for path in ("/livez", "/readyz", "/health"):
                status, headers, body = d.get(path)
                self.assertEqual((status, body), (200, {"status": "ok"}), path)
                self.assertEqual(headers["cache-control"], "no-store")
                self.assertEqual(d.request("HEAD", path)[0], 200)

    def test_a_full_queue_is_not_ready(self):
        body = json.dumps({"model": "stories", "prompt": "Once", "max_tokens": 2000, "ignore_eos": True, "stream": True}).encode()
        with Daemon(args=["--max-waiting", "2"]) as d:
            began = []

            def ask():  # one long answer after the other, so that the queue stays full
                while not began or not began[0]:
                    c = d.connect()
                    c.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
                    c.getresponse().read()
                    c.close()

            threads = [threading.Thread(target=ask) for _ in range(4)]
            for t in threads:
                t.start()
            reasons = set()

            def seen():
                status, _, answer = d.get("/readyz")
                reasons.add((status, answer.get("reason", "")))
                return any(s == 503 and "the queue of model stories is full" in why for s, why in reasons)

            try:
                self.assertTrue(wait_until(seen), reasons)
                self.assertEqual(d.get("/livez")[0], 200)
            finally:
                began.append(True)
                for t in threads:
                    t.join()
            self.assertTrue(wait_until(lambda: d.get("/readyz")[0] == 200))

    def test_stopping_is_alive_and_not_ready(self):
        with Daemon(args=["--drain-delay", "2"]) as d:
            os.kill(d.pid, signal.SIGTERM)
            self.assertTrue(wait_until(lambda: d.get("/readyz")[0] == 503))
            status, headers, body = d.get("/readyz")
            self.assertEqual((status, body["status"], headers["retry-after"]), (503, "unavailable", "1"))
            self.assertIn("stopping", body["reason"])
            self.assertEqual(d.get("/livez")[::2], (200, {"status": "ok"}))
            status, _, body = d.get("/health")
            self.assertEqual((status, body["error"]["code"], body["error"]["type"]), (503, 503, "unavailable_error"))
            self.assertEqual(complete(d)[0], 200)  # who comes in spite of it is answered


class Logs(unittest.TestCase):
    def test_a_request_is_one_line_with_its_id(self):
        for fmt in ("text", "json"):
            with Daemon(args=["--log-format", fmt]) as d:
                status, _, answer = complete(d, {"x-request-id": "my-own-id"})
                self.assertEqual(status, 200)
                complete(d, {"x-request-id": "another"}, model="unknown-one")
                self.assertTrue(wait_until(lambda: all(x in d.output() for x in ("my-own-id", "another"))), d.output())

                def both():  # the file and the route, which say the same
                    text = d.request("GET", "/logs")[2].decode()
                    return text if d.output().endswith(text) else ""
                text = wait_until(both)
                self.assertTrue(text, d.output())
                lines = [x for x in text.splitlines() if "my-own-id" in x]
                self.assertEqual(len(lines), 1, text)
                usage = answer["usage"]
                if fmt == "json":
                    rows = [json.loads(x) for x in text.splitlines()]
                    self.assertTrue(all(STAMP.fullmatch(r["time"]) and r["level"] and r["component"] for r in rows))
                    row = json.loads(lines[0])
                    self.assertEqual({k: row[k] for k in ("level", "msg", "request_id", "model", "api", "status")},
                                     {"level": "info", "msg": "request", "request_id": "my-own-id", "model": "stories",
                                      "api": "completions", "status": 200})
                    self.assertEqual((row["prompt_tokens"], row["generated_tokens"]),
                                     (usage["prompt_tokens"], usage["completion_tokens"]))
                    self.assertEqual([r["code"] for r in rows if r.get("request_id") == "another"], ["model_not_found"])
                else:
                    self.assertTrue(all(STAMP.match(x) for x in text.splitlines()), text)
                    self.assertIn(f" generated_tokens={usage['completion_tokens']} ", lines[0])
                    self.assertIn(" model=stories api=completions status=200 ", lines[0])

    def test_logs_by_number_and_bad_numbers(self):
        with Daemon(args=["--log-level", "debug"]) as d:
            for _ in range(5):
                d.get("/version")
            self.assertEqual(len(d.request("GET", "/logs?lines=3")[2].splitlines()), 3)
            self.assertEqual(d.request("GET", "/logs?lines=0")[2], b"")
            self.assertEqual(d.request("HEAD", "/logs?follow=true")[0], 200)
            for query in ("lines=-1", "lines=x", "lines=", "lines=99999999999999999999", "follow=perhaps"):
                self.assertEqual(d.request("GET", "/logs?" + query)[0], 400, query)

    def test_followers_get_what_comes_and_end_with_the_daemon(self):
        with Daemon() as d:
            c = http.client.HTTPConnection("127.0.0.1", d.port, timeout=30)
            c.request("GET", "/logs?follow=true&lines=0")
            r = c.getresponse()
            complete(d, {"x-request-id": "seen-by-followers"})
            got = b""
            while b"seen-by-followers" not in got or not got.endswith(b"\n"):
                got += r.read1(65536)
            self.assertTrue(all(STAMP.match(x) for x in got.decode().splitlines()), got)
            self.assertTrue(wait_until(lambda: b"seen-by-followers" in d.request("GET", "/logs")[2]))
            before = d.request("GET", "/logs")[2]
            time.sleep(0.6)  # to follow the log is no reason to log
            self.assertEqual(d.request("GET", "/logs")[2], before)
            began = time.monotonic()
            self.assertEqual(d.stop(), 0)
            self.assertLess(time.monotonic() - began, 8 * SLOW, "a follower held up the stop")
            self.assertIn(b"stopping", r.read())
            c.close()

    def test_followers_are_bounded_and_slow_ones_hold_up_nobody(self):
        with Daemon(args=["--log-level", "debug"]) as d:
            socks = []
            for _ in range(33):
                s = socket.create_connection(("127.0.0.1", d.port), timeout=30)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.sendall(b"GET /logs?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
                socks.append(s)
            heads = [s.recv(12) for s in socks]
            self.assertEqual(heads.count(b"HTTP/1.1 200"), 32)
            self.assertEqual(heads.count(b"HTTP/1.1 503"), 1)
            c = d.connect()
            for _ in range(1000):  # nobody reads
                c.request("GET", "/version")
                self.assertEqual(c.getresponse().read()[:1], b"{")
            c.close()
            for s in socks:
                s.close()
            self.assertTrue(wait_until(lambda: prom.value(scrape(d), "berth_http_requests_open") == 1))

    def test_a_file_that_is_no_model_is_told_once_and_by_its_name(self):
        with tempfile.TemporaryDirectory() as folder:
            os.symlink("/nowhere", os.path.join(folder, "broken.gguf"))
            with Daemon(models_dir=folder) as d:
                for _ in range(3):
                    scrape(d)
                    d.get("/v1/models")
                lines = [x for x in d.request("GET", "/logs")[2].decode().splitlines() if "left out" in x]
                self.assertEqual(len(lines), 1)
                self.assertIn("left out: broken.gguf: ", lines[0])
                self.assertNotIn(folder, lines[0])

    def test_files_are_bounded_and_keep_the_latest_lines(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "serve.log")
            with Daemon(args=["--log-level", "debug", "--log-file", path, "--log-file-size", "64k",
                              "--log-file-count", "3"]) as d:
                def work(k):
                    c = d.connect()
                    for i in range(500):
                        c.request("GET", "/version", headers={"x-request-id": f"worker-{k}-{i:04}-" + 60 * "x"})
                        c.getresponse().read()
                    c.close()

                with concurrent.futures.ThreadPoolExecutor(4) as pool:
                    list(pool.map(work, range(4)))
                self.assertTrue(wait_until(
                    lambda: prom.total(scrape(d), "berth_http_answers_total", route="/version") == 2000))
                self.assertEqual(prom.value(scrape(d), "berth_log_lines_dropped_total"), 0)
                self.assertEqual(d.output().count("\n"), 1)  # where it listens, and no log
            self.assertEqual(sorted(os.listdir(folder)), ["serve.log", "serve.log.1", "serve.log.2"])
            text = ""
            for name in ("serve.log.2", "serve.log.1", "serve.log"):
                part = slurp(os.path.join(folder, name))
                self.assertLessEqual(len(part.encode()), 65536, name)
                self.assertTrue(part.endswith("\n"), name)
                text += part
            self.assertGreater(len(text), 2 * 60000)
            self.assertTrue(all(STAMP.match(x) for x in text.splitlines()))
            n_seen = 0
            for k in range(4):  # of each client the last so many, none missing in between; none of one that ended long before
                seen = [int(n) for n in re.findall(rf"request_id=worker-{k}-(\d+)-", text)]
                self.assertEqual(seen, list(range(500 - len(seen), 500)))
                n_seen += len(seen)
            self.assertGreater(n_seen, 500)

    def test_a_folder_that_goes_away_and_comes_back(self):
        with tempfile.TemporaryDirectory() as outer:
            folder = os.path.join(outer, "logs")
            os.mkdir(folder)
            path = os.path.join(folder, "serve.log")
            with Daemon(args=["--log-level", "debug", "--log-file", path]) as d:
                shutil.rmtree(folder)

                def lost():
                    d.get("/version")
                    return prom.value(scrape(d), "berth_log_lines_dropped_total") > 0

                self.assertTrue(wait_until(lost))
                self.assertEqual(complete(d)[0], 200)
                os.mkdir(folder)
                self.assertTrue(wait_until(lambda: d.get("/version")[0] == 200 and os.path.exists(path)))
                self.assertTrue(wait_until(lambda: "log lines are being lost" in d.output()))
                self.assertEqual(d.output().count("log lines are being lost"), 1, d.output())

    def test_a_log_that_cannot_be_written_stops_nothing(self):
        with Daemon(args=["--log-level", "debug", "--log-file", "/dev/full"]) as d:
            for _ in range(3):
                self.assertEqual(complete(d)[0], 200)
            self.assertTrue(wait_until(lambda: prom.value(scrape(d), "berth_log_lines_dropped_total") > 4))
            self.assertTrue(wait_until(lambda: "api=completions" in d.request("GET", "/logs")[2].decode()))
            self.assertTrue(wait_until(lambda: "log lines are being lost" in d.output()))
            self.assertEqual(d.output().count("log lines are being lost"), 1, d.output())

    def test_files_that_cannot_be_logs_are_refused_at_the_start(self):
        for flag in ("--log-file", "--audit-log"):
            with self.assertRaises(RuntimeError) as e:
                Daemon(args=[flag, "/nowhere/at/all/log"]).start()
            self.assertIn("/nowhere/at/all/log", str(e.exception))
        with self.assertRaises(RuntimeError) as e:
            Daemon(args=["--log-prompts"]).start()
        self.assertIn("log-file", str(e.exception))


class Audit(unittest.TestCase):
    def test_a_line_says_what_the_answer_said(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "audit")
            with Daemon(args=["--audit-log", path]) as d:
                asked = {"whole": {}, "seeded": {"seed": 7, "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.05,
                                                 "n": 2, "presence_penalty": 0.25, "frequency_penalty": -0.5},
                         "stream": {"stream": True, "stream_options": {"include_usage": True}}}
                answers = {}
                for name, body in asked.items():
                    if name == "stream":
                        body = {"model": "stories", "prompt": "Once upon a time", "max_tokens": 8, **body}
                        events = [e.json for e in d.stream("/v1/completions", body, {"x-request-id": name})
                                  if e.kind == "data" and e.data != "[DONE]"]
                        answers[name] = {**events[-1], "usage": next(e["usage"] for e in events if e.get("usage"))}
                    else:
                        answers[name] = complete(d, {"x-request-id": name}, **body)[2]
                complete(d, {"x-request-id": "unknown"}, model="not-there")
                complete(d, {"x-request-id": "refused"}, top_p=9)
                models = d.get("/berth/v1/models")[2]["models"]
                self.assertTrue(wait_until(lambda: slurp(path).count("\n") == 5))
                self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
                lines = {x["request_id"]: x for x in map(json.loads, slurp(path).splitlines())}
                # The drawn seed is told: with it the answer comes again.
                again = complete(d, seed=lines["whole"]["params"]["seed"])[2]
                self.assertEqual(again["choices"][0]["text"], answers["whole"]["choices"][0]["text"])
            for name, answer in answers.items():
                line, usage = lines[name], answer["usage"]
                self.assertTrue(STAMP.fullmatch(line["time"]))
                self.assertEqual((line["prompt_tokens"], line["generated_tokens"], line["cached_tokens"]),
                                 (usage["prompt_tokens"], usage["completion_tokens"],
                                  usage["prompt_tokens_details"]["cached_tokens"]), name)
                self.assertEqual((line["status"], line["code"], line["model"], line["api"], line["stream"], line["prompts"]),
                                 (200, "", "stories", "completions", name == "stream", 1))
                self.assertEqual(line["fingerprint"], answer["system_fingerprint"])
                self.assertGreaterEqual(line["total_ms"], line["ttft_ms"])
                self.assertGreater(line["ttft_ms"], 0)
            digest = next(m.get("digest", "") for m in models if m["name"] == "stories")
            self.assertIn(lines["stream"]["model_digest"], (digest, ""))
            params = lines["seeded"]["params"]
            self.assertEqual({k: params[k] for k in asked["seeded"]}, asked["seeded"])
            self.assertEqual(params["max_tokens"], 8)
            self.assertEqual((lines["unknown"]["status"], lines["unknown"]["code"]), (404, "model_not_found"))
            self.assertEqual(lines["refused"]["status"], 400)

    def test_a_full_disk_is_counted_and_told_and_requests_go_on(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "audit")
            limited = ["sh", "-c", 'ulimit -f 1; exec "$0" "$@"', BERTH, "serve"]  # a block of 512 bytes
            with Daemon(args=["--audit-log", path], program=limited) as d:
                for _ in range(5):
                    self.assertEqual(complete(d)[0], 200)
                self.assertTrue(wait_until(lambda: prom.value(scrape(d), "berth_audit_lines_dropped_total") >= 3))
                self.assertTrue(wait_until(lambda: "audit lines are being lost" in d.output()))
                self.assertEqual(d.output().count("audit lines are being lost"), 1, d.output())
            for line in slurp(path).splitlines():
                json.loads(line)  # none is torn


class Secrets(unittest.TestCase):
    """Case 45: prompts, answers, keys and headers are in no log, metric or audit line, whatever the level."""

    MARKS = ("ZEBRAPROMPT", "sk-berth-very-secret", "ZEBRAHEADER", "ZEBRAQUERY")

    def ask(self, d):
        auth = {"Authorization": "Bearer sk-berth-very-secret-1", "X-Private": "ZEBRAHEADER"}
        for body in ({"prompt": "ZEBRAPROMPT one"}, {"prompt": "ZEBRAPROMPT two", "stop": ["ZEBRAPROMPT"], "echo": True},
                     {"prompt": "ZEBRAPROMPT " * 3000}, {"prompt": {"ZEBRAPROMPT": 1}},
                     {"prompt": "x", "user": "ZEBRAPROMPT", "temperature": "ZEBRAPROMPT"}):
            complete(d, auth, **body)
        d.post("/v1/chat/completions", {"model": "stories-chat", "max_tokens": 5,
                                        "messages": [{"role": "user", "content": "ZEBRAPROMPT three"}]}, auth)
        d.request("POST", "/v1/completions", b'{"model": "stories", "prompt": "ZEBRAPROMPT', {
            "Content-Type": "application/json", **auth})
        d.request("GET", "/v1/models?q=ZEBRAQUERY", None, auth)
        d.request("GET", "/no-such-route?q=ZEBRAQUERY", None, auth)
        d.request("GET", "/v1/models", None, {"Authorization": "Bearer sk-berth-very-secret-wrong"})
        return auth

    def test_nothing_secret_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = os.path.join(folder, "keys")
            with open(os.open(keys, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="utf-8") as f:
                f.write("me infer,manage sk-berth-very-secret-1\n")
            audit, log = os.path.join(folder, "audit"), os.path.join(folder, "log")
            for level in ("info", "debug"):
                with Daemon(args=["--api-keys", keys, "--audit-log", audit, "--log-level", level, "--log-file", log]) as d:
                    auth = self.ask(d)
                    told = {"metrics": d.request("GET", "/metrics/vllm", None, auth)[2].decode(),
                            "ring": d.request("GET", "/logs?lines=100000", None, auth)[2].decode()}
                    told["command line"] = slurp(f"/proc/{d.pid}/cmdline")
                    out = d
                told["standard error"] = out.output()
                for name in (audit, log):
                    told[name] = slurp(name)
                self.assertIn('"key":"me"', told[audit])
                for place, text in told.items():
                    for mark in self.MARKS:
                        self.assertNotIn(mark, text, f"{mark} in {place} at level {level}")
                if level == "info":
                    self.assertNotIn("/models/", told[log] + told["ring"], "a model is named, not its path")

    def test_prompts_are_written_where_that_was_asked_for_and_nowhere_else(self):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            with Daemon(args=["--log-prompts", "--log-level", "debug", "--log-file", log]) as d:
                complete(d, prompt="ZEBRAPROMPT one")
                ring = d.request("GET", "/logs?lines=100000")[2].decode()
                self.assertTrue(wait_until(lambda: "ZEBRAPROMPT one" in slurp(log)))
                self.assertEqual(os.stat(log).st_mode & 0o777, 0o600)
                self.assertIn("log-prompts is on", ring)
                self.assertNotIn("ZEBRAPROMPT", ring + d.output())


if __name__ == "__main__":
    unittest.main()
