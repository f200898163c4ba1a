#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth and llama.cpp when something comes between: a long prompt while answers run, a program that takes one of the cores.

usage: tests/bench/disturbed.py [--shape llama-1b] [--type Q4_K_M] [--streams 1,4,8] [--only WORD[,WORD]] [--who berth,llama.cpp]
Environment: as of peers.py.  It judges nothing (exit 0).
"""
import argparse
import http.client
import json
import multiprocessing
import os
import random
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peers  # noqa: E402

LONG = 4000  # tokens of the prompt that comes between
BEFORE_S = 2.0


class Stream:
    """An answer as it comes: when each of its pieces came."""

    def __init__(self, port, name, n_prompt, n_answer, seed):
        rng = random.Random(seed)
        self.body = {"model": name, "prompt": [rng.randrange(1000, 40000) for _ in range(n_prompt)], "max_tokens": n_answer, "stream": True,
                     "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        self.port, self.times, self.over = port, [], False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.began = time.perf_counter()
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        self.connection.request("POST", "/v1/completions", json.dumps(self.body), {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        self.socket = self.connection.sock
        while line := response.readline():
            if line.startswith(b"data: {") and b'"text"' in line:
                self.times.append(time.perf_counter())
                if self.over:
                    break
        self.connection.close()

    def gaps(self, begin, end):
        """Between pieces of which the second came in that time, or none came until its end; ms."""
        within = [t for t in self.times if begin <= t <= end]
        before = [t for t in self.times if t < begin][-1:]
        ends = before + within
        return [1e3 * (b - a) for a, b in zip(ends, ends[1:])] or [1e3 * (end - begin)]


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p))]


def wait_for(what):
    while not what():
        time.sleep(0.002)


def intrude(who, port, name, n_streams):
    streams = [Stream(port, name, 32, 3000, i) for i in range(n_streams)]
    wait_for(lambda: all(len(s.times) > 4 for s in streams))
    begin = time.perf_counter()
    time.sleep(BEFORE_S)
    long = Stream(port, name, LONG, 2, 99)
    sent = time.perf_counter()
    wait_for(lambda: long.times)
    first = long.times[0]
    for s in streams:
        s.over = True
    before = [g for s in streams for g in s.gaps(begin, sent)]
    during = [g for s in streams for g in s.gaps(sent, first)]
    print(f"{name:<22} {who:<10} {n_streams:>3} {percentile(before, .5):>8.0f} {percentile(before, .99):>8.0f} {percentile(during, .5):>8.0f} "
          f"{percentile(during, .99):>8.0f} {max(during):>8.0f} {len(during) / n_streams:>8.0f} {first - sent:>8.1f}", flush=True)
    for s in streams + [long]:
        s.thread.join()


def bench_prompt(kind):
    """Gaps between pieces of running answers before and while a prompt of 4,000 tokens is read, and when its first token comes."""
    name = peers.model(kind)
    print(f"{'':<22} {'':<10} {'answers':>3} before: p50, p99; while read: p50, p99, most ms; pieces of each; s to its first token")
    for n in map(int, ARGS.streams.split(",")):
        if "berth" in ARGS.who:
            with peers.daemon("--max-num-seqs", "32", "--max-model-len", "8192", *ARGS.berth) as d:
                peers.warm(d, kind)
                intrude("berth", d.port, name, n)
        if "llama" in ARGS.who:
            with peers.LlamaServer(kind, "-np", str(n + 1), "-c", str(8192 * (n + 1)), "--no-kv-unified") as s:
                s.post("/v1/completions", {"prompt": "Hello", "max_tokens": 1})
                intrude("llama.cpp", s.port, name, n)


def spin(core):
    os.sched_setaffinity(0, {core})
    while True:
        pass


def speeds(kind):
    """Tokens a second: berth's prompt of 512, its 24 tokens on; llama.cpp's."""
    ours, theirs = peers.one_stream(kind)
    return [ours["prefill"], ours["decode"], theirs["prefill"], theirs["decode"]]


def bench_neighbour(kind):
    """Speed with one busy loop pinned to the first core, as a share of the undisturbed."""
    core = min(os.sched_getaffinity(0))
    alone, disturbed = [], []
    for _ in range(2):
        alone.append(speeds(kind))
        p = multiprocessing.Process(target=spin, args=(core,), daemon=True)
        p.start()
        try:
            disturbed.append(speeds(kind))
        finally:
            p.kill()
            p.join()
    for i, what in enumerate(("berth, prompt of 512", "berth, decoding", "llama.cpp, prompt of 512", "llama.cpp, decoding")):
        a, b = (statistics.mean(r[i] for r in rows) for rows in (alone, disturbed))
        print(f"{peers.model(kind):<22} {what:<26} alone {a:>8.1f} beside one busy loop {b:>8.1f} = {b / a:.0%}", flush=True)


BENCHES = {f.__name__.removeprefix("bench_"): f for f in (bench_prompt, bench_neighbour)}

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--shape", default="llama-1b")
    ap.add_argument("--type", default="Q4_K_M")
    ap.add_argument("--streams", default="1,4,8")
    ap.add_argument("--only", default="")
    ap.add_argument("--who", default="berth,llama.cpp")
    ap.add_argument("--rounds", type=int, default=1)
    ap.add_argument("berth", nargs="*", help="flags of berth serve")
    ARGS = peers.ARGS = ap.parse_args()
    if not peers.MODELS:
        print("not measured: PEER_MODELS names no folder of models (see the top of peers.py)")
        sys.exit(0)
    for bench_name, run in BENCHES.items():
        if any(word in bench_name for word in ARGS.only.split(",")):
            run(ARGS.type)
