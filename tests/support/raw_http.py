# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 by hand: bytes out, and a strict reader of what comes back, for tests of framing."""
import re
import socket


class Answer:
    def __init__(self, status, headers, body, whole):
        self.status, self.headers, self.body, self.whole = status, headers, body, whole

    def __repr__(self):
        return f"{self.status} {self.body[:80]!r}" + ("" if self.whole else " (cut short)")


def parse(data, heads=()):
    """The answers in data, in order; AssertionError for anything that is not an answer.  heads: the places (0, 1 …) of
    answers to HEAD, which have no body."""
    out, at = [], 0
    while at < len(data):
        end = data.find(b"\r\n\r\n", at)
        assert end >= 0, f"no end of a head in {data[at:at + 300]!r}"
        lines = data[at:end].split(b"\r\n")
        m = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [ -~]*", lines[0])
        assert m, f"not a status line: {lines[0][:200]!r}"
        status, headers = int(m.group(1)), {}
        for line in lines[1:]:
            h = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*", line)
            assert h, f"not a header line: {line[:200]!r}"
            name = h.group(1).decode().lower()
            assert name not in headers or name in ("vary", "set-cookie"), f"{name} twice: {lines}"
            headers[name] = h.group(2).decode("latin-1")
        at = end + 4
        no_body = status // 100 == 1 or status in (204, 304) or sum(a.status >= 200 for a in out) in heads
        assert not ("content-length" in headers and "transfer-encoding" in headers), lines
        if no_body:
            body, whole = b"", True
        elif "transfer-encoding" in headers:
            assert headers["transfer-encoding"] == "chunked", lines
            body, whole, at = _chunks(data, at)
        else:
            n = headers.get("content-length")
            body = data[at:] if n is None else data[at:at + int(n)]
            whole, at = n is None or len(body) == int(n), at + len(body)
        out.append(Answer(status, headers, body, whole))
    return out


def _chunks(data, at):
    body = b""
    while True:
        m = re.compile(rb"([0-9A-Fa-f]+)\r\n").match(data, at)
        if not m:
            assert re.fullmatch(rb"[0-9A-Fa-f]*\r?", data[at:]), f"not a chunk: {data[at:at + 100]!r}"
            return body, False, len(data)
        n, at = int(m.group(1), 16), m.end()
        body += data[at:at + n]
        if len(data) < at + n + 2:
            return body, False, len(data)
        assert data[at + n:at + n + 2] == b"\r\n", f"a chunk without an end: {data[at + n:at + n + 20]!r}"
        at += n + 2
        if n == 0:
            return body, True, at


class Wire(socket.socket):
    """A connection to 127.0.0.1:port."""

    def __init__(self, port, timeout=10, rcvbuf=0):
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.settimeout(timeout)
        if rcvbuf:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.connect(("127.0.0.1", port))
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def push(self, data):
        """Sends what the other end takes; False when it closed meanwhile."""
        try:
            self.sendall(data)
            return True
        except OSError:
            return False

    def rest(self, silence=None):
        """(all bytes until the other end closes, whether it did); silence: seconds without any after which it has not."""
        if silence:
            self.settimeout(silence)
        out = bytearray()
        while True:
            try:
                got = self.recv(1 << 16)
            except socket.timeout:
                return bytes(out), False
            except ConnectionError:
                return bytes(out), True
            if not got:
                return bytes(out), True
            out += got

    def until(self, mark, limit=1 << 22):
        """Bytes up to and with mark."""
        out = b""
        while mark not in out:
            got = self.recv(1 << 16)
            assert got, f"closed before {mark!r}: {out[-300:]!r}"
            out += got
            assert len(out) < limit, f"no {mark!r} in {limit} bytes"
        return out


def post(path, body, headers=b"", length=True, host=b"Host: localhost\r\n"):
    if isinstance(body, str):
        body = body.encode()
    n = b"Content-Length: %d\r\n" % len(body) if length else b""
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n" + n + headers + \
        b"\r\n" + body


def get(path, headers=b""):
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n"
