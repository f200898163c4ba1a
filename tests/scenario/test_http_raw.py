#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP as nobody's library would send it: framing that could be read two ways, slow and stalled clients, too many of
them, clients that leave, pipelines.  Every row says which statuses are right and whether the connection must end; a second
request rides behind each bad one, and is never answered."""
import json
import os
import resource
import socket
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import tiny_gguf  # noqa: E402
from berth_test import SLOW, Daemon, wait_until  # noqa: E402
from raw_http import Wire, get, parse, post  # noqa: E402

HOST = b"Host: localhost\r\n"
RIDER = b"GET /v1/models/rider HTTP/1.1\r\nHost: localhost\r\n\r\n"  # answered with 404 and its name, if ever
LAST = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BODY = b'{"model":"tiny","prompt":"a","max_tokens":1}'


def req(headers, body=b"", line=b"POST /v1/completions HTTP/1.1", host=HOST):
    return line + b"\r\n" + host + b"Content-Type: application/json\r\n" + headers + b"\r\n" + body


def chunked(body, line=b"POST /v1/completions HTTP/1.1", te=b"Transfer-Encoding: chunked\r\n"):
    return req(te, body, line)


def heads_only(line, *headers):
    return line + b"\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"


GET = b"GET /version HTTP/1.1"
# name: (bytes, right statuses).  All are refused, and the connection ends with the refusal.
REFUSED = {
    # a request that two readers could take for two different ones
    "length and chunked": (req(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), {400}),
    "chunked and length": (req(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", b"0\r\n\r\n"), {400}),
    "two different lengths": (req(b"Content-Length: 2\r\nContent-Length: 60\r\n", b"{}"), {400}),
    "two equal lengths": (req(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"{}"), {400}),
    "lengths in a list": (req(b"Content-Length: 2, 2\r\n", b"{}"), {400}),
    "negative length": (req(b"Content-Length: -1\r\n"), {400}),
    "plus length": (req(b"Content-Length: +5\r\n", b"{   }"), {400}),
    "hexadecimal length": (req(b"Content-Length: 0x2\r\n", b"{}"), {400}),
    "empty length": (req(b"Content-Length: \r\n"), {400}),
    "length of words": (req(b"Content-Length: 2 2\r\n", b"{}"), {400}),
    "length with a tail": (req(b"Content-Length: 2a\r\n", b"{}"), {400}),
    "length 2^64 + 2": (req(b"Content-Length: 18446744073709551618\r\n", b"{}"), {400, 413}),
    "length 2^63": (req(b"Content-Length: 9223372036854775808\r\n", b"{}"), {400, 413}),
    "length of 100 digits": (req(b"Content-Length: " + b"9" * 100 + b"\r\n", b"{}"), {400, 413}),
    "space before the length's colon": (req(b"Content-Length : 2\r\n", b"{}"), {400}),
    "space before the coding's colon": (req(b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"), {400}),
    "xchunked": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: xchunked\r\n"), {400, 501}),
    "gzip, chunked": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: gzip, chunked\r\n"), {400, 501}),
    "chunked, identity": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: chunked, identity\r\n"), {400, 501}),
    "identity": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: identity\r\n"), {400, 501}),
    "chunked twice": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: chunked, chunked\r\n"), {400, 501}),
    "two codings": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), {400, 501}),
    "empty coding": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding:\r\n"), {400, 501}),
    "quoted coding": (chunked(b"0\r\n\r\n", te=b'Transfer-Encoding: "chunked"\r\n'), {400, 501}),
    "coding behind a control": (chunked(b"0\r\n\r\n", te=b"Transfer-Encoding: \x0bchunked\r\n"), {400, 501}),
    "chunked in HTTP/1.0": (chunked(b"0\r\n\r\n", b"POST /v1/completions HTTP/1.0"), {400, 501}),
    # chunks
    "chunk of 2^64": (chunked(b"10000000000000000\r\nx"), {400, 413}),
    "chunk of 2^64 - 1": (chunked(b"ffffffffffffffff\r\nx"), {400, 413}),
    "chunk of 2^63": (chunked(b"8000000000000000\r\nx"), {400, 413}),
    "chunk size with many digits": (chunked(b"0" * 5000 + b"2\r\n{}\r\n0\r\n\r\n"), {400, 413}),
    "chunk of zz": (chunked(b"zz\r\nx\r\n0\r\n\r\n"), {400}),
    "chunk of -2": (chunked(b"-2\r\n{}\r\n0\r\n\r\n"), {400}),
    "chunk of +2": (chunked(b"+2\r\n{}\r\n0\r\n\r\n"), {400}),
    "chunk of 0x2": (chunked(b"0x2\r\n{}\r\n0\r\n\r\n"), {400}),
    "chunk without a size": (chunked(b"\r\n{}\r\n0\r\n\r\n"), {400}),
    "chunk longer than it says": (chunked(b"1\r\n{}\r\n0\r\n\r\n"), {400}),
    "chunk shorter than it says": (chunked(b"3\r\n{}\r\n0\r\n\r\n"), {400}),
    "chunk size ended by LF": (chunked(b"2\n{}\r\n0\r\n\r\n"), {400}),
    "chunk ended by LF": (chunked(b"2\r\n{}\n0\r\n\r\n"), {400}),
    "LF inside an extension": (chunked(b"2;a\nb\r\n{}\r\n0\r\n\r\n"), {400}),
    "endless extension": (chunked(b"2;" + b"a" * 200000 + b"\r\n{}\r\n0\r\n\r\n"), {400, 413, 431}),
    "endless trailers": (chunked(b"0\r\n" + b"A: b\r\n" * 50000 + b"\r\n"), {400, 413, 431}),
    "trailer with a NUL": (chunked(b"0\r\nA: \0\r\n\r\n"), {400}),
    # heads
    "no host": (heads_only(GET), {400}),
    "two hosts": (heads_only(GET, b"Host: localhost", b"Host: localhost"), {400}),
    "two different hosts": (heads_only(GET, b"Host: localhost", b"Host: evil.com"), {400}),
    "header line of 1 MB": (heads_only(GET, b"Host: localhost", b"X: " + b"a" * 1000000), {431}),
    "header name of 1 MB": (heads_only(GET, b"Host: localhost", b"X" * 1000000 + b": a"), {431, 400}),
    "10^5 headers": (heads_only(GET, b"Host: localhost", *[b"A: b"] * 100000), {431}),
    "target of 1 MB": (heads_only(b"GET /" + b"a" * 1000000 + b" HTTP/1.1", b"Host: localhost"), {414, 431}),
    "method of 1 MB": (heads_only(b"G" * 1000000 + b" / HTTP/1.1", b"Host: localhost"), {400, 414, 431, 501}),
    "1 MB of nothing but CRLF": (b"\r\n" * 500000 + heads_only(GET, b"Host: localhost"), {400, 431}),
    "folded header": (heads_only(GET, b"Host: localhost", b"X: a", b" b"), {400}),
    "folded first header": (heads_only(GET, b" X: a", b"Host: localhost"), {400}),
    "folded by a tab": (heads_only(GET, b"Host: localhost", b"Transfer-Encoding:", b"\tchunked"), {400}),
    "bare LF everywhere": (b"GET /version HTTP/1.1\nHost: localhost\n\n", {400}),
    "bare LF after a header": (b"GET /version HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", {400}),
    "bare LF at the end": (b"GET /version HTTP/1.1\r\nHost: localhost\r\n\n", {400}),
    "bare CR in a value": (heads_only(GET, b"Host: localhost", b"X: a\rContent-Length: 5"), {400}),
    "CR CR LF": (b"GET /version HTTP/1.1\r\r\nHost: localhost\r\n\r\n", {400}),
    "NUL in a value": (heads_only(GET, b"Host: localhost", b"X: a\0b"), {400}),
    "NUL in a name": (heads_only(GET, b"Host: localhost", b"X\0Y: a"), {400}),
    "NUL in the host": (heads_only(GET, b"Host: localhost\0.evil.com"), {400}),
    "DEL in a value": (heads_only(GET, b"Host: localhost", b"X: \x7f"), {400}),
    "space in a name": (heads_only(GET, b"Host: localhost", b"X Y: a"), {400}),
    "no name": (heads_only(GET, b"Host: localhost", b": a"), {400}),
    "no colon": (heads_only(GET, b"Host: localhost", b"Content-Length"), {400}),
    "brackets in a name": (heads_only(GET, b"Host: localhost", b"X(Y): a"), {400}),
    "letters beyond ASCII in a name": (heads_only(GET, b"Host: localhost", "Ünicode: a".encode()), {400}),
    # first lines
    "no version": (b"GET /version\r\n\r\n", {400, 505}),
    "HTTP/2.0": (heads_only(b"GET /version HTTP/2.0", b"Host: localhost"), {400, 505}),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "HTTP/1.10": (heads_only(b"GET /version HTTP/1.10", b"Host: localhost"), {400, 505}),
    "http/1.1": (heads_only(b"GET /version http/1.1", b"Host: localhost"), {400, 505}),
    "HTTP/01.1": (heads_only(b"GET /version HTTP/01.1", b"Host: localhost"), {400, 505}),
    "space behind the version": (heads_only(b"GET /version HTTP/1.1 ", b"Host: localhost"), {400, 505}),
    "two spaces": (heads_only(b"GET  /version HTTP/1.1", b"Host: localhost"), {400}),
    "tab for a space": (heads_only(b"GET\t/version\tHTTP/1.1", b"Host: localhost"), {400}),
    "space before the method": (heads_only(b" GET /version HTTP/1.1", b"Host: localhost"), {400}),
    "space in the target": (heads_only(b"GET /ver sion HTTP/1.1", b"Host: localhost"), {400, 505}),
    "no target": (heads_only(b"GET HTTP/1.1", b"Host: localhost"), {400, 505}),
    "target without a slash": (heads_only(b"GET version HTTP/1.1", b"Host: localhost"), {400}),
    "control in the target": (heads_only(b"GET /ver\x01sion HTTP/1.1", b"Host: localhost"), {400}),
    "NUL in the target": (heads_only(b"GET /ver\0sion HTTP/1.1", b"Host: localhost"), {400}),
    "byte above 127 in the target": (heads_only(b"GET /\xff HTTP/1.1", b"Host: localhost"), {400, 404}),
    "method that is no token": (heads_only(b"G@T /version HTTP/1.1", b"Host: localhost"), {400, 501}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500 + b"\r\n\r\n", {400, 431}),
    "garbage": (b"\x00\xff" * 300 + b"\r\n\r\n", {400}),
}
# Answered, and the connection goes on: the rider gets its own answer.
ANSWERED = {
    "plain": (get("/version"), {200}),
    "CRLF before the first line": (b"\r\n" + get("/version"), {200}),
    "body of a GET": (heads_only(GET, b"Host: localhost", b"Content-Length: 5") + b"12345", {200, 400}),
    "chunked body of a GET": (heads_only(GET, b"Host: localhost", b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n",
                              {200, 400}),
    "chunks": (chunked(b"".join(b"1;x=y\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n"), {200}),
    "chunks and trailers": (chunked(b"%x\r\n%s\r\n0\r\nX: y\r\nContent-Length: 99\r\n\r\n" % (len(BODY), BODY)), {200}),
    "Chunked with capitals and a tab": (chunked(b"%X\r\n%s\r\n00\r\n\r\n" % (len(BODY), BODY),
                                                te=b"TRANSFER-encoding:\tChunked \r\n"), {200}),
    "leading zeros of a length": (req(b"Content-Length: 00000%d\r\n" % len(BODY), BODY), {200}),
    "unknown route with a body": (req(b"Content-Length: 100\r\n", b"x" * 100, b"POST /nowhere HTTP/1.1"), {404}),
    "body that holds a request": (req(b"Content-Length: %d\r\n" % len(LAST), LAST), {400}),
    "absolute target": (heads_only(b"GET http://localhost/version HTTP/1.1", b"Host: localhost"), {200}),
    "empty header value": (heads_only(GET, b"Host: localhost", b"X:"), {200}),
    "unknown expectation": (heads_only(GET, b"Host: localhost", b"Expect: miracles"), {200, 417}),
    "upgrade to h2c": (heads_only(GET, b"Host: localhost", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                                  b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"), {200}),
    "unknown method": (heads_only(b"BREW /version HTTP/1.1", b"Host: localhost"), {405, 501}),
    "method in small letters": (heads_only(b"get /version HTTP/1.1", b"Host: localhost"), {405, 501, 400}),
    "dots in the target": (get("/v1/../version"), {400, 404}),
    "escaped dots": (get("/v1/%2e%2e/version"), {400, 404}),
    "escaped NUL": (get("/version%00"), {400, 404}),
    "bad escape": (get("/v1/models/%zz"), {400, 404}),
    "stars": (heads_only(b"OPTIONS * HTTP/1.1", b"Host: localhost"), {200, 204, 400, 404}),
}


class Raw(unittest.TestCase):
    args = ()
    env = {}

    @classmethod
    def setUpClass(cls):
        cls.models = tempfile.TemporaryDirectory(prefix="berth-raw-")
        tiny_gguf.write(os.path.join(cls.models.name, "tiny.gguf"))
        cls.d = Daemon(models_dir=cls.models.name, args=["--threads", "1", *cls.args], env=cls.env, timeout=60 * SLOW)
        cls.d.start()
        cls.d.post("/v1/completions", BODY)

    @classmethod
    def tearDownClass(cls):
        rc = cls.d.stop()
        cls.models.cleanup()
        assert rc == 0, f"exit status {rc}\n{cls.d.output()}"

    def wire(self, timeout=20 * SLOW, **kw):
        w = Wire(self.d.port, timeout=timeout, **kw)
        self.addCleanup(w.close)
        return w

    def well(self):
        """The daemon goes on answering."""
        self.assertEqual(self.d.get("/version")[0], 200)

    def model(self, name="tiny"):
        return next(m for m in self.d.get("/berth/v1/models")[2]["models"] if m["name"] == name)

    def rss(self):
        with open(f"/proc/{self.d.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def idle(self):
        """Nothing runs, waits or holds a block of the cache."""
        return wait_until(lambda: (lambda m: m["n_running"] == 0 == m["n_waiting"] and not m.get("blocks_used"))
                          (self.model()))


class Framing(Raw):
    def test_refused_and_closed(self):
        for name, (data, statuses) in REFUSED.items():
            with self.subTest(name), self.wire() as w:
                w.push(data + RIDER + LAST)
                out, closed = w.rest(silence=20 * SLOW)
                answers = parse(out)
                self.assertTrue(closed, f"{name}: the connection is open")
                self.assertLessEqual(len(answers), 1, f"{name}: {answers}")
                if answers:  # the head of a refusal may be lost to a reset when more bytes were on their way
                    self.assertIn(answers[0].status, statuses, name)
                else:
                    self.assertGreater(len(data), 100000, f"{name}: no answer")
                self.well()

    def test_refused_when_alone_as_well(self):
        """Nothing behind it: the answer must not wait for more."""
        for name, (data, statuses) in REFUSED.items():
            if len(data) > 100000 or name in ("chunk of 2^64 - 1", "chunk of 2^63"):
                continue
            with self.subTest(name), self.wire() as w:
                w.push(data)
                out, closed = w.rest(silence=20 * SLOW)
                answers = parse(out)
                self.assertEqual((len(answers), closed), (1, True), f"{name}: {out[:200]!r}")
                self.assertIn(answers[0].status, statuses, name)

    def test_answered_and_open(self):
        for name, (data, statuses) in ANSWERED.items():
            with self.subTest(name), self.wire() as w:
                w.push(data + RIDER + LAST)
                out, closed = w.rest()
                answers = parse(out)
                self.assertTrue(closed)
                self.assertIn(answers[0].status, statuses, f"{name}: {answers}")
                if len(answers) == 1 and answers[0].status >= 400:
                    continue  # refused by its framing: closing is right as well
                self.assertEqual([a.status for a in answers[1:]], [404, 200], f"{name}: {answers}")
                self.assertIn(b"rider", answers[1].body)

    def test_every_cut_of_a_request(self):
        """The same answers wherever the segments end."""
        data = chunked(b"5;x\r\n" + BODY[:5] + b"\r\n%x\r\n" % (len(BODY) - 5) + BODY[5:] + b"\r\n0\r\nT: x\r\n\r\n") + LAST
        for cut in list(range(1, len(data), 7)) + [len(data) - 1]:
            with self.wire() as w:
                w.push(data[:cut])
                time.sleep(0.0005)
                w.push(data[cut:])
                self.assertEqual([a.status for a in parse(w.rest()[0])], [200, 200], cut)
        with self.wire() as w:
            for b in data:
                w.push(bytes([b]))
            self.assertEqual([a.status for a in parse(w.rest()[0])], [200, 200])

    def test_a_foreign_host_in_the_target(self):
        for line, host in ((b"GET http://evil.com/v1/models HTTP/1.1", b"Host: localhost"),
                           (b"GET http://localhost/v1/models HTTP/1.1", b"Host: evil.com"),
                           (b"GET http://localhost@evil.com/v1/models HTTP/1.1", b"Host: localhost")):
            with self.wire() as w:
                w.push(heads_only(line, host, b"Connection: close"))
                self.assertIn(parse(w.rest()[0])[0].status, (400, 403), (line, host))

    def test_http_1_0(self):
        with self.wire() as w:
            w.push(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n" + RIDER)
            out, closed = w.rest(silence=5 * SLOW)
            self.assertEqual(([a.status for a in parse(out)], closed), ([200], True))
        with self.wire() as w:
            w.push(b"GET /version HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" + RIDER + LAST)
            answers = parse(w.rest()[0])
            self.assertIn([a.status for a in answers], ([200], [200, 404, 200]))
        with self.wire() as w:  # no Host: allowed in 1.0 by RFC 9112, and by nothing a stranger could use
            w.push(b"GET /v1/models HTTP/1.0\r\n\r\n")
            self.assertIn(parse(w.rest()[0])[0].status, (200, 400, 403))

    def test_bodies_that_are_too_large(self):
        with self.wire() as w:  # told before it is sent
            w.push(req(b"Content-Length: 100000000\r\nExpect: 100-continue\r\n"))
            out, closed = w.rest(silence=20 * SLOW)
            self.assertEqual(([a.status for a in parse(out)], closed), ([413], True))
        with self.wire() as w:
            w.push(req(b"Content-Length: 100000000\r\n", b"x" * 100) + RIDER)
            out, closed = w.rest(silence=20 * SLOW)
            self.assertEqual(([a.status for a in parse(out)], closed), ([413], True))
        before = self.rss()
        for _ in range(3):
            with self.wire() as w:
                w.push(chunked(b"100000\r\n" + b"a" * 0x100000 + b"\r\n") + (b"100000\r\n" + b"a" * 0x100000 + b"\r\n") * 40)
                out, closed = w.rest(silence=20 * SLOW)
                self.assertTrue(closed)
                self.assertIn([a.status for a in parse(out)], ([413], []))
        self.well()
        if SLOW == 1:  # sanitizers keep what was freed
            self.assertLess(self.rss() - before, 64 << 10)

    def test_memory_after_all_that(self):
        if SLOW > 1:
            self.skipTest("sanitizers keep what was freed")
        before = self.rss()
        for _ in range(5):
            for name in ("header line of 1 MB", "10^5 headers", "target of 1 MB", "endless extension"):
                with self.wire() as w:
                    w.push(REFUSED[name][0])
                    w.rest(silence=20)
        self.assertLess(self.rss() - before, 4 << 10)


class Persistence(Raw):
    def test_pipelines(self):
        many = b"".join(get(f"/v1/models/m{i}") for i in range(200))
        with self.wire() as w:
            t = threading.Thread(target=w.push, args=(many + LAST,))
            t.start()
            answers = parse(w.rest()[0])
            t.join()
        self.assertEqual([a.status for a in answers], [404] * 200 + [200])
        for i, a in enumerate(answers[:200]):
            self.assertIn(f"'m{i}'", json.loads(a.body)["error"]["message"])

    def test_pipelined_generations_in_order(self):
        """Answers come in the order of the requests, whole and streamed, whatever takes how long."""
        rows = [{"max_tokens": 40}, {"max_tokens": 1}, {"stream": True, "max_tokens": 20}, {"max_tokens": 2}]
        data = b"".join(post("/v1/completions", json.dumps({"model": "tiny", "prompt": "a", "seed": 1, **r})) for r in rows)
        with self.wire() as w:
            w.push(data + LAST)
            answers = parse(w.rest()[0])
        self.assertEqual([a.status for a in answers], [200] * 5)
        for a, r in zip(answers, rows):
            if r.get("stream"):
                self.assertTrue(a.body.endswith(b"data: [DONE]\n\n"))
            else:
                self.assertEqual(json.loads(a.body)["usage"]["completion_tokens"], r["max_tokens"])

    def test_a_refusal_behind_a_slow_answer_waits_its_turn(self):
        with self.wire() as w:
            w.push(post("/v1/completions", json.dumps({"model": "tiny", "prompt": "a", "max_tokens": 200})) +
                   b"garbage\r\n\r\n" + RIDER)
            answers = parse(w.rest()[0])
        self.assertEqual([a.status for a in answers], [200, 400])

    def test_head(self):
        for path in ("/version", "/v1/models", "/v1/models/nobody"):
            with self.wire() as w:
                w.push(b"HEAD " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n" + get(path, b"Connection: close\r\n"))
                head, whole = parse(w.rest()[0], heads=(0,))
            self.assertEqual((head.status, head.headers.get("content-length"), head.headers.get("content-type")),
                             (whole.status, str(len(whole.body)), whole.headers.get("content-type")), path)

    def test_options(self):
        with self.wire() as w:
            w.push(b"OPTIONS /v1/chat/completions HTTP/1.1\r\n" + HOST + b"Origin: http://localhost:3000\r\n"
                   b"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-stainless-os\r\n\r\n"
                   b"OPTIONS /v1/chat/completions HTTP/1.1\r\n" + HOST + b"\r\n" + LAST)
            preflight, plain, last = parse(w.rest()[0])
        self.assertEqual((preflight.status, preflight.headers["access-control-allow-origin"]), (204, "http://localhost:3000"))
        self.assertIn("x-stainless-os", preflight.headers["access-control-allow-headers"])
        self.assertIn(plain.status, (200, 204, 405))
        self.assertEqual(last.status, 200)

    def test_expect(self):
        with self.wire() as w:
            w.push(req(b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n" % len(BODY)))
            self.assertEqual(parse(w.until(b"\r\n\r\n"))[0].status, 100)
            w.push(BODY)
            self.assertEqual(parse(w.rest()[0])[0].status, 200)
        with self.wire() as w:  # the body is there already: no interim answer is needed, and the final one comes
            w.push(req(b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n" % len(BODY), BODY))
            self.assertEqual([a.status for a in parse(w.rest()[0])][-1], 200)
        with self.wire() as w:  # refused by its head alone
            w.push(b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
            self.assertEqual(parse(w.rest(silence=3 * SLOW)[0])[-1].status, 404)

    def test_connection_close_is_obeyed_and_said(self):
        with self.wire() as w:
            w.push(get("/version", b"Connection: foo, Close\r\n") + RIDER)
            out, closed = w.rest()
            answers = parse(out)
            self.assertEqual(([a.status for a in answers], closed), ([200], True))
            self.assertEqual(answers[0].headers["connection"].lower(), "close")


class Leaving(Raw):
    def ask(self, **more):
        return post("/v1/completions", json.dumps({"model": "tiny", "prompt": "a", "ignore_eos": True, "max_tokens": 4000,
                                                   "n": 128, **more}))

    def test_in_the_middle_of_an_answer(self):
        """Closed, reset, half-closed; streamed and whole: the work stops and its cache is free."""
        for how in ("close", "reset", "half"):
            for stream in (True, False):
                with self.subTest(how=how, stream=stream):
                    w = self.wire()
                    w.push(self.ask(stream=stream))
                    if stream:
                        w.until(b"data: ")
                    else:
                        self.assertTrue(wait_until(lambda: self.model()["n_running"] > 0))
                    if how == "reset":
                        w.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    if how == "half":
                        w.shutdown(socket.SHUT_WR)
                        w.settimeout(0.2)  # what is read or not makes no difference
                    else:
                        w.close()
                    start = time.monotonic()
                    self.assertTrue(self.idle(), self.model())
                    self.assertLess(time.monotonic() - start, 5 * SLOW)
                    w.close()

    def test_before_the_first_token(self):
        """At the prompt: a long one is dropped between its pieces."""
        for _ in range(5):
            w = self.wire()
            w.push(self.ask(prompt="ab " * 1200, n=1, max_tokens=100))
            time.sleep(0.005)
            w.close()
        self.assertTrue(self.idle(), self.model())

    def test_in_the_middle_of_a_request(self):
        for data in (b"", b"P", b"POST /v1/completions HTTP/1.1\r\nHost: loc", req(b"Content-Length: 500\r\n", b"{"),
                     chunked(b"5\r\n{")):
            for how in (socket.SHUT_WR, None):
                w = self.wire()
                w.push(data)
                if how is not None:
                    w.shutdown(how)
                    out, closed = w.rest(silence=20 * SLOW)
                    self.assertTrue(closed, data)
                    self.assertIn([a.status for a in parse(out)], ([], [400]), data)
                w.close()
        self.well()

    def test_hundreds_at_once(self):
        wires = [self.wire() for _ in range(200)]
        for i, w in enumerate(wires):
            w.push(self.ask(stream=i % 2 == 0, n=1))
        self.assertTrue(wait_until(lambda: self.model()["n_running"] > 0))
        for w in wires:
            w.close()
        self.assertTrue(self.idle(), self.model())
        self.assertEqual(self.d.post("/v1/completions", BODY)[0], 200)


class Stalled(Raw):
    """Clients that hold on to what they have."""
    args = ("--max-num-seqs", "4")

    def test_slow_heads_bodies_and_readers_hold_up_nobody(self):
        slow = []
        for i in range(200):
            w = self.wire()
            w.push((b"G", b"GET /version HT", b"GET /version HTTP/1.1\r\nHost: loc", req(b"Content-Length: 500\r\n", b"{"),
                    chunked(b"5\r\n{"))[i % 5])
            slow.append(w)
        for _ in range(4):  # streams nobody reads
            w = self.wire(rcvbuf=4096)
            w.push(post("/v1/completions", json.dumps({"model": "tiny", "prompt": "a", "ignore_eos": True, "n": 8,
                                                       "max_tokens": int(4000 / SLOW), "stream": True})))
            slow.append(w)
        for i in range(60):
            self.assertEqual(self.d.post("/v1/completions", BODY)[0], 200)
            if i % 10 == 0:
                for w in slow[:200]:
                    w.push(b"")
        # The streams were computed to their end or dropped; either way nothing is held for them.
        self.assertTrue(self.idle(), self.model())
        for w in slow:
            w.close()

    def test_a_head_that_does_not_end_has_a_deadline(self):
        """LIMIT_HTTP_HEAD_MS from its first byte, however many bytes trickle in meanwhile."""
        wires = [self.wire(timeout=0.05) for _ in range(20)]
        start, open_, n = time.monotonic(), set(wires), 0
        for w in wires:
            w.push(b"GET /version HTTP/1.1\r\nHost: localhost\r\n")
        while open_ and time.monotonic() - start < 40 * SLOW:
            n += 1
            for w in list(open_):
                if not w.push(b"X%d: y\r\n" % n):
                    open_.discard(w)
                    continue
                w.setblocking(False)
                try:
                    if not w.recv(1000):
                        open_.discard(w)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    open_.discard(w)
                w.settimeout(0.05)
            time.sleep(0.5)
        for w in wires:
            w.close()
        self.assertEqual(len(open_), 0, f"open after {time.monotonic() - start:.0f} s")
        self.well()


class Crowd(Raw):
    """More clients than there is room for."""
    args = ("--max-connections", "40")

    def test_beyond_the_limit(self):
        held = [self.wire() for _ in range(39)]
        for w in held:
            w.push(get("/version"))
            self.assertEqual(parse(w.recv(4096))[0].status, 200)
        more = [self.wire(timeout=3 * SLOW) for _ in range(10)]
        told = 0
        for w in more:
            w.push(get("/version"))
        for w in more[1:]:
            out, closed = w.rest()
            if out:
                self.assertEqual(parse(out)[0].status, 503)
                self.assertIn("retry-after", parse(out)[0].headers)
                told += 1
            # neither answered nor closed: it waits its turn in the kernel's queue
        for w in held:  # those that are in are served as before
            w.push(get("/version"))
            self.assertEqual(parse(w.recv(4096))[0].status, 200)
        for w in held + more:
            w.close()
        self.assertTrue(wait_until(lambda: self.d.get("/version")[0] == 200))
        for _ in range(50):
            self.well()


class Descriptors(Raw):
    """A process that may open few files: accepting pauses, nothing spins, all recovers."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        resource.prlimit(cls.d.pid, resource.RLIMIT_NOFILE, (96, 96))

    def cpu(self):
        with open(f"/proc/{self.d.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_out_of_descriptors(self):
        wires = [self.wire() for _ in range(150)]
        time.sleep(0.3)
        before, start = self.cpu(), time.monotonic()
        time.sleep(1)
        used = (self.cpu() - before) / (time.monotonic() - start)
        if SLOW == 1:
            self.assertLess(used, 0.3, "the daemon spins on a connection that it cannot accept")
        for w in wires:
            w.close()
        self.assertTrue(wait_until(lambda: self.d.get("/version")[0] == 200))
        self.assertEqual(self.d.post("/v1/completions", BODY)[0], 200)


if __name__ == "__main__":
    unittest.main()
