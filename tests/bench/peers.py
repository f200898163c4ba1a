#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth beside llama.cpp on this machine, in one run: reading prompts, decoding, batches, many clients, prefixes, loading, memory.

usage: tests/bench/peers.py [--only WORD[,WORD]] [--shape llama-1b] [--types Q4_K_M,...] [--rounds N] [--json] [--list]
Environment: BERTH the program (DAEMON another one to serve with); PEER_PREFIX words before llama-bench, llama-batched-bench
and llama-server (a container's runner; empty: they are on the path); PEER_MODELS the folder of models SHAPE-TYPE.gguf, which those
programs see as their current folder.  BERTH_CPU masks berth's instruction sets, GGML_ variables llama.cpp's.
Both use THREADS threads (2).  Programs take turns, round by round, and the best round of each counts: what else the machine does only
makes a round slower.  It judges nothing (exit 0).
"""
import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, Daemon  # noqa: E402

MODELS = os.environ.get("PEER_MODELS", "")
PREFIX = os.environ.get("PEER_PREFIX", "").split()
THREADS = int(os.environ.get("THREADS", "2"))
DAEMON = os.environ.get("DAEMON", BERTH)
ROWS = []


def is_amx():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return " amx_tile" in f.read() and not os.environ.get("BERTH_CPU")


def row(name, ours, peer, unit, target="", ok=None, more="", ratio=True):
    r = ours / peer if ratio and peer else None
    ROWS.append({"name": name, "berth": ours, "peer": peer, "ratio": r, "unit": unit, "target": target, "ok": ok, "more": more})
    if not ARGS.json:
        cells = [f"{v:.2f}" if isinstance(v, float) else "-" for v in (ours, peer, r)]
        mark = {None: "", True: "met", False: "MISSED"}[ok]
        print(f"{name:<40} {cells[0]:>10} {cells[1]:>10} {unit:<9} {cells[2]:>6}  {target:<12} {mark:<7}{more}", flush=True)


def peer(*words, timeout=600):
    """Standard output of one of llama.cpp's programs."""
    p = subprocess.run(PREFIX + list(words), cwd=MODELS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    if p.returncode:
        raise RuntimeError(f"{words[0]} ended with {p.returncode}: {p.stderr.decode(errors='replace')[-300:]}")
    return p.stdout.decode()


def model(kind):
    return f"{ARGS.shape}-{kind}"


def daemon(*args):
    return Daemon(models_dir=MODELS, args=["--threads", str(THREADS), *args], program=[DAEMON, "serve"], timeout=600)


def bench(d, name, *args):
    env = dict(d.env, BERTH_PORT=str(d.port), BERTH_API_KEY="")
    for k in ("BERTH_CPU", "BERTH_API_KEY"):
        env.pop(k, None)
    p = subprocess.run([BERTH, "bench", name, "--json", "--no-limits", *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=900)
    if not p.stdout:
        raise RuntimeError(p.stderr.decode()[-300:])
    return json.loads(p.stdout)


def warm(d, kind):
    """Loads the model, waits until it computes from prepared weights, where it ever will, and touches its pages."""
    again = ("-c", "1", "--num-prompts", "1", "--warmup", "0", "--prompt-len", "16", "--output-len", "2")
    bench(d, model(kind), *again)
    for _ in range(1200):
        m = next(m for m in d.get("/berth/v1/models")[2]["models"] if m["name"] == model(kind))
        if m["prepared"] in ("yes", "none", "off"):
            break
        time.sleep(0.1)
    bench(d, model(kind), *again)


def limits():
    return json.loads(subprocess.run([BERTH, "bench", "limits", "--json", "--threads", str(THREADS)], stdout=subprocess.PIPE, timeout=300,
                                     check=True).stdout)


def matrices_bytes(kind):
    """Bytes of weights that one step of decoding reads."""
    shown = json.loads(subprocess.run([BERTH, "debug", "show", os.path.join(MODELS, model(kind) + ".gguf")], stdout=subprocess.PIPE,
                                      timeout=300, check=True).stdout)
    tensors = [t for t in shown["tensors"] if len(t["shape"]) > 1]
    has_head = any(t["name"] == "output.weight" for t in tensors)
    return sum(t["bytes"] for t in tensors if not (has_head and t["name"] == "token_embd.weight"))


def one_stream(kind):
    """Prompt of 512 and 24 tokens on: tokens a second, both programs in turns."""
    ours, theirs = {"prefill": [], "decode": []}, {"prefill": [], "decode": []}
    with daemon() as d:
        warm(d, kind)
        for _ in range(ARGS.rounds):
            b = bench(d, model(kind), "-c", "1", "--num-prompts", "1", "--warmup", "0", "--prompt-len", "512", "--output-len",
                      "24")["results"][0]
            ours["prefill"].append(512e3 / b["p50_ttft_ms"])
            ours["decode"].append(1e3 / b["p50_tpot_ms"])
            for t in json.loads(peer("llama-bench", "-m", model(kind) + ".gguf", "-t", str(THREADS), "-p", "512", "-n", "24", "-r", "1",
                                     "-o", "json")):
                theirs["prefill" if t["n_prompt"] else "decode"].append(t["avg_ts"])
    return {k: max(v) for k, v in ours.items()}, {k: max(v) for k, v in theirs.items()}


def bench_stream():
    bus = limits()["read_bytes_per_second"]
    for kind in ARGS.types.split(","):
        ours, theirs = one_stream(kind)
        need = (25 if kind in ("BF16", "F16") else 5) if is_amx() else 1.5
        ratio = ours["prefill"] / theirs["prefill"]
        row(f"prefill of 512, {kind}", ours["prefill"], theirs["prefill"], "tokens/s", f"> {need} x", ratio > need)
        size = matrices_bytes(kind)
        share, wanted = ours["decode"] * size / bus, 0.8 if kind in ("Q8_0", "BF16", "F16") else 0.7
        row(f"decode, batch 1, {kind}", ours["decode"], theirs["decode"], "tokens/s", "> 1 x", ours["decode"] > theirs["decode"],
            f"{share:.0%} of the bus ({bus / 1e9:.1f} GB/s), {wanted:.0%} wanted; llama.cpp {theirs['decode'] * size / bus:.0%}")


def bench_batch():
    """All together, prompts of 128: tokens a second while all are decoding.  Ours come one by one, so their answers are longer: the first
    is not to end before the last begins."""
    kind = "Q4_K_M"
    ours, theirs = {8: [], 32: []}, {8: [], 32: []}
    with daemon("--max-num-seqs", "32", "--max-model-len", "1024") as d:
        warm(d, kind)
        for _ in range(ARGS.rounds):
            for n in (8, 32):
                b = bench(d, model(kind), "-c", str(n), "--num-prompts", str(n), "--warmup", "0", "--prompt-len", "128", "--output-len", str(32 + 4 * n))
                assert b["results"][0]["decoding"] == n, b["results"][0]
                ours[n].append(b["results"][0]["decode_throughput"])
            out = peer("llama-batched-bench", "-m", model(kind) + ".gguf", "-t", str(THREADS), "-c", "8192", "-npp", "128", "-ntg", "32",
                       "-npl", "8,32", "--output-format", "jsonl")
            for line in out.splitlines():
                if line.startswith("{"):
                    t = json.loads(line)
                    theirs[t["pl"]].append(t["speed_tg"])
    for n, need in ((8, 3 if is_amx() else 1.5), (32, 6 if is_amx() else 0)):
        a, b = max(ours[n]), max(theirs[n])
        row(f"decode in total, batch {n}, {kind}", a, b, "tokens/s", f"> {need} x" if need else "", a / b > need if need else None)


class LlamaServer:
    def __init__(self, kind, *args):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.words = PREFIX + ["llama-server", "-m", model(kind) + ".gguf", "-t", str(THREADS), "--host", "127.0.0.1", "--port", str(self.port),
                               *args]

    def __enter__(self):
        self.began = time.perf_counter()
        self.process = subprocess.Popen(self.words, cwd=MODELS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while self.status() != 200:
            if self.process.poll() is not None or time.perf_counter() - self.began > 300:
                raise RuntimeError("llama-server does not come up")
            time.sleep(0.01)
        return self

    def status(self):
        try:
            c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            c.request("GET", "/health")
            return c.getresponse().status
        except OSError:
            return 0

    def post(self, path, obj):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        c.request("POST", path, json.dumps(obj), {"Content-Type": "application/json"})
        return json.loads(c.getresponse().read())

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(60)


def bench_server():
    """16 clients that do not know each other, prompts of 64 and answers of 64."""
    kind = "Q4_K_M"
    with daemon("--max-num-seqs", "32", "--max-model-len", "1024") as d, LlamaServer(kind, "-np", "16", "-c", "8192") as s:
        b = bench(d, model(kind), "-c", "16", "--num-prompts", "32", "--prompt-len", "64", "--output-len", "64", "--rounds", str(ARGS.rounds),
                  "--vs", s.url)
    ours, theirs = b["results"][0], b["vs"]["results"][0]
    amx = is_amx()
    low, high = b["ratios"][0]["output_throughput_rounds"]
    a, z = ours["output_throughput"], theirs["output_throughput"]
    row("16 clients, tokens in total", a, z, "tokens/s", "> 5 x" if amx else "", a / z > 5 if amx else None,
        f"{low:.2f} to {high:.2f} round by round; failed {ours['failed']} and {theirs['failed']}")
    a, z = ours["p99_ttft_ms"], theirs["p99_ttft_ms"]
    row("16 clients, first token, 99th of 100", a, z, "ms", "< 0.25 x" if amx else "", a / z < 0.25 if amx else None)


def bench_prefix():
    """A second prompt that shares 2,000 tokens with the first: its first token's time over the first's."""
    kind, shares = "Q4_K_M", []
    with daemon("--max-model-len", "4096") as d:
        warm(d, kind)
        for _ in range(ARGS.rounds):
            b = bench(d, model(kind), "-c", "1,1", "--num-prompts", "1", "--warmup", "0", "--prompt-len", "2010", "--prefix-len", "2000",
                      "--output-len", "2")
            first, again = b["results"]  # two levels of one request each
            if first["total_cached_tokens"] or again["total_cached_tokens"] < 1900:
                raise RuntimeError("the prefix was not found, or found too early")
            shares.append(again["p50_ttft_ms"] / first["p50_ttft_ms"] * 100)
    row("first token after 2,000 in common", statistics.median(shares), None, "%", "< 5 %", statistics.median(shares) < 5, ratio=False)


def first_token_after_load(post, name):
    began = time.perf_counter()
    post("/v1/completions", {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0})
    return time.perf_counter() - began


def bench_load():
    """From nothing loaded to the first token, the file in the page cache; and what the process then holds alone."""
    kind, ours, theirs, held = "Q4_K_M", [], [], {}
    with open(os.path.join(MODELS, model(kind) + ".gguf"), "rb") as f:
        while f.read(1 << 24):
            pass
    for _ in range(max(ARGS.rounds, 3)):
        with daemon("--max-model-len", "4096") as d:
            ours.append(first_token_after_load(lambda path, obj: d.post(path, obj), model(kind)))
            m = next(m for m in d.get("/berth/v1/models")[2]["models"] if m["name"] == model(kind))
            held["berth"] = private_bytes(m["pid"])  # with what little of the cache one token has touched
        with LlamaServer(kind, "-c", "4096", "-np", "1") as s:
            s.post("/v1/completions", {"prompt": "Hello", "max_tokens": 1, "temperature": 0})
            theirs.append(time.perf_counter() - s.began)
            held["peer"] = private_bytes(listener(s.port)) - 4096 * kv_bytes(kind)
    row("load to first token", min(ours), min(theirs), "s", "< 0.4 s", min(ours) < 0.4)
    row("memory of its own beyond the cache", held["berth"] / 1e6, held["peer"] / 1e6, "MB", "< 100 MB", held["berth"] < 100e6)


def kv_bytes(kind):
    """Of one position as float16."""
    shown = json.loads(subprocess.run([BERTH, "debug", "show", os.path.join(MODELS, model(kind) + ".gguf")], stdout=subprocess.PIPE,
                                      timeout=300, check=True).stdout)["metadata"]
    arch = shown["general.architecture"]
    heads, kv = shown[f"{arch}.attention.head_count"], shown[f"{arch}.attention.head_count_kv"]
    return 2 * 2 * shown[f"{arch}.block_count"] * kv * shown.get(f"{arch}.attention.key_length", shown[f"{arch}.embedding_length"] // heads)


def private_bytes(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) * 1024 for line in f if line.startswith(("Private_Dirty:", "Swap:")))


def listener(port):
    """The process behind a port: llama-server may have been started through a runner."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as f:
            inodes = {line.split()[9] for line in f if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    if os.readlink(f"/proc/{pid}/fd/{fd}") in {f"socket:[{i}]" for i in inodes}:
                        return int(pid)
            except OSError:
                pass
    raise RuntimeError(f"nobody is seen to listen on port {port}")


BENCHES = {f.__name__.removeprefix("bench_"): f for f in (bench_stream, bench_batch, bench_server, bench_prefix, bench_load)}

if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--json", action="store_true")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("--only", default="")
    ap.add_argument("--shape", default="llama-1b")
    ap.add_argument("--types", default="Q4_K_M,Q8_0,Q6_K,Q4_0,BF16,F16")
    ap.add_argument("--rounds", type=int, default=2)
    ARGS = ap.parse_args()
    if ARGS.list or not MODELS:
        print("\n".join(BENCHES) if ARGS.list else "not measured: PEER_MODELS names no folder of models (see the top of this file)")
        sys.exit(0)
    if not ARGS.json:
        print(f"{'':<40} {'berth':>10} {'llama.cpp':>10} {'':<9} {'ratio':>6}  {'target'}")
    for bench_name, run in BENCHES.items():
        if any(word in bench_name for word in ARGS.only.split(",")):
            try:
                run()
            except (OSError, RuntimeError, subprocess.SubprocessError, KeyError, ValueError) as e:
                row(bench_name, None, None, "", more=f"not measured: {e}"[:300], ratio=False)
    if ARGS.json:
        print(json.dumps(ROWS, indent=1))
