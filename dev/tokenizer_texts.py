# SPDX-License-Identifier: Apache-2.0
"""Unusual texts for comparing tokenizers, and the goldens made from them.

usage: dev/tokenizer_texts.py IDS_COMMAND VOCAB_FOLDER OUT_FOLDER
IDS_COMMAND MODEL reads texts from standard input (u32 flags: 0, u32 length, bytes) and writes their ids (i32 count,
i32 each): a few lines around llama.cpp's llama_tokenize.  Writes OUT/texts.txt (a text a line, escaped), and for every
VOCAB/NAME.gguf OUT/NAME.ids, for every pre-tokenizer family OUT/families.ids: a line per text, count and FNV-1a of the
ids.  The families run over a vocabulary of all pairs of bytes, which shows wherever a cut differs; the tests build the
same one.
"""
import glob
import os
import random
import struct
import subprocess
import sys

WORDS = (
    "the quick Brown FOX don't I'm we'll They'VE it's L'Oréal can't 'Tis o'clock HELLO helloWorld camelCaseWord "
    "XMLHttpRequest snake_case_name 日本語 こんにちは 世界 중국 안녕하세요 привет мир Ελληνικά العربية שלום हिन्दी ไทย ภาษา "
    "tiếng Việt ﬁn naïve café ÉCOLE Straße ǅ ʰ ª º ½ Ⅷ ① ٣٤٥ १२३ 𝟙𝟚 𝒜𝓑 🦙 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☺️ e\u0301 n\u0303\u0327 \u0301 "
    "a\u200db \u200c \ufeff \u00ad → ∑ € $100 £5 50% 3.14 1,000,000 12345678 0x1F 2024-11-21 foo@bar.com "
    "https://x.y/z?a=1&b=2 <tag/> {json: [1, 2]} // --flag ==> != ... !!! ???? --- *** ``` \"quoted\" (paren) "
    "[br] a/b\\c ^ ~ | ` # @ & ; : , . ? ! 你好，世界！ 1234567 x12345 IMGIMGABZ <sentinel:3>"
).split(" ")
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t", " \n", "\n ", "    ", "\u00a0", "\u3000", "\u2003",
          "\u2028", "\u0085", "\x0b", "\x0c", " \t ", "\r\n\r\n", " " * 9, " " * 33, "\n" * 5, "\u200b"]
BLOCKS = [(0x20, 0x7e)] * 6 + [
    (0xa0, 0xff), (0x100, 0x24f), (0x250, 0x36f), (0x370, 0x3ff), (0x400, 0x52f), (0x530, 0x6ff), (0x900, 0xdff),
    (0xe00, 0xfff), (0x1000, 0x13ff), (0x13a0, 0x16ff), (0x1780, 0x1aff), (0x1c80, 0x1fff), (0x2000, 0x206f),
    (0x2070, 0x23ff), (0x2500, 0x27ff), (0x2c00, 0x2dff), (0x2e80, 0x2fdf), (0x3000, 0x30ff), (0x3100, 0x33ff),
    (0x4e00, 0x9fff), (0xa000, 0xabff), (0xac00, 0xd7a3), (0xf900, 0xfdff), (0xfe00, 0xffef), (0x10000, 0x107ff),
    (0x10800, 0x10fff), (0x1d400, 0x1d7ff), (0x1f000, 0x1faff), (0x20000, 0x2a6df), (0x1, 0x1f)]
MIXED = ["a", "B", "É", "é", "ǅ", "ʰ", "中", "あ", "한", "\u0301", "\u093e", "1", "٣", "Ⅷ", "!", "$", "。", "€", " ", "\n", "\r",
         "/", "'", "_", "\u200d", "\u0085", "\u3000", "\x01", "\x1c"]
FAMILIES = ("llama3 qwen2 qwen35 gpt-2 starcoder falcon default jais-2 deepseek-llm deepseek-coder deepseek-v3 gpt-4o "
            "tekken tiny_aya kimi-k2 superbpe afmoe bailingmoe seed-coder bloom viking youtu exaone-moe chameleon "
            "granite-embed-multi-97m k2-horizon ufakzeka laguna minicpm5").split(" ")


def character(r):
    return chr(r.randint(*r.choice(BLOCKS)))


def text(r):
    kind, n = r.randint(0, 9), r.choice([1, 2, 3, 5, 8, 20, 60])
    if kind == 0:
        return "".join(character(r) for _ in range(n))
    if kind == 1:
        return "".join(r.choice(WORDS) + r.choice(SPACES) for _ in range(n))
    if kind == 2:
        return "".join(r.choice([r.choice(WORDS), r.choice(SPACES), character(r),
                                 str(r.randint(0, 10 ** r.randint(1, 12)))]) for _ in range(n))
    if kind == 3:
        block = r.choice(BLOCKS)
        return "".join(chr(r.randint(*block)) if r.random() < .8 else r.choice(SPACES) for _ in range(n))
    if kind == 4:
        return "".join(r.choice("'sStTrReEvVmMlLdD aZ1.\n ’") for _ in range(n))
    if kind == 5:
        return "".join(r.choice(SPACES) for _ in range(n))
    if kind == 6:
        return "".join(r.choice("0123456789 .,aé٣½一") for _ in range(n))
    if kind == 7:
        return r.choice(WORDS) * r.randint(1, 50)
    if kind == 8:
        return "".join(r.choice(MIXED) for _ in range(n))
    return " ".join(r.choice(WORDS) for _ in range(n))


def texts(seed=1, n=600):
    r = random.Random(seed)
    out = [text(r) for _ in range(n)]
    for alphabet in ("a", "ab", " ", "etaoinshrdlu", "é日本 ", "aA1. "):  # chunks too long for a heap
        out.append("".join(r.choice(alphabet) for _ in range(3000)))
    return [t.encode() for t in out]


def escape(t):
    return "".join(chr(b) if 32 <= b < 127 and b != 92 else "\\%02x" % b for b in t)


def ids_of(command, model, batch):
    data = b"".join(struct.pack("<II", 0, len(t)) + t for t in batch)
    out = subprocess.run(command.split(" ") + [model], input=data, stdout=subprocess.PIPE, check=True).stdout
    ids, at = [], 0
    while at < len(out):
        n = struct.unpack_from("<i", out, at)[0]
        ids.append(struct.unpack_from("<%di" % n, out, at + 4))
        at += 4 + 4 * n
    assert len(ids) == len(batch), model
    return ids


def digest(ids):
    h = 0xcbf29ce484222325
    for b in struct.pack("<%di" % len(ids), *ids):
        h = ((h ^ b) * 0x100000001b3) & 0xFFFFFFFFFFFFFFFF
    return "%d %016x" % (len(ids), h)


def pairs_vocabulary(family, path):
    """All bytes, all pairs of bytes, and their merges in a scattered order; the last token is <s>."""
    alphabet, extra = [], 0
    for b in range(256):
        if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174:
            alphabet.append(chr(b))
        else:
            alphabet.append(chr(256 + extra))
            extra += 1
    order = [0] * 65536
    for k in range(65536):
        order[(k * 40503 + 12345) % 65536] = k
    pairs = [(alphabet[k // 256], alphabet[k % 256]) for k in order]
    tokens = alphabet + [a + b for a, b in pairs] + ["<s>"]

    def string(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    def array(kind, items, each):
        return struct.pack("<IQ", kind, len(items)) + b"".join(map(each, items))

    u32 = {"llama.block_count": 1, "llama.context_length": 128, "llama.embedding_length": 64,
           "llama.feed_forward_length": 64, "llama.attention.head_count": 2, "llama.rope.dimension_count": 32,
           "llama.vocab_size": len(tokens), "tokenizer.ggml.bos_token_id": len(tokens) - 1,
           "tokenizer.ggml.eos_token_id": len(tokens) - 1}
    keys = [string(k) + struct.pack("<II", 4, v) for k, v in u32.items()]
    keys.append(string("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-6))
    for k, v in {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": family}.items():
        keys.append(string(k) + struct.pack("<I", 8) + string(v))
    for k, v in (("tokens", tokens), ("merges", [a + " " + b for a, b in pairs])):
        keys.append(string("tokenizer.ggml." + k) + struct.pack("<I", 9) + array(8, v, string))
    types = [1] * (len(tokens) - 1) + [3]
    keys.append(string("tokenizer.ggml.token_type") + struct.pack("<I", 9) + array(5, types, lambda x: struct.pack("<i", x)))
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(keys)) + b"".join(keys))


def main():
    command, vocabularies, out = sys.argv[1:]
    batch = texts()
    with open(os.path.join(out, "texts.txt"), "w", newline="\n") as f:
        f.writelines(escape(t) + "\n" for t in batch)
    for path in sorted(glob.glob(os.path.join(vocabularies, "*.gguf"))):
        name = os.path.basename(path)[:-5]
        with open(os.path.join(out, name + ".ids"), "w") as f:
            f.writelines(digest(i) + "\n" for i in ids_of(command, path, batch))
    with open(os.path.join(out, "families.ids"), "w") as f:
        for family in FAMILIES:
            path = os.path.join(vocabularies, "pairs.tmp")
            pairs_vocabulary(family, path)
            f.write(family + "\n")
            f.writelines(digest(i) + "\n" for i in ids_of(command, path, batch[:300]))
            os.unlink(path)


if __name__ == "__main__":
    main()
