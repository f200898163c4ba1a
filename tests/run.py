#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs test programs (cmocka binaries, fuzz replays, unittest scripts), some at a time, and sums up.

Prints one line a program, the whole output of those that fail, and last `N passed, N failed, N skipped`.
Exit 1 when anything failed or nothing ran.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import time

TIMEOUT_S = int(os.environ.get("BERTH_TEST_TIMEOUT", "600"))
# Scenarios wait most of their time, for timers, ends of processes and disks: one more than there are processors keeps these busy.
CPUS = os.cpu_count() or 1
JOBS = int(os.environ.get("BERTH_TEST_JOBS", "0")) or CPUS + max(1, CPUS // 4)
# Those that take longest begin first, so that none is left alone at the end.
LONGEST = ("scenario/test_bench.py", "scenario/test_faults.py", "scenario/test_registry.py", "scenario/test_prepared.py",
           "scenario/test_guard.py", "scenario/test_docker_plugin.py", "kernel/test_matmul", "golden/test_logits",
           "unit/test_invariance", "unit/test_worker", "arch/test_layers.py", "arch/test_style.py", "scenario/test_clients.py",
           "scenario/test_models_crash.py", "scenario/test_watch.py", "scenario/test_http_raw.py")


def command(path):
    if path.endswith(".py"):
        return [sys.executable, path, "-v"]
    name = os.path.basename(path)
    if name.startswith("fuzz_"):
        return [path, os.path.join("tests/fuzz/corpus", name[len("fuzz_"):])]
    return [path]


def count(path, out, rc):
    """(passed, failed, skipped) as the program itself reports them."""
    if path.endswith(".py"):
        ran = re.search(r"^Ran (\d+) tests?", out, re.M)
        total = int(ran.group(1)) if ran else 0
        total += len(re.findall(r"^setUp(?:Class|Module) \(.*\) \.\.\. ", out, re.M))  # counts as one that ended so, not as one that ran
        bad = sum(int(n) for n in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", out))
        skipped = sum(int(n) for n in re.findall(r"skipped=(\d+)", out))
    elif "replayed" in out and os.path.basename(path).startswith("fuzz_"):
        total, bad, skipped = 1, 0, 0
    else:
        passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", out))
        bad = sum(int(n) for n in re.findall(r"\[  FAILED  \] \w+: (\d+) test", out) or
                  re.findall(r"\[  FAILED  \] (\d+) test", out))
        skipped = sum(int(n) for n in re.findall(r"\[  SKIPPED \] \w+: (\d+) test", out) or
                      re.findall(r"\[  SKIPPED \] (\d+) test", out))
        total = passed + bad + skipped
    if rc != 0 and bad == 0:
        bad, total = 1, total + 1
    if total == 0:
        bad, total = 1, 1
    return total - bad - skipped, bad, skipped


def run(path):
    start = time.monotonic()
    try:
        p = subprocess.run(command(path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
        out, rc = p.stdout.decode("utf-8", "replace"), p.returncode
    except subprocess.TimeoutExpired as e:
        out, rc = (e.stdout or b"").decode("utf-8", "replace") + f"\ntimed out after {TIMEOUT_S} s\n", 124
    return path, out, rc, time.monotonic() - start


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--only", default="")
    ap.add_argument("programs", nargs="*")
    args = ap.parse_args()
    programs = [p for p in args.programs if args.only in p]
    programs.sort(key=lambda p: not p.endswith(LONGEST))
    passed = failed = skipped = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=JOBS) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, p) for p in programs]):
            path, out, rc, secs = done.result()
            p, f, s = count(path, out, rc)
            passed, failed, skipped = passed + p, failed + f, skipped + s
            print(f"{'FAIL' if f else 'ok  '} {path}  {p} passed, {f} failed, {s} skipped  {secs:.1f} s", flush=True)
            for line in re.findall(r"^.*skipped ['\"].*$", out, re.M):
                print("     " + line)
            if f:
                print(out)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
