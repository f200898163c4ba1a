# SPDX-License-Identifier: Apache-2.0
"""A model's perplexity of a text as llama-perplexity computes it, from what `berth debug logits` writes."""
import array
import math
import os
import subprocess

from berth_test import BERTH

WINDOW = 128  # llama-perplexity -c: the second half of each window counts, and a window begins with BOS
BOS = 1


def run(*args):
    return subprocess.run([BERTH, "debug", *args], stdout=subprocess.PIPE, check=True, timeout=600).stdout.decode()


def logits(model, tokens, scratch, *options):
    run("logits", model, "--tokens", ",".join(map(str, tokens)), "--out", scratch, *options)
    with open(scratch, "rb") as f:
        return array.array("f", f.read())


def perplexity(model, text, scratch, *options):
    """scratch: a file to write to; options: of berth debug logits."""
    ids = [BOS] + [int(t) for t in run("tokenize", model, "--file", text).split()]
    nll, count = 0.0, 0
    for at in range(0, len(ids) // WINDOW * WINDOW, WINDOW):
        tokens = [BOS] + ids[at + 1:at + WINDOW]
        out = logits(model, tokens, scratch, *options)
        width = len(out) // WINDOW
        for i in range(WINDOW // 2, WINDOW - 1):
            row = out[i * width:(i + 1) * width]
            top = max(row)
            nll -= row[tokens[i + 1]] - top - math.log(sum(math.exp(x - top) for x in row))
            count += 1
    return math.exp(nll / count)
