# SPDX-License-Identifier: Apache-2.0
"""Shared by scenario tests: a daemon on a free loopback port with its own state folder, a JSON client, an SSE reader.

Python 3 standard library only.  Put this at the top of a scenario test:

    import os, sys
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
    from berth_test import BERTH, Daemon

    with Daemon(models_dir="models") as d:
        status, headers, body = d.post("/v1/completions", {"model": "stories", "prompt": "Once", "max_tokens": 4})
        for event in d.stream("/v1/chat/completions", {...}): ...
"""
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import openai_answers

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BERTH = os.environ.get("BERTH") or os.path.join(ROOT, "build", "berth")
BUILD = os.environ.get("BUILD") or os.path.join(ROOT, "build")
MODELS = os.path.join(ROOT, "models")
# How many times longer than ordinary things may take: sanitizers, and whatever else the machine is doing.
SLOW = float(os.environ.get("BERTH_TEST_SLOW", "1"))
START_S = float(os.environ.get("BERTH_TEST_START_S", "60")) * SLOW


class Event:
    """One SSE event or comment: kind is "data", "comment" or an event name; data is text, json parsed or None."""

    def __init__(self, kind, data):
        self.kind, self.data = kind, data

    @property
    def json(self):
        return json.loads(self.data)

    def __repr__(self):
        return f"Event({self.kind!r}, {self.data!r})"


def read_events(resp):
    """Events of a text/event-stream response (an http.client.HTTPResponse) until it ends; UTF-8 must be whole."""
    event, data = None, []
    while True:
        line = resp.readline()
        if not line:
            if data:
                raise AssertionError(f"stream ended inside an event: {data!r}")
            return
        text = line.decode("utf-8").rstrip("\r\n")
        if text == "":
            if data:
                yield Event(event or "data", "\n".join(data))
            event, data = None, []
        elif text.startswith(":"):
            yield Event("comment", text[1:].lstrip())
        elif text.startswith("event:"):
            event = text[6:].strip()
        elif text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))
        else:
            raise AssertionError(f"not an SSE line: {text!r}")


class Refused(AssertionError):
    """A stream that was asked for and not begun; error is OpenAI's object."""

    def __init__(self, status, answer):
        super().__init__(f"status {status}: {answer!r}")
        self.status, self.error = status, json.loads(answer)["error"] if answer[:1] == b"{" else {}


class Client:
    """JSON over HTTP to one port, a connection per call.

    Every answer is held to OpenAI's description where that knows its route (openai_answers.py), errors included."""

    def __init__(self, port, host="127.0.0.1", timeout=60 * SLOW):
        self.host, self.port, self.timeout = host, port, timeout

    def connect(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)

    def is_closed(self):
        """Whether nobody listens there any more, as in a daemon that has heard a signal."""
        try:
            socket.create_connection((self.host, self.port), 5).close()
        except OSError:
            return True
        return False

    def request(self, method, path, body=None, headers=None):
        """(status, headers with lower-case names, body bytes)"""
        c = self.connect()
        try:
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            status, got, answer = r.status, {k.lower(): v for k, v in r.getheaders()}, r.read()
            openai_answers.check_whole(method, path, status, got, answer)
            return status, got, answer
        finally:
            c.close()

    def get(self, path, headers=None):
        """(status, headers, parsed JSON, or text when it is not JSON)"""
        return self._parsed(*self.request("GET", path, None, headers))

    def post(self, path, obj, headers=None):
        h = {"Content-Type": "application/json"}
        h.update(headers or {})
        body = obj if isinstance(obj, (bytes, str)) else json.dumps(obj)
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        return self._parsed(*self.request("POST", path, body, h))

    @staticmethod
    def _parsed(status, headers, body):
        if "json" in headers.get("content-type", ""):
            return status, headers, json.loads(body.decode("utf-8"))
        return status, headers, body.decode("utf-8")

    def stream(self, path, obj, headers=None, comments=False):
        """Yields the events of a streaming answer; another status than 200 raises Refused.  Comments, which come
        whenever nothing else has for a while, are left out but where a test asks for them."""
        c = self.connect()
        try:
            h = {"Content-Type": "application/json"}
            h.update(headers or {})
            c.request("POST", path, body=json.dumps(obj).encode(), headers=h)
            r = c.getresponse()
            if r.status != 200:
                answer = r.read()
                openai_answers.check_whole("POST", path, r.status, {k.lower(): v for k, v in r.getheaders()}, answer)
                raise Refused(r.status, answer)
            if not r.getheader("content-type", "").startswith("text/event-stream"):
                raise AssertionError(f"content type {r.getheader('content-type')!r}")
            checked = openai_answers.Stream(path)
            for e in read_events(r):
                checked.event(e)
                if comments or e.kind != "comment":
                    yield e
            checked.end()
        finally:
            c.close()


class Daemon(Client):
    """`berth serve` (or another program that takes the same flags) on a free port; stopped at the end of `with`."""

    def __init__(self, models_dir=MODELS, args=(), env=None, program=None, timeout=60 * SLOW):
        super().__init__(0, timeout=timeout)
        self.state = tempfile.mkdtemp(prefix="berth-test-")
        self.program = list(program or [BERTH, "serve"])
        self.args = list(args)
        self.env = dict(os.environ)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            self.env.pop(name, None)
        self.env.update(HOME=self.state, XDG_STATE_HOME=os.path.join(self.state, "state"),
                        XDG_DATA_HOME=os.path.join(self.state, "data"),
                        XDG_RUNTIME_DIR=self.state, BERTH_HOST="")
        del self.env["BERTH_HOST"]
        if models_dir:
            self.env["BERTH_MODELS_DIR"] = os.path.abspath(models_dir)
        self.env.update(env or {})
        self.process, self.log = None, []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()
        shutil.rmtree(self.state, ignore_errors=True)

    def start(self):
        ready_r, ready_w = os.pipe()
        cmd = self.program + ["--port", str(self.port), "--ready-fd", str(ready_w)] + self.args
        self.process = subprocess.Popen(cmd, env=self.env, cwd=ROOT, pass_fds=[ready_w], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.close(ready_w)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()
        line = self._ready_line(ready_r)
        if not line.startswith("port="):
            self.process.kill()
            self.process.wait()
            self._reader.join(5)
            self.process.stdout.close()
            self.process = None
            shutil.rmtree(self.state, ignore_errors=True)
            raise RuntimeError(f"{cmd} did not start: {line!r}\n{self.output()}")
        self.port = int(line.split()[0].removeprefix("port="))
        self.pid = self.process.pid

    def _ready_line(self, fd):
        """The line on the ready descriptor, or what there was by the deadline."""
        got = []

        def read():
            with os.fdopen(fd, "rb") as f:
                got.append(f.readline().decode("utf-8", "replace").strip())

        t = threading.Thread(target=read, daemon=True)
        t.start()
        t.join(START_S)
        return got[0] if got else "(nothing in time)"

    def _drain(self):
        for line in self.process.stdout:
            self.log.append(line.decode("utf-8", "replace"))

    def output(self):
        return "".join(self.log)

    def alive(self):
        return self.process.poll() is None

    def stop(self, sig=signal.SIGTERM, timeout=30 * SLOW):
        """Stops the process and returns its exit status (negative: died of that signal)."""
        if self.process is None:
            return None
        if self.alive():
            self.process.send_signal(sig)
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._reader.join(5)
            raise RuntimeError("did not stop in time\n" + self.output()) from None
        self._reader.join(5)
        self.process.stdout.close()
        self.process = None
        return rc


@contextlib.contextmanager
def frozen(pid):
    """The process stands still meanwhile: what a worker has to do is under way however fast the machine is."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def wait_until(check, timeout=30 * SLOW, step=0.02):
    """Polls check() until it is true; returns its last value."""
    end = time.monotonic() + timeout
    while True:
        value = check()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)
