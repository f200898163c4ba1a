#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pull and push of one large model against docker-registry on loopback: berth beside skopeo and oras, in one run, taking turns.

BERTH_BENCH_PEERS  words before docker-registry, skopeo and oras, where they live in a root of their own; run in BERTH_BENCH_DIR
BERTH_BENCH_DIR    where everything lies: /dev/shm when there is room, so that it is not the disk that is measured
BERTH_BENCH_BYTES  of the model: 1000000000
Seconds are the best of three; CPU is what the client itself used.  berth syncs what it stores, the others need not.
"""
import json
import os
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("BUILD", "build")
TOOL = os.path.abspath(os.path.join(BUILD, "tests", "tool", "registry_tool"))
PEERS = shlex.split(os.environ.get("BERTH_BENCH_PEERS", ""))
BYTES = int(os.environ.get("BERTH_BENCH_BYTES", "1000000000"))
ROUNDS = 3


def has(program):
    if not PEERS:
        return shutil.which(program) is not None
    return subprocess.run([*PEERS, "sh", "-c", f"command -v {program}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def timed(args):
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    out = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    took, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if out.returncode:
        sys.exit(f"{args}: {out.stdout.decode()}{out.stderr.decode()}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, out.stdout


def main():
    if not has("docker-registry"):
        print("registry bench skipped: docker-registry is not installed")
        return
    peers = [p for p in ("oras", "skopeo") if has(p)]
    for p in {"oras", "skopeo"} - set(peers):
        print(f"registry bench: {p} is not installed, nothing to compare with")
    base = os.environ.get("BERTH_BENCH_DIR")
    if not base and os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 6 * BYTES:
        base = "/dev/shm"
    folder = tempfile.mkdtemp(prefix="berth-bench-", dir=base)
    os.chdir(folder)
    os.environ["PEERS_DIR"] = folder
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        host = f"localhost:{s.getsockname()[1]}"
    with open("registry.yml", "w") as f:
        f.write("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: data}}\n"
                f"http: {{addr: '{host.replace('localhost', '127.0.0.1')}'}}\n")
    server = subprocess.Popen([*PEERS, "docker-registry", "serve", "registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(1.5)
        compare(host, peers, folder)
    finally:
        server.terminate()
        server.wait()
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)


def compare(host, peers, folder):
    subprocess.run([TOOL, "store", "make", "docker.io/ai/big:latest", str(BYTES)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([TOOL, "store", "push", "docker.io/ai/big:latest", f"{host}/ai/big:v1"], check=True, stdout=subprocess.DEVNULL)
    pull = {
        "berth": [TOOL, "out", "pull", f"{host}/ai/big:v1"],
        "oras": [*PEERS, "oras", "copy", "--from-plain-http", f"{host}/ai/big:v1", "--to-oci-layout", "out:v1"],
        "skopeo": [*PEERS, "skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{host}/ai/big:v1", "oci:out:v1"],
    }
    if peers:
        timed([*PEERS, "oras", "copy", "--from-plain-http", f"{host}/ai/big:v1", "--to-oci-layout", "layout:v1"] if "oras" in peers else
              [*pull["skopeo"][:-1], "oci:layout:v1"])
    push = {
        "berth": lambda to: [TOOL, "store", "push", "docker.io/ai/big:latest", to],
        "oras": lambda to: [*PEERS, "oras", "copy", "--from-oci-layout", "layout:v1", "--to-plain-http", to],
        "skopeo": lambda to: [*PEERS, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:layout:v1", "docker://" + to],
    }
    best, rss = {}, 0
    for i in range(ROUNDS):
        for name in ["berth", *peers]:
            shutil.rmtree("out", ignore_errors=True)
            took, cpu, out = timed(pull[name])
            best["pull", name] = min(best.get(("pull", name), (1e9, 0)), (took, cpu))
            shutil.rmtree("out", ignore_errors=True)
            if name == "berth":
                rss = max(rss, json.loads(out.splitlines()[-1])["rss_kib"])
            for sub in ("blobs", "repositories"):  # or skopeo would mount what it has seen before
                shutil.move(f"data/docker/registry/v2/{sub}", f"kept-{sub}")
            took, cpu, out = timed(push[name](f"{host}/ai/{name}{i}:v1"))
            for sub in ("blobs", "repositories"):
                shutil.rmtree(f"data/docker/registry/v2/{sub}")
                shutil.move(f"kept-{sub}", f"data/docker/registry/v2/{sub}")
            best["push", name] = min(best.get(("push", name), (1e9, 0)), (took, cpu))
            if name == "berth":
                rss = max(rss, json.loads(out.splitlines()[-1])["rss_kib"])
    print(f"registry bench: {BYTES / 1e6:.0f} MB in {folder}; berth's memory at most {rss / 1024:.1f} MiB")
    for what in ("pull", "push"):
        mine = best[what, "berth"]
        for name in ["berth", *peers]:
            took, cpu = best[what, name]
            ratio = "" if name == "berth" else f"   berth takes {mine[0] / took:.2f} of its time, {mine[1] / cpu:.2f} of its CPU"
            print(f"  {what} {name:7} {took:5.2f} s  {BYTES / took / 1e6:6.0f} MB/s  CPU {cpu:5.2f} s{ratio}")


if __name__ == "__main__":
    main()
