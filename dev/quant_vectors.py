#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/quants/TYPE.bin: random packed blocks and what gguf-py (llama.cpp's Python package) reads from
them.  Needs `gguf` and `numpy`; run only to add a type.  usage: quant_vectors.py OUT_FOLDER

A file is 1,024 elements of packed blocks, then the 1,024 expected float32.  Bytes are random, except that halves
used as scales are finite and lie between 2^-24 (the smallest subnormal) and 4.
"""
import os
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

N = 1024
# Offsets of half-precision fields in a block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "IQ4_NL": [0], "IQ4_XS": [0],
          "MXFP4": [], "BF16": [], "F16": []}


def halves(rng, n):
    h = (np.exp2(rng.uniform(-12, 2, n)) * rng.choice([-1, 1], n)).astype(np.float16)
    h[:: 7] = np.float16(2.0 ** -24) * np.float16(3)
    return h


def main(out):
    for i, (name, offsets) in enumerate(HALVES.items()):
        rng = np.random.default_rng(1000 + i)
        elements, size = GGML_QUANT_SIZES[T[name]]
        n = N // elements
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for o in offsets:
            blocks[:, o:o + 2] = halves(rng, n).view(np.uint8).reshape(n, 2)
        if name in ("BF16", "F16"):
            x = halves(rng, n).astype(np.float32)
            h = x.astype(np.float16) if name == "F16" else (x.view(np.uint32) >> 16).astype(np.uint16)
            blocks = h.view(np.uint8)
        if name == "MXFP4":
            blocks[:, 0] %= 251  # 12 * 2^(e - 128) stays finite
            blocks[:3, 0] = [0, 1, 2]
        with np.errstate(all="ignore"):
            if name == "F16":
                want = blocks.view(np.float16).astype(np.float32)
            else:
                want = quants.dequantize(blocks.reshape(1, -1), T[name]).reshape(-1)
        assert want.shape == (N,) and want.dtype == np.float32 and np.isfinite(want).all(), name
        with open(os.path.join(out, name + ".bin"), "wb") as f:
            f.write(blocks.tobytes() + want.tobytes())


main(sys.argv[1])
