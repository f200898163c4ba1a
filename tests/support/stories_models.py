# SPDX-License-Identifier: Apache-2.0
"""Models made of the stories model: rounded to 16 bits, and widened to rows of 256 weights, as types of 256 weights a block want them.

The wide one says the same.  Every feature of the 64 comes four times; what reads them has its weights shared out in unequal parts
that add up to one, so that sums, mean squares and all that follows are the old ones.  So too the 172 hidden units (84 of them twice)
and the heads' values.  Norms (values, hidden units) give the copies different sizes and each copy has another order, so that rounding
to 8 bits in blocks errs in each by itself.  Heads are 32 wide instead of 8: of the 16 pairs of keys and queries every fourth, which
turns as fast as the old ones did, holds the old pairs, the others 0; and queries are doubled, since scores are divided by sqrt(32) now.
"""
import array
import struct

from gguf_split import Reader, aligned, text

N, FF, HEAD, WIDE, WIDE_HEAD = 64, 172, 8, 256, 32
PARTS = {1: (1.0,), 2: (0.6, 0.4), 4: (0.37, 0.29, 0.21, 0.13)}
SIZES = (1.0, 0.83, 0.71, 0.9)
ORDERS = (1, 3, 5, 7)  # copy c has at i what stands at i * ORDERS[c]
U32 = 4
F32, F16, BF16 = 0, 1, 30


def copies(width, n):
    """[(old place, size, part of its weight)] of n new places; the parts of an old place add up to 1."""
    times = [len(range(i, n, width)) for i in range(width)]
    out = []
    for p in range(n):
        copy, i = divmod(p, width)
        i = i * ORDERS[copy] % width if n % width == 0 else i
        out.append((i, SIZES[copy], PARTS[times[i]][copy]))
    return out


def matrix(rows, inputs, outputs):
    """Columns by `inputs`, whose weights are shared out; rows by `outputs`, which are repeated (None: zeros) and scaled."""
    out = array.array("f")
    for place, factor in outputs:
        if place is None:
            out.extend([0.0] * len(inputs))
        else:
            row = rows[place]
            out.extend(row[i] * part / size * factor for i, size, part in inputs)
    return out


def heads(n, factor):
    return [(h * HEAD + d // 8 * 2 + d % 2 if d % 8 < 2 else None, factor) for h in range(n) for d in range(WIDE_HEAD)]


def value_heads(n):
    return [(h * HEAD + i, size, part) for h in range(n) for i, size, part in copies(HEAD, WIDE_HEAD)]


def widened(name, dims, old):
    """[new sizes], new numbers."""
    kind = name.split(".")[-2]
    features = copies(N, WIDE)
    every = [(i, 1.0) for i, _, _ in features]
    if kind.endswith("norm"):
        return [WIDE], array.array("f", (old[i] * size for i, size, _ in features))
    rows = [old[r * dims[0]:(r + 1) * dims[0]] for r in range(dims[1])]
    if kind == "token_embd":
        return [WIDE, dims[1]], array.array("f", (row[i] for row in rows for i, _ in every))
    inputs, outputs = features, [(r, 1.0) for r in range(dims[1])]
    if kind == "attn_q":
        outputs = heads(dims[1] // HEAD, 2.0)
    elif kind == "attn_k":
        outputs = heads(dims[1] // HEAD, 1.0)
    elif kind == "attn_v":
        outputs = [(i, size) for i, size, _ in value_heads(dims[1] // HEAD)]
    elif kind == "attn_output":
        inputs, outputs = value_heads(N // HEAD), every
    elif kind in ("ffn_gate", "ffn_up"):
        outputs = [(i, size if kind == "ffn_up" else 1.0) for i, size, _ in copies(FF, WIDE)]
    elif kind == "ffn_down":
        inputs, outputs = copies(FF, WIDE), every
    return [len(inputs), len(outputs)], matrix(rows, inputs, outputs)


def rewritten(data, change_kv, extra, change_tensor):
    """change_kv(key, kind, its bytes) and extra, an added dict of numbers; change_tensor(name, sizes, numbers): sizes, type, bytes."""
    r = Reader(data)
    r.at = 8
    n_tensors, n_kv = r.number("Q"), r.number("Q")
    kvs, tensors = b"", []
    for _ in range(n_kv):
        key, kind, begin = r.string(), r.number("I"), r.at
        r.skip(kind)
        kvs += text(key) + struct.pack("<I", kind) + change_kv(key, data[begin:r.at])
    for key, value in extra.items():
        kvs += text(key) + struct.pack("<II", U32, value)
    for _ in range(n_tensors):
        name = r.string().decode()
        dims = [r.number("Q") for _ in range(r.number("I"))]
        assert r.number("I") == F32, "float32 is wanted"
        tensors.append((name, dims, r.number("Q")))
    base, infos, body = r.at + -r.at % 32, b"", b""
    for name, dims, offset in tensors:
        n = dims[0] * (dims[1] if len(dims) > 1 else 1)
        sizes, kind, new = change_tensor(name, dims, array.array("f", data[base + offset:base + offset + 4 * n]))
        infos += text(name.encode()) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, len(body))
        body = aligned(body + new)
    return aligned(b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_kv + len(extra)) + kvs + infos) + body


def widen(data):
    changed = {b"llama.embedding_length": WIDE, b"llama.feed_forward_length": WIDE, b"llama.rope.dimension_count": WIDE_HEAD}
    extra = {b"llama.attention.key_length": WIDE_HEAD, b"llama.attention.value_length": WIDE_HEAD}

    def change_tensor(name, dims, old):
        sizes, new = widened(name, dims, old)
        return sizes, F32, new.tobytes()
    return rewritten(data, lambda key, old: struct.pack("<I", changed[key]) if key in changed else old, extra, change_tensor)


def bfloat16(numbers):
    """To the nearest, halves to even; no infinities or worse among the numbers."""
    bits = array.array("I", numbers.tobytes())
    return array.array("H", ((b + 0x7fff + (b >> 16 & 1)) >> 16 for b in bits)).tobytes()


def rounded(data, kind):
    """Matrices as F16 or BF16, as llama-quantize makes them."""
    def change_tensor(_, dims, old):
        if len(dims) == 1:
            return dims, F32, old.tobytes()
        if kind == "BF16":
            return dims, BF16, bfloat16(old)
        return dims, F16, struct.pack(f"<{len(old)}e", *old)
    return rewritten(data, lambda key, old: old, {}, change_tensor)
