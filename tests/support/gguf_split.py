# SPDX-License-Identifier: Apache-2.0
"""A GGUF file in parts, as llama.cpp's splitting writes them: metadata in the first, tensors in order."""
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
U16, I32, STRING, ARRAY = 2, 5, 8, 9


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        v, = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return v

    def string(self):
        n = self.number("Q")
        self.at += n
        return self.data[self.at - n:self.at]

    def skip(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            item, n = self.number("I"), self.number("Q")
            for _ in range(n):
                self.skip(item)
        else:
            self.at += SIZES[kind]


def text(s):
    return struct.pack("<Q", len(s)) + s


def aligned(data):
    return data + b"\0" * (-len(data) % 32)


def split(data, n):
    """The bytes of n parts; the alignment must be the usual one, 32."""
    r = Reader(data)
    r.at = 8
    n_tensors, n_kv = r.number("Q"), r.number("Q")
    begin = r.at
    for _ in range(n_kv):
        r.string()
        r.skip(r.number("I"))
    kvs, tensors = data[begin:r.at], []
    for _ in range(n_tensors):
        name = r.string()
        dims = [r.number("Q") for _ in range(r.number("I"))]
        tensors.append((name, dims, r.number("I"), r.number("Q")))
    base = r.at + -r.at % 32
    ends = [t[3] for t in tensors[1:]] + [len(data) - base]
    assert ends == sorted(ends), "tensors out of order"
    out = []
    for part in range(n):
        mine = range(part * n_tensors // n, (part + 1) * n_tensors // n)
        split_kvs = (text(b"split.no") + struct.pack("<IH", U16, part) + text(b"split.count") + struct.pack("<IH", U16, n) +
                     text(b"split.tensors.count") + struct.pack("<Ii", I32, n_tensors))
        infos, body = b"", b""
        for i in mine:
            name, dims, kind, offset = tensors[i]
            infos += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body))
            body = aligned(body + data[base + offset:base + ends[i]])
        head = b"GGUF" + struct.pack("<IQQ", 3, len(mine), 3 + (0 if part else n_kv)) + (b"" if part else kvs) + split_kvs
        out.append(aligned(head + infos) + body)
    return out
