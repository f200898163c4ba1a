#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What berth costs as a service: memory at rest, starts, processor time for each token, many connections, bad clients.

usage: tests/bench/service.py [--json] [--only WORD] [--list]
Prints a table: the figure, its target, and whether it is met.  It judges nothing (exit 0): a busy machine moves the times; what
is a share or a ratio of what was measured in turns moves least.  The model is one of a hundred kilobytes (tests/support/tiny_gguf.py), so that what is measured
is everything around the engine.  BERTH names the program.
"""
import argparse
import json
import os
import resource
import selectors
import socket
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import BERTH, MODELS, Daemon, wait_until  # noqa: E402
from raw_http import get, post  # noqa: E402

ROWS = []


def row(name, value, unit, target=None, more=""):
    """target: the value must be below it, or, written as ('>', x), above."""
    ok = None
    if target is not None:
        ok = value > target[1] if isinstance(target, tuple) else value < target
    said = "" if target is None else (f"> {target[1]:g}" if isinstance(target, tuple) else f"< {target:g}")
    ROWS.append({"name": name, "value": value, "unit": unit, "target": said, "ok": ok, "more": more})
    if not ARGS.json:
        mark = {None: "", True: "OK", False: "OVER" if not isinstance(target, tuple) else "UNDER"}[ok]
        print(f"{name:<58} {value:>10.3f} {unit:<12} {said:<8} {mark:<5} {more}", flush=True)


def cpu_s(pid):
    """Processor time of a process's threads so far, from the scheduler's own count in nanoseconds."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
        except OSError:
            pass
    return total * 1e-9


def memory(pid):
    """(VmRSS, Pss) in bytes"""
    out = {}
    for name in ("status", "smaps_rollup"):
        with open(f"/proc/{pid}/{name}", encoding="ascii") as f:
            for line in f:
                key, _, value = line.partition(":")
                if key in ("VmRSS", "Pss"):
                    out[key] = int(value.split()[0]) * 1024
    return out["VmRSS"], out["Pss"]


def body(max_tokens, stream=True, **more):
    return post("/v1/completions", json.dumps({"model": "tiny", "prompt": "hello", "seed": 1, "ignore_eos": True,
                                               "max_tokens": max_tokens, "stream": stream, **more}))


def connect(d, rcvbuf=0):
    s = socket.socket()
    if rcvbuf:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    s.settimeout(60)
    s.connect(("127.0.0.1", d.port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def read_answer(s):
    """One answer with a Content-Length, from a connection that stays open."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = s.recv(65536)
        if not more:
            raise ConnectionError("closed")
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    n = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(rest) < n:
        rest += s.recv(65536)
    return head, rest


def first_token_s(d, ask=None):
    """A client of its own: from connecting to the first piece of text."""
    start = time.perf_counter()
    s = connect(d)
    s.sendall(ask or body(1))
    got = b""
    while b"data: " not in got:
        more = s.recv(65536)
        if not more:
            raise ConnectionError(got[:200])
        got += more
    took = time.perf_counter() - start
    s.close()
    return took


def read_stream(s):
    """Bytes of a stream until its end."""
    n, tail = 0, b""
    while not tail.endswith(b"0\r\n\r\n"):
        more = s.recv(1 << 18)
        if not more:
            break
        n += len(more)
        tail = (tail + more)[-16:]
    return n


def daemon(*args, program=None, env=None):
    d = Daemon(models_dir=FOLDER, args=["--threads", "1", "--log-level", "warn", *args], program=program, env=env)
    d.start()
    return d


def warm(d):
    for _ in range(5):
        first_token_s(d)


# --- the figures ---


def bench_idle():
    d = daemon()
    d.get("/health")
    time.sleep(0.5)
    rss, pss = memory(d.pid)
    before = cpu_s(d.pid)
    time.sleep(3)
    used = (cpu_s(d.pid) - before) / 3
    d.stop()
    row("idle daemon, resident (VmRSS)", rss / 1e6, "MB", 12)
    row("idle daemon, its share of shared pages (Pss)", pss / 1e6, "MB", 12)
    row("idle daemon, processor time", used * 1e3, "ms/s")


def spawn_s(args, env, first_byte=False):
    r, w = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    start = time.perf_counter()
    pid = os.posix_spawn(args[0], args, env, file_actions=[
        (os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, w, 1), (os.POSIX_SPAWN_DUP2, null, 2)])
    os.close(w)
    if first_byte:
        got = os.read(r, 1)
        took = time.perf_counter() - start
        while os.read(r, 65536):
            pass
        os.waitpid(pid, 0)
        if not got:
            raise RuntimeError(f"{args} printed nothing")
    else:
        os.waitpid(pid, 0)
        took = time.perf_counter() - start
    os.close(r)
    os.close(null)
    return took


def home():
    """An environment in which no daemon runs, and its folder."""
    folder = tempfile.TemporaryDirectory(prefix="berth-bench-home-")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("BERTH_", "XDG_")) and "proxy" not in k.lower()}
    env.update(HOME=folder.name, BERTH_PORT=str(port), BERTH_MODELS_DIR=MODELS)
    return folder, env


def bench_version():
    folder, env = home()
    times = [spawn_s([BERTH, "version"], env) for _ in range(50)]
    row("`berth version`, fastest of 50", min(times) * 1e3, "ms", 10)
    row("`berth version`, median of 50", statistics.median(times) * 1e3, "ms", 10)
    folder.cleanup()


def bench_run():
    times = []
    for _ in range(5):
        folder, env = home()
        times.append(spawn_s([BERTH, "run", "stories", "Once upon a time", "--max-tokens", "8"], env, first_byte=True))
        spawn_s([BERTH, "stop", "--daemon"], env)
        folder.cleanup()
    row("`berth run stories` to its first token, no daemon, median of 5", statistics.median(times), "s", 0.3,
        f"fastest {min(times):.3f}")


def bench_tokens():
    """Processor time of the daemon alone, the worker's not counted, normalised to 10,000 tokens a second."""
    d = daemon("--max-num-seqs", "32")
    warm(d)
    for n_streams in (1, 8, 32):
        n_each, rounds = 4000, max(1, 12 // n_streams)
        start, before = time.perf_counter(), cpu_s(d.pid)
        tokens = 0
        for _ in range(rounds):
            streams = [connect(d) for _ in range(n_streams)]
            for i, s in enumerate(streams):
                s.sendall(body(n_each, seed=i))
            sel = selectors.DefaultSelector()
            for s in streams:
                sel.register(s, selectors.EVENT_READ, [b""])
            while sel.get_map():
                for key, _ in sel.select():
                    got = key.fileobj.recv(1 << 18)
                    key.data[0] = (key.data[0] + got)[-8:]
                    if not got or key.data[0].endswith(b"0\r\n\r\n"):
                        sel.unregister(key.fileobj)
                        key.fileobj.close()
            tokens += n_each * n_streams
        used, took = cpu_s(d.pid) - before, time.perf_counter() - start
        row(f"daemon, {n_streams} stream{'s' * (n_streams > 1)}, for 10,000 tokens/s", used / tokens * 1e4 * 100, "% of core", 5,
            f"{used / tokens * 1e6:.1f} us/token, at {tokens / took:.0f} tokens/s")
    d.stop()


def on_core(core):
    return ["taskset", "-c", str(core), BERTH, "serve"]


def worker_pid(d):
    return next(m["pid"] for m in d.get("/berth/v1/models")[2]["models"] if m["name"] == "tiny")


def drive(d, n_conns, seconds, rate=None):
    """Whole one-token requests over n_conns connections, closed loop, or paced to rate.  Latencies."""
    conns = [connect(d) for _ in range(n_conns)]
    sel = selectors.DefaultSelector()
    data = body(1, stream=False)
    sent, times, free = {}, [], list(conns)
    start = time.perf_counter()
    due = start
    for s in conns:
        sel.register(s, selectors.EVENT_READ)
    while True:
        now = time.perf_counter()
        if now - start > seconds:
            break
        while free and (rate is None or now >= due):
            s = free.pop()
            sent[s] = now
            s.sendall(data)
            due += 1 / rate if rate else 0
        wait = 0.05 if rate is None or not free else max(0.0, due - time.perf_counter())
        for key, _ in sel.select(wait):
            s = key.fileobj
            head, _ = read_answer(s)
            assert head.startswith(b"HTTP/1.1 200"), head
            times.append(time.perf_counter() - sent.pop(s))
            free.append(s)
    for s in sent:
        read_answer(s)
    for s in conns:
        s.close()
    return times, time.perf_counter() - start


def bench_requests():
    d = daemon(program=on_core(0))
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    warm(d)
    worker = worker_pid(d)
    for n_conns, rate in ((1, None), (8, None), (8, 500)):
        b, w = cpu_s(d.pid), cpu_s(worker)
        times, took = drive(d, n_conns, 3, rate)
        b, w = cpu_s(d.pid) - b, cpu_s(worker) - w
        n = len(times)
        row(f"short requests on one core, {n_conns} at once" + (f", {rate}/s asked for" if rate else ""), n / took, "requests/s",
            ('>', 500 if rate is None else 490), f"daemon {b / n * 1e6:.0f} us, worker {w / n * 1e6:.0f} us each; p50 "
            f"{statistics.median(times) * 1e3:.2f} ms, p99 {statistics.quantiles(times, n=100)[98] * 1e3:.2f} ms")
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    d.stop()


# --- another client's first token, beside what burdens the daemon ---

N_BLOCKS, N_PAIRS = 10, 30
PROMPT = "the dog sat on the mat and "


class Pair:
    """Two daemons alike.  The second is burdened; requests go to both in turns, so that what else the machine does meets both.

    The prompt takes the model some milliseconds, as a short prompt takes a small model: a share of nothing would say nothing."""

    def __init__(self, *args):
        self.free, self.burdened = (daemon("--enable-prefix-caching=no", *args) for _ in range(2))
        self.ask = body(1, prompt=PROMPT * 140)
        self.blocks()

    def blocks(self, between=lambda i: None):
        """Blocks of requests in turns, each client's median: what the burdened one took, relative to the free one; and both in s."""
        ratios, times = [], ([], [])
        for _ in range(N_BLOCKS):
            block = ([], [])
            for i in range(N_PAIRS):
                between(i)
                for k in (0, 1) if i % 2 else (1, 0):
                    block[k].append(first_token_s(self.burdened if k else self.free, self.ask))
            ratios.append(statistics.median(block[1]) / statistics.median(block[0]))
            times[0].extend(block[0])
            times[1].extend(block[1])
        return ratios, [statistics.median(t) for t in times]

    def row(self, name, without, with_):
        """without, with_: what blocks() returned before and under the burden."""
        base = statistics.median(without[0])
        ratios = sorted(r / base for r in with_[0])
        q = statistics.quantiles(ratios, n=4)
        row(name, statistics.median(ratios), "x without", 1.1,
            f"{with_[1][0] * 1e3:.2f} and {with_[1][1] * 1e3:.2f} ms; {N_BLOCKS} blocks of {N_PAIRS} pairs in turns: quartiles "
            f"{q[0]:.3f} and {q[2]:.3f}, all {ratios[0]:.3f} to {ratios[-1]:.3f}; the two daemons before: {base:.3f}")

    def stop(self):
        self.free.stop()
        self.burdened.stop()


def bench_connections():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 10000
    if hard < want + 500 and os.geteuid() == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (want + 2000, want + 2000))
        except (OSError, ValueError):
            pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = min(want, hard - 500)
    pair = Pair()
    d = pair.burdened
    without, rss = pair.blocks(), memory(d.pid)[0]
    conns, data = [], get("/version")
    start = time.perf_counter()
    for i in range(n):
        s = connect(d)
        s.sendall(data)
        conns.append(s)
        if i % 64 == 63:
            for one in conns[-64:]:
                read_answer(one)
    for one in conns[n - n % 64:]:
        read_answer(one)
    took = time.perf_counter() - start
    time.sleep(0.3)
    held = (memory(d.pid)[0] - rss) / n
    with_ = pair.blocks()
    for s in conns[::97]:  # they are all alive
        s.sendall(data)
        assert read_answer(s)[0].startswith(b"HTTP/1.1 200")
    for s in conns:
        s.close()
    pair.stop()
    more = "" if n == want else f"the descriptor limit allows {n}"
    row("open connections", n, "", None, f"opened and used at {n / took:.0f}/s {more}")
    row("memory of an idle connection", held / 1e3, "kB")
    pair.row("another client's first token beside them", without, with_)


def bench_loris():
    """2,000 heads that trickle and 50 readers that stop."""
    pair = Pair("--max-num-seqs", "16")
    d = pair.burdened
    without = pair.blocks()
    stalled = [connect(d, rcvbuf=4096) for _ in range(50)]
    for i, s in enumerate(stalled):
        s.sendall(body(1500, seed=i))
    wait_until(lambda: all(not m.get("n_running") and not m.get("n_waiting")
                           for m in d.get("/berth/v1/models")[2]["models"]), timeout=60)
    slow = []

    def trickle(i):
        """All heads are begun anew when their time is up; between two pairs fifty of them get a byte more."""
        if i == 0:
            for s in slow:
                s.close()
            slow[:] = [connect(d) for _ in range(2000)]
            for s in slow:
                s.sendall(b"GET /version HTTP/1.1\r\nHost: localhost\r\n")
        for s in slow[i % 40::40]:
            try:
                s.sendall(b"X")
            except OSError:
                pass  # its time was up

    with_ = pair.blocks(trickle)
    for s in slow + stalled:
        s.close()
    pair.stop()
    pair.row("a client's first token beside 2,000 slow heads, 50 stalled readers", without, with_)


def crowd(d, n_streams, n_tokens):
    """n_streams at once; (tokens/s, slowest answer of /livez to another client in s)"""
    sel, ended, slowest = selectors.DefaultSelector(), 0, 0.0
    start = time.perf_counter()
    for i in range(n_streams):
        s = connect(d)
        s.sendall(body(n_tokens, seed=i))
        sel.register(s, selectors.EVENT_READ, [b"", 0])
    probe, asked, data = connect(d), None, get("/livez")
    sel.register(probe, selectors.EVENT_READ, None)
    while ended < n_streams:
        if asked is None:
            asked = time.perf_counter()
            probe.sendall(data)
        for key, _ in sel.select():
            if key.data is None:
                read_answer(probe)
                slowest, asked = max(slowest, time.perf_counter() - asked), None
                continue
            got = key.fileobj.recv(1 << 18)
            key.data[1] += got.count(b"data: {")
            key.data[0] = (key.data[0] + got)[-300:]
            if not got or key.data[0].endswith(b"0\r\n\r\n"):
                assert b"[DONE]" in key.data[0], key.data[0]
                sel.unregister(key.fileobj)
                key.fileobj.close()
                ended += 1
    took = time.perf_counter() - start
    probe.close()
    return n_streams * n_tokens / took, slowest


def bench_crowd():
    d = daemon("--max-num-seqs", "64", program=on_core(0))
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    warm(d)
    alone, slow_alone = crowd(d, 200, 200)
    idle = [connect(d) for _ in range(1000)]
    for s in idle:
        s.sendall(get("/version"))
        read_answer(s)
    pairs = []
    with_, slow_with = crowd(d, 200, 200)
    pairs.append(with_ / alone)
    for s in idle:
        s.sendall(get("/version"))
        assert read_answer(s)[0].startswith(b"HTTP/1.1 200")
        s.close()
    again, _ = crowd(d, 200, 200)
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    d.stop()
    row("200 streams on one core, all of berth", again, "tokens/s", None, f"/livez meanwhile at most {slow_alone * 1e3:.1f} ms")
    row("the same beside 1,000 idle connections", 2 * with_ / (alone + again), "x without", ('>', 0.9),
        f"/livez at most {slow_with * 1e3:.1f} ms")


BENCHES = {f.__name__.removeprefix("bench_"): f for f in (
    bench_idle, bench_version, bench_run, bench_tokens, bench_requests, bench_connections, bench_loris, bench_crowd)}

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--json", action="store_true")
    ap.add_argument("--only", default="")
    ap.add_argument("--list", action="store_true")
    ARGS = ap.parse_args()
    if ARGS.list:
        print("\n".join(BENCHES))
        sys.exit(0)
    with tempfile.TemporaryDirectory(prefix="berth-bench-") as FOLDER:
        tiny_gguf.write(os.path.join(FOLDER, "tiny.gguf"), n_ctx=4096)
        for bench_name, bench in BENCHES.items():
            if ARGS.only in bench_name:
                try:
                    bench()
                except (OSError, AssertionError, RuntimeError) as e:
                    row(bench_name, float("nan"), "", None, f"not measured: {e}"[:300])
    if ARGS.json:
        print(json.dumps(ROWS, indent=1))
