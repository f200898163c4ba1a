#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Perplexity of a real text under every type and cache type, beside llama.cpp's of the same files.

usage: tests/bench/perplexity.py [--text FILE] [--only WORD[,WORD]]
Environment: BERTH the program; PEER_PREFIX words before llama-quantize and llama-perplexity (a container's runner; empty: they are
on the path); PEER_FOLDER a folder to write models to, which those programs see as their current folder.  BERTH_CPU masks berth's
instruction sets.  The models are models/stories.gguf and the same widened to rows of 256 (tests/support/stories_models.py), each as
llama-quantize makes it of float32.  The exit status says whether all are within half a percent.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import MODELS, ROOT  # noqa: E402
from perplexity import WINDOW, perplexity  # noqa: E402
from stories_models import widen  # noqa: E402

PREFIX = os.environ.get("PEER_PREFIX", "").split()
FOLDER = os.environ.get("PEER_FOLDER", "")
TYPES = ("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL IQ4_XS MXFP4 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K").split()
# Caches: of heads of 8, which no 8-bit block fits, and of 32.  llama.cpp's for an 8-bit one wants its other attention.
CACHES = {"stories": ("f32", "f16", "bf16"), "wide": ("f32", "f16", "bf16", "q8_0")}
MOST = 0.005


def peer(*words):
    p = subprocess.run(PREFIX + list(words), cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    out = p.stdout.decode(errors="replace")
    if p.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {p.returncode}: {out[-300:]}")
    return out


def quantize(shape, kind):
    """The file of that type; MXFP4, which is no choice of its own, by naming it for every tensor."""
    name = f"{shape}-{kind}.gguf"
    words = ["--tensor-type", "weight=mxfp4", "--token-embedding-type", "mxfp4"] if kind == "MXFP4" else []
    peer("llama-quantize", *words, f"{shape}-F32.gguf", name, "Q8_0" if words else kind, "1")
    return name


def theirs(name, cache="f16"):
    out = peer("llama-perplexity", "-m", name, "-f", "text.txt", "-c", str(WINDOW), "-b", str(WINDOW), "-t", "1", "-ctk", cache, "-ctv", cache,
               *(["-fa", "on"] if cache == "q8_0" else []))
    return float(re.search(r"Final estimate: PPL = ([0-9.]+)", out).group(1))


def ours(name, *options):
    return perplexity(os.path.join(FOLDER, name), os.path.join(FOLDER, "text.txt"), os.path.join(FOLDER, "logits.f32"), *options)


def compare(what, a, b):
    print(f"{what:<28} {a:>9.4f} {b:>9.4f} {a / b - 1:>+9.3%}{'' if abs(a / b - 1) < MOST else '  TOO FAR'}", flush=True)
    return abs(a / b - 1) < MOST


def main(args):
    shutil.copy(args.text, os.path.join(FOLDER, "text.txt"))
    with open(os.path.join(MODELS, "stories.gguf"), "rb") as f:
        exact = f.read()
    ok = True
    print(f"{'':<28} {'berth':>9} {'llama.cpp':>9}")
    for shape, data in (("stories", exact), ("wide", widen(exact))):
        with open(os.path.join(FOLDER, f"{shape}-F32.gguf"), "wb") as f:
            f.write(data)
        for kind in TYPES:
            if not any(word in f"{shape}-{kind}" for word in args.only.split(",")):
                continue
            name = f"{shape}-F32.gguf" if kind == "F32" else quantize(shape, kind)
            ok &= compare(f"{shape} {kind}", ours(name), theirs(name))
        for cache in CACHES[shape]:
            if any(word in f"{shape}-cache" for word in args.only.split(",")):
                name = f"{shape}-F32.gguf"
                ok &= compare(f"{shape} F32, cache {cache}", ours(name, "--kv-cache-type", cache), theirs(name, cache))
    return 0 if ok else 1


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--text", default=os.path.join(ROOT, "tests", "data", "perplexity", "text.txt"))
    ap.add_argument("--only", default="")
    if not FOLDER:
        print("not measured: PEER_FOLDER names no folder (see the top of this file)")
        sys.exit(0)
    sys.exit(main(ap.parse_args()))
