# SPDX-License-Identifier: Apache-2.0
"""Writes a complete llama model of a hundred kilobytes, for tests and measurements of everything around the engine.

One narrow layer, a vocabulary of bytes and letters (SentencePiece's kind), a chat template, pseudo-random weights: what
it says is letters and means nothing, but it says it at thousands of tokens a second.  The same arguments, the same bytes.
"""
import random
import struct

U32, I32, F32, STRING, ARRAY, BOOL = 4, 5, 6, 8, 9, 7
Q8_0 = 8  # of tensors
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
LETTERS = " abcdefghijklmnopqrstuvwxyz.,"


def _string(s):
    b = s.encode("utf-8")
    return struct.pack("<Q", len(b)) + b


def _kv(key, kind, value):
    head = _string(key) + struct.pack("<I", kind)
    if kind == STRING:
        return head + _string(value)
    if kind == ARRAY:
        item, values = value
        pack = {STRING: _string, F32: lambda v: struct.pack("<f", v), I32: lambda v: struct.pack("<i", v)}[item]
        return head + struct.pack("<IQ", item, len(values)) + b"".join(pack(v) for v in values)
    return head + struct.pack({U32: "<I", F32: "<f", BOOL: "<?"}[kind], value)


def vocabulary():
    """[(text, score, type)]: unknown, begin, end, 256 bytes, letters (with the mark that stands for a space)."""
    out = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    out += [(f"<0x{b:02X}>", 0.0, 6) for b in range(256)]
    out += [(c.replace(" ", "\u2581"), -float(i), 1) for i, c in enumerate(LETTERS)]
    return out


def write(path, n_ctx=4096, n_embd=32, n_ff=32, n_layer=1, seed=1, template=TEMPLATE, pad_bytes=0, q8=False):
    """pad_bytes: makes the feed-forward so wide that the file has about so many bytes (memory plans).
    q8: the layers' matrices are of type Q8_0, which there are prepared layouts for."""
    rng = random.Random(seed)
    vocab = vocabulary()
    if pad_bytes:
        n_ff = max(n_ff, pad_bytes // (3 * (1 if q8 else 4) * n_embd * n_layer) // 32 * 32)
    kvs = [_kv("general.architecture", STRING, "llama"), _kv("llama.context_length", U32, n_ctx),
           _kv("llama.embedding_length", U32, n_embd), _kv("llama.block_count", U32, n_layer),
           _kv("llama.feed_forward_length", U32, n_ff), _kv("llama.attention.head_count", U32, 2),
           _kv("llama.attention.head_count_kv", U32, 1), _kv("llama.rope.dimension_count", U32, n_embd // 2),
           _kv("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
           _kv("tokenizer.ggml.model", STRING, "llama"),
           _kv("tokenizer.ggml.tokens", ARRAY, (STRING, [v[0] for v in vocab])),
           _kv("tokenizer.ggml.scores", ARRAY, (F32, [v[1] for v in vocab])),
           _kv("tokenizer.ggml.token_type", ARRAY, (I32, [v[2] for v in vocab])),
           _kv("tokenizer.ggml.bos_token_id", U32, 1), _kv("tokenizer.ggml.eos_token_id", U32, 2),
           _kv("tokenizer.ggml.unknown_token_id", U32, 0)]
    if template:
        kvs.append(_kv("tokenizer.chat_template", STRING, template))
    n_vocab, n_kv = len(vocab), n_embd // 2
    shapes = [("token_embd.weight", (n_embd, n_vocab)), ("output_norm.weight", (n_embd,)),
              ("output.weight", (n_embd, n_vocab))]
    for il in range(n_layer):
        shapes += [(f"blk.{il}.{name}.weight", dims) for name, dims in (
            ("attn_norm", (n_embd,)), ("attn_q", (n_embd, n_embd)), ("attn_k", (n_embd, n_kv)),
            ("attn_v", (n_embd, n_kv)), ("attn_output", (n_embd, n_embd)), ("ffn_norm", (n_embd,)),
            ("ffn_gate", (n_embd, n_ff)), ("ffn_up", (n_embd, n_ff)), ("ffn_down", (n_ff, n_embd)))]
    infos, data = b"", bytearray()
    for name, dims in shapes:
        n = 1
        for d in dims:
            n *= d
        infos += _string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        is_q8 = q8 and name.startswith("blk.") and "norm" not in name
        infos += struct.pack("<IQ", Q8_0 if is_q8 else 0, len(data))
        if is_q8:
            some = b"".join(struct.pack("<e32b", 0.1 / 127, *(rng.randint(-127, 127) for _ in range(32))) for _ in range(61))
            data += (some * (n // 32 // 61 + 1))[:34 * (n // 32)]
        elif "norm" in name:
            data += struct.pack("<f", 1.0) * n
        elif name in ("token_embd.weight", "output.weight"):
            # The first number of every state is large, and counts for letters alone: nothing else is ever likely.
            for i in range(n_vocab):
                letter = i >= n_vocab - len(LETTERS)
                first = 3.0 if name == "token_embd.weight" else 2.0 * letter
                width = 0.3 if name == "token_embd.weight" else 1.0 * letter
                data += struct.pack(f"<{n_embd}f", first, *(rng.uniform(-width, width) for _ in range(n_embd - 1)))
        else:
            some = struct.pack("<256f", *(rng.uniform(-0.1, 0.1) for _ in range(256)))
            data += (some * (n // 256 + 1))[:4 * n]
        data += b"\0" * (-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(kvs)) + b"".join(kvs) + infos
    with open(path, "wb") as f:
        f.write(head + b"\0" * (-len(head) % 32))
        f.write(data)
