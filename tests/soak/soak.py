#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An hour, or as long as one says, of everything at once: random requests of several clients to several models, clients
that leave at random moments, nonsense, workers killed, models unloaded and configured anew under way.

usage: tests/soak/soak.py [--minutes M] [--clients N] [--seed S]          (make soak MINUTES=60)

Two things fail it.  An answer that nothing explains: a request may fail only when what was done to its model meanwhile says why.
And growth: every so often all clients pause, and at such a quiet point nothing may run, no block of a cache be held, every child be
a loaded model's worker; descriptors and threads may not exceed what they were, and memory, after a warm-up, may not grow by
more than GROWTH_BYTES between the first third of the quiet points and the last.
"""
import argparse
import collections
import json
import os
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import MODELS, SLOW, Daemon, Refused, wait_until  # noqa: E402
from raw_http import Wire, post  # noqa: E402

GROWTH_BYTES = 3 << 20
NAMES = ("ant", "bee", "cat", "stories")
# What a model's clients may be told after something was done to it.
EXPLAINED = {"worker_crashed", "model_unloaded", "model_broken", "canceled", "stopping"}
# What may be said at any time: there is room for three of the four models, and all three may be busy.
ALWAYS = {"insufficient_memory"}
BAD = [
    (b"", 400), (b"{", 400), (b"[]", 400), (b'{"model":"ant"}', 400), (b'{"model":"nobody","prompt":"x"}', 404),
    (b'{"model":"ant","prompt":"x","temperature":-1}', 400), (b'{"model":"ant","prompt":"x","n":100000}', 400),
    (b'{"model":"ant","prompt":[1,2,99999]}', 400), (b'{"model":"ant","prompt":"' + b"word " * 20000 + b'"}', 400),
    (b'{"model":"ant","prompt":"x","stop":["a","b","c"],"logit_bias":{"99999":1}}', 400), (b"\xff\xfe" * 50, 400),
    (b'{"model":"ant","prompt":"x","max_tokens":"many"}', 400), (b'{"a":' * 2000, 400),
]
GARBAGE = (b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\n", b"\0" * 100, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
           b"Content-Length: 100\r\n\r\n{", b"GET /livez HTTP/9.9\r\n\r\n", b"\x16\x03\x01" + b"x" * 200)


class Soak:
    def __init__(self, seconds, clients, seed, out=print):
        self.seconds, self.seed, self.out = seconds, seed, out
        self.counts, self.problems = collections.Counter(), []
        self.done = {name: [] for name in NAMES}  # when something was done to a model: (time, what)
        self.lock = threading.Lock()
        self.pause, self.over = threading.Event(), threading.Event()
        self.n_clients, self.n_parked = clients, 0
        self.quiet = []
        self.folder = tempfile.mkdtemp(prefix="berth-soak-")
        for i, name in enumerate(NAMES[:3]):
            tiny_gguf.write(os.path.join(self.folder, name + ".gguf"), seed=i)
        shutil.copy(os.path.join(MODELS, "stories.gguf"), self.folder)
        self.d = Daemon(models_dir=self.folder, timeout=120 * SLOW, args=[
            "--threads", "1", "--max-loaded", "3", "--keep-alive", "5", "--log-file", os.path.join(self.folder, "log"),
            "--log-file-size", "1M", "--log-level", "debug", "--audit-log", os.path.join(self.folder, "audit")])

    # --- what is done ---

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def problem(self, what):
        with self.lock:
            self.problems.append(f"{time.monotonic() - self.start:.1f} s: {what}"[:600])

    def act(self, model, what):
        with self.lock:
            self.done[model].append((time.monotonic(), what))
            self.done[model] = self.done[model][-100:]
        self.count(what)

    def judge(self, model, since, code, said):
        """A request to model, begun at since, failed with code."""
        # A broken model is refused for up to a minute after what broke it; a worker that was told to end takes its time.
        window = 90 if code == "model_broken" else 3 * SLOW
        with self.lock:
            why = [w for t, w in self.done[model] if t > since - window]
        if code in ALWAYS or (code in EXPLAINED and why):
            self.count(f"explained: {code}")
        else:
            self.problem(f"{model}: {code} and nothing explains it: {said}")

    def body(self, rng, model, chat):
        b = {"model": model, "max_tokens": rng.choice((1, 3, 20, 200, 300)), "seed": rng.randrange(10 ** 9),
             "temperature": rng.choice((0, 0.7, 1))}
        text = " ".join(rng.choice(("once", "upon", "a", "time", "the", "dog")) for _ in range(rng.choice((1, 8, 40, 150))))
        if chat:
            b["messages"] = [{"role": "user", "content": text}]
        else:
            b["prompt"] = text
        for name, value in (("n", rng.choice((2, 5))), ("stop", ["e", "dog"]), ("top_k", 5), ("top_p", 0.8), ("min_p", 0.1),
                            ("ignore_eos", True), ("logprobs", True if chat else 2), ("presence_penalty", 1),
                            ("repetition_penalty", 1.1), ("logit_bias", {"5": -100})):
            if rng.random() < 0.15:
                b[name] = value
        return b

    def ask(self, rng):
        model = rng.choice(NAMES)
        chat = model != "stories" and rng.random() < 0.5
        path = "/v1/chat/completions" if chat else "/v1/completions"
        body, since = self.body(rng, model, chat), time.monotonic()
        kind = rng.choice(("whole", "stream", "leave"))
        self.count(kind)
        if kind == "leave":
            body.update(stream=rng.random() < 0.5, max_tokens=300)
            w = Wire(self.d.port, timeout=60 * SLOW)
            w.push(post(path, json.dumps(body)))
            w.settimeout(rng.choice((0.0005, 0.01, 0.1)))
            try:
                w.recv(rng.choice((1, 1000, 100000)))
            except OSError:
                pass
            if rng.random() < 0.3:
                w.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            w.close()
        elif kind == "stream":
            body.update(stream=True, stream_options={"include_usage": True})
            try:
                last = list(self.d.stream(path, body))[-1]
                if last.data != "[DONE]":
                    error = last.json["error"]
                    self.judge(model, since, error["code"], error["message"])
            except Refused as e:
                self.judge(model, since, e.error.get("code"), str(e))
        else:
            status, _, answer = self.d.post(path, body)
            if status != 200:
                self.judge(model, since, answer["error"]["code"], answer)
            elif answer["usage"]["completion_tokens"] > body["max_tokens"] * body.get("n", 1):
                self.problem(f"more tokens than asked for: {answer['usage']}")

    def nonsense(self, rng):
        self.count("nonsense")
        if rng.random() < 0.3:
            w = Wire(self.d.port, timeout=0.05)
            w.push(rng.choice(GARBAGE))
            try:
                w.recv(1000)
            except OSError:
                pass
            w.close()
            return
        body, wanted = rng.choice(BAD)
        since = time.monotonic()
        status, _, answer = self.d.post("/v1/completions", body)
        if status != wanted:
            if status >= 500:
                self.judge("ant", since, answer["error"]["code"], answer)
            else:
                self.problem(f"{status}, not {wanted}, for {body[:80]!r}: {str(answer)[:300]}")

    def look(self, rng):
        self.count("look")
        path = rng.choice(("/v1/models", "/metrics", "/livez", "/berth/v1/status", "/berth/v1/models", "/engines/ps", "/version",
                           "/logs?lines=20"))
        status = self.d.get(path)[0]
        if status != 200:
            self.problem(f"{path}: {status}")

    def client(self, i):
        rng = random.Random(self.seed * 1000 + i)
        while not self.over.is_set():
            if self.pause.is_set():
                with self.lock:
                    self.n_parked += 1
                while self.pause.is_set():
                    time.sleep(0.01)
                with self.lock:
                    self.n_parked -= 1
                continue
            try:
                rng.choices((self.ask, self.nonsense, self.look), (8, 1, 1))[0](rng)
            except Exception as e:  # pylint: disable=broad-except
                self.problem(f"{type(e).__name__}: {e}")
                time.sleep(0.1)

    def chaos(self, rng):
        """Every so often something is done to a model."""
        while not self.over.wait(rng.uniform(0.2, 2)):
            if self.pause.is_set():
                continue
            model = rng.choice(NAMES)
            try:
                what = rng.choices(("kill", "unload", "configure", "load"), (4, 2, 2, 1))[0]
                if what == "kill":
                    pid = next((m.get("pid") for m in self.models() if m["name"] == model), None)
                    if pid:
                        self.act(model, what)
                        os.kill(pid, signal.SIGKILL)
                elif what == "unload":
                    self.act(model, what)
                    self.d.post("/berth/v1/unload", {"model": model})
                elif what == "configure":
                    self.act(model, what)
                    status, _, answer = self.d.post("/berth/v1/configure", {"model": model, "settings": {
                        "context-size": rng.choice((None, 1536, 2048)), "max-num-seqs": rng.choice((None, 2, 16)),
                        "keep-alive": rng.choice((None, 1, "1m"))}})
                    if status != 200:
                        self.problem(f"configure: {status} {answer}")
                else:
                    self.count(what)
                    since = time.monotonic()
                    status, _, answer = self.d.post("/berth/v1/load", {"model": model})
                    if status != 200:
                        self.judge(model, since, answer["error"]["code"], answer)
            except ProcessLookupError:
                pass
            except Exception as e:  # pylint: disable=broad-except
                self.problem(f"while doing something to {model}: {type(e).__name__}: {e}")

    # --- what is watched ---

    def models(self):
        return self.d.get("/berth/v1/models")[2]["models"]

    def children(self):
        found = set()
        for task in os.listdir(f"/proc/{self.d.pid}/task"):
            try:
                with open(f"/proc/{self.d.pid}/task/{task}/children", encoding="ascii") as f:
                    found.update(int(p) for p in f.read().split())
            except OSError:
                pass
        return found

    def sample(self):
        with open(f"/proc/{self.d.pid}/status", encoding="ascii") as f:
            status = dict(line.split(":", 1) for line in f)
        return {"at": time.monotonic() - self.start, "rss": int(status["VmRSS"].split()[0]) * 1024,
                "threads": int(status["Threads"]), "fds": len(os.listdir(f"/proc/{self.d.pid}/fd"))}

    def quiet_point(self):
        """All clients pause: what is held now is held for nobody."""
        self.pause.set()
        limit = 60 * SLOW
        if not wait_until(lambda: self.n_parked == self.n_clients, timeout=limit):
            self.problem(f"{self.n_clients - self.n_parked} clients wait for an answer that does not come")
        still = wait_until(lambda: not [m for m in self.models() if m.get("n_running") or m.get("n_waiting") or
                                        m.get("blocks_used")], timeout=limit)
        models = self.models()
        if not still:
            self.problem("not quiet: " + "; ".join(f"{m['name']} {m['state']} running {m.get('n_running')} waiting "
                                                   f"{m.get('n_waiting')} blocks {m.get('blocks_used')}" for m in models))
        workers = {m["pid"] for m in models if m.get("pid")}
        if not wait_until(lambda: self.children() == {m["pid"] for m in self.models() if m.get("pid")}, timeout=limit):
            self.problem(f"children {self.children()}, workers {workers}")
        for m in self.models():  # one state for all samples: descriptors and memory count loaded models
            if m.get("pid"):
                self.act(m["name"], "unload")
                self.d.post("/berth/v1/unload", {"model": m["name"]})
        if not wait_until(lambda: not self.children(), timeout=limit):
            self.problem(f"children after all models were unloaded: {self.children()}")
        time.sleep(0.1)
        self.quiet.append(self.sample())
        self.pause.clear()

    def growth(self):
        """Sentences about what grew between the first third of the quiet points, after a warm-up, and the last."""
        points = self.quiet[1:] if len(self.quiet) > 3 else self.quiet
        third = max(1, len(points) // 3)
        first, last, out = points[:third], points[-third:], []
        for name, bound in (("rss", GROWTH_BYTES), ("fds", 2), ("threads", 0)):
            grown = statistics.median(p[name] for p in last) - statistics.median(p[name] for p in first)
            if grown > bound and not (name == "rss" and SLOW > 1):  # sanitizers keep what was freed
                out.append(f"{name} grew by {grown}, more than {bound}")
        return out

    def slope(self):
        """Bytes an hour, by least squares over the quiet points after the warm-up."""
        points = self.quiet[1:]
        if len(points) < 3:
            return float("nan")
        mx, my = statistics.mean(p["at"] for p in points), statistics.mean(p["rss"] for p in points)
        return 3600 * sum((p["at"] - mx) * (p["rss"] - my) for p in points) / sum((p["at"] - mx) ** 2 for p in points)

    def run(self):
        """Problems, as a list of sentences; the summary goes to out."""
        self.start = time.monotonic()
        self.d.start()
        threads = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(self.n_clients)]
        threads.append(threading.Thread(target=self.chaos, args=(random.Random(self.seed),), daemon=True))
        for t in threads:
            t.start()
        every = min(20.0, self.seconds / 6)
        try:
            while time.monotonic() - self.start < self.seconds:
                time.sleep(every)
                if not self.d.alive():
                    self.problem("the daemon has ended")
                    break
                self.quiet_point()
                p = self.quiet[-1]
                if len(self.quiet) % 3 == 0 and self.seconds > 60:
                    self.out(f"{p['at']:6.0f} s  {sum(self.counts.values())} actions, {p['rss'] / 1e6:.2f} MB, {p['fds']} "
                             f"descriptors, {p['threads']} threads, {len(self.problems)} problems")
        finally:
            self.over.set()
            for t in threads:
                t.join(120 * SLOW)
            rc = self.d.stop(timeout=60 * SLOW) if self.d.alive() else self.d.process.returncode
            if rc != 0:
                self.problem(f"exit status {rc}: {self.d.output()[-2000:]}")
            shutil.rmtree(self.folder, ignore_errors=True)
        self.problems += self.growth()
        self.out(f"soak: {time.monotonic() - self.start:.0f} s, seed {self.seed}, {len(self.quiet)} quiet points; "
                 f"memory {self.quiet[0]['rss'] / 1e6:.2f} to {self.quiet[-1]['rss'] / 1e6:.2f} MB "
                 f"({self.slope() / 1e6:+.2f} MB/h), descriptors {self.quiet[0]['fds']} to {self.quiet[-1]['fds']}, "
                 f"threads {self.quiet[0]['threads']} to {self.quiet[-1]['threads']}")
        self.out("soak: " + ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items())))
        return self.problems


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--minutes", type=float, default=10)
    ap.add_argument("--clients", type=int, default=8)
    ap.add_argument("--seed", type=int, default=int(time.time()))
    args = ap.parse_args()
    problems = Soak(args.minutes * 60, args.clients, args.seed, out=lambda s: print(s, flush=True)).run()
    for p in problems[:50]:
        print("  " + p)
    print(f"soak: {'FAILED, ' + str(len(problems)) + ' problems' if problems else 'ok'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
