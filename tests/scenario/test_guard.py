# SPDX-License-Identifier: Apache-2.0
"""Who may speak to the daemon, and the daemon's life: keys, scopes, hosts, origins, TLS, sockets, service manager, drain."""
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, ROOT, SLOW, Daemon, read_events, wait_until  # noqa: E402

INFER, MANAGE, BOTH = "infer-0123456789abcdef", "manage-0123456789abcdef", "both-0123456789abcdef"
KEYS = f"# for tests\nreader infer {INFER}\nkeeper manage {MANAGE}\nowner infer,manage {BOTH}\n"
ASK = {"model": "stories", "prompt": "Once", "max_tokens": 2}
LONG = {"model": "stories", "prompt": "Once", "max_tokens": 1500, "ignore_eos": True, "stream": True}


def bearer(key):
    return {"Authorization": "Bearer " + key}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def write_keys(path, text=KEYS, mode=0o600):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


class Folder(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="berth-guard-")
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir, True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def daemon(self, *args, env=None):
        d = Daemon(args=args, env=env)
        d.start()
        self.addCleanup(shutil.rmtree, d.state, True)
        self.addCleanup(d.stop)
        return d

    def refused(self, *args, env=None):
        """What a daemon says that must not start."""
        with self.assertRaises(RuntimeError) as caught:
            self.daemon(*args, env=env)
        return str(caught.exception)


class Start(Folder):
    def test_other_machines_need_keys_or_permission(self):
        for host in ("0.0.0.0", "::", "192.0.2.1"):
            said = self.refused("--host", host)
            self.assertIn("--api-keys", said)
            self.assertIn("--insecure", said)
        keys = write_keys(self.path("keys"))
        d = self.daemon("--host", "0.0.0.0", "--api-keys", keys)
        self.assertEqual(d.get("/v1/models")[0], 401)
        self.assertEqual(d.get("/v1/models", {**bearer(INFER), "Host": "10.1.2.3"})[0], 200)
        self.assertEqual(d.get("/readyz", {"Host": "10.1.2.3:12434"})[0], 200)  # a kubelet's probe
        self.assertEqual(d.get("/readyz", {"Host": "berth.example.org"})[0], 403)

    def test_mistakes_are_said(self):
        keys = write_keys(self.path("keys"))
        for args, words in (
                (["--api-keys", self.path("none")], "none"),
                (["--api-keys", write_keys(self.path("open"), mode=0o644)], "chmod 600"),
                (["--api-keys", write_keys(self.path("bad"), "a infer k e y\n")], "line 1"),
                (["--api-keys", write_keys(self.path("empty"), "# none\n")], "no key in it"),
                (["--tls-cert", keys], "--tls-key"), (["--tls-key", keys], "--tls-cert"),
                (["--allowed-origins", "localhost"], "allowed-origins"),
                (["--allowed-hosts", "http://a"], "allowed-hosts")):
            self.assertIn(words, self.refused(*args))


class Keys(Folder):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="berth-guard-")
        keys = write_keys(os.path.join(cls.folder, "keys"))
        cls.log, cls.audit = os.path.join(cls.folder, "log"), os.path.join(cls.folder, "audit")
        cls.d = Daemon(args=["--api-keys", keys, "--log-level", "debug", "--log-file", cls.log, "--audit-log", cls.audit])
        cls.d.start()

    @classmethod
    def tearDownClass(cls):
        cls.d.stop()
        shutil.rmtree(cls.d.state, True)
        shutil.rmtree(cls.folder, True)

    def raw(self, data):
        with socket.create_connection(("127.0.0.1", self.d.port), 30) as s:
            s.sendall(data)
            return b"".join(iter(lambda: s.recv(65536), b""))

    def test_a_key_in_each_header(self):
        for headers in (bearer(INFER), {"Authorization": "bearer  " + INFER}, {"X-Api-Key": INFER}, {"api-key": INFER}):
            self.assertEqual(self.d.get("/v1/models", headers)[0], 200, headers)
            self.assertEqual(self.d.post("/v1/completions", ASK, headers)[0], 200, headers)

    def test_no_key_and_wrong_keys_look_the_same(self):
        time.sleep(1)
        cases = [{}, bearer(""), {"Authorization": "Bearer"}, bearer("x"), bearer(INFER[:-1]), bearer(INFER + "x"), bearer("k" * 10000),
                 {"Authorization": INFER}, {"Authorization": "Basic " + INFER}, {"X-Api-Key": ""}, {"api-key": "x"}]
        want = None
        for headers in cases:
            time.sleep(0.11)  # as fast as wrong keys are forgiven
            status, got, body = self.d.get("/v1/models", headers)
            self.assertEqual((status, got["www-authenticate"]), (401, 'Bearer realm="berth"'), headers)
            self.assertEqual(body["error"]["code"], "invalid_api_key")
            want = want or body
            self.assertEqual(body, want)
        for query in ("key", "api_key", "api-key", "access_token", "Authorization"):
            time.sleep(0.11)
            self.assertEqual(self.d.get(f"/v1/models?{query}={BOTH}")[0], 401)

    def test_two_authorizations_and_bytes_of_no_header(self):
        head = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        two = b"Authorization: Bearer " + BOTH.encode() + b"\r\n"
        self.assertIn(b"HTTP/1.1 200", self.raw(head + two + b"\r\n"))
        self.assertIn(b"HTTP/1.1 401", self.raw(head + two + two + b"\r\n"))
        self.assertIn(b"HTTP/1.1 401", self.raw(head + b"Authorization: Bearer x\r\n" + two + b"\r\n"))
        self.assertIn(b"HTTP/1.1 400", self.raw(head + b"Authorization: Bearer " + BOTH.encode() + b"\0\r\n\r\n"))

    def test_every_route_asks_for_its_scope(self):
        table = read(os.path.join(ROOT, "src/daemon/api/route.def"))
        routes = re.findall(r'^ROUTE\("(\w+)", "([^"]+)", (\w+),', table, re.M)
        self.assertGreater(len(routes), 15)
        for method, path, scope in routes:
            path = path.replace("*", "stories")
            if path.endswith("/shutdown") or path == "/logs":
                continue  # the one would work with the right key; the other goes on

            def ask(headers):
                status, got, body = self.d.request(method, path, b"{}" if method != "GET" else None,
                                                   {"Content-Type": "application/json", **headers})
                return status
            with self.subTest(method=method, path=path, scope=scope):
                if scope == "PUBLIC":
                    self.assertNotIn(ask({}), (401, 403))
                    continue
                time.sleep(0.11)
                self.assertEqual(ask({}), 401)
                right, wrong = (INFER, MANAGE) if scope == "INFER" else (MANAGE, INFER)
                self.assertEqual(ask(bearer(wrong)), 403)
                self.assertNotIn(ask(bearer(right)), (401, 403))
                self.assertNotIn(ask(bearer(BOTH)), (401, 403))
        status, _, body = self.d.post("/berth/v1/shutdown", {}, bearer(INFER))
        self.assertEqual((status, body["error"]["code"]), (403, "forbidden"))
        self.assertIn("reader", body["error"]["message"])
        self.assertIn("manage", body["error"]["message"])
        for prefix in ("/engines/v1/models", "/engines/llama.cpp/v1/models", "/v1//models", "/v1/%6dodels"):
            time.sleep(0.11)
            self.assertEqual(self.d.get(prefix)[0], 401, prefix)

    def test_guessing_is_slowed_and_good_keys_are_not(self):
        statuses, start = [], time.monotonic()
        for i in range(200):
            statuses.append(self.d.get("/v1/models", bearer(f"guess-{i}"))[0])
            if i % 20 == 0:
                self.assertEqual(self.d.get("/v1/models", bearer(INFER))[0], 200)
        took = time.monotonic() - start
        self.assertLessEqual(set(statuses), {401, 429})
        self.assertLessEqual(statuses.count(401), 20 + took / 0.1 + 1)  # so many at once, and then one every 100 ms
        status, headers, body = self.d.get("/v1/models", bearer("guess"))
        if status == 429:
            self.assertEqual((headers["retry-after"], body["error"]["type"]), ("1", "rate_limit_error"))
        time.sleep(1)
        self.assertEqual(self.d.get("/v1/models", bearer("guess"))[0], 401)

    def test_nothing_secret_is_told(self):
        ask = {**ASK, "prompt": "prompt-mark-7261 was here"}
        self.assertEqual(self.d.post("/v1/completions", ask, {**bearer(BOTH), "x-mark": "header-mark-42"})[0], 200)
        self.d.post("/v1/completions", b'{"model": "stories", "prompt": "prompt-mark-7261", ', bearer(BOTH))
        self.d.post("/v1/completions", ask, bearer("wrong-key-mark-9917"))
        self.d.get(f"/v1/models?api_key={BOTH}&q=query-mark-8", bearer(BOTH))
        self.d.post("/berth/v1/register", {"path": "/nowhere/path-mark-1928.gguf"}, bearer(BOTH))
        _, _, metrics = self.d.get("/metrics", bearer(BOTH))
        _, _, status = self.d.get("/berth/v1/status", bearer(BOTH))
        told = {"metrics": metrics, "status": json.dumps(status), "ps": read(f"/proc/{self.d.pid}/cmdline"),
                "output": self.d.output()}
        for name, path in (("log", self.log), ("audit", self.audit)):
            self.assertTrue(wait_until(lambda p=path: os.path.getsize(p) > 0))
            self.assertEqual(os.stat(path).st_mode & 0o077, 0, name)
            told[name] = read(path)
        self.assertIn("owner", told["audit"])
        marks = (INFER, MANAGE, BOTH, "prompt-mark", "header-mark", "wrong-key-mark", "query-mark", "Bearer")
        for name, text in told.items():
            for mark in marks:
                self.assertNotIn(mark, text, name)
        self.assertRegex(read(f"/proc/{self.d.pid}/limits"), r"Max core file size +0 +0 ")
        if os.geteuid() != 0:  # root may read everybody's
            self.assertRaises(PermissionError, os.listdir, f"/proc/{self.d.pid}/fd")

    def test_usage_is_counted_by_name(self):
        self.assertEqual(self.d.post("/v1/completions", ASK, bearer(BOTH))[0], 200)
        self.assertTrue(wait_until(lambda: '"owner"' in read(self.audit)))
        self.assertEqual(self.d.get("/berth/v1/keys", bearer(INFER))[0], 403)
        status, _, body = self.d.get("/berth/v1/keys", bearer(MANAGE))
        self.assertEqual(status, 200)
        use = {k["name"]: k for k in body["keys"]}
        self.assertEqual(list(use), ["reader", "keeper", "owner"])
        self.assertEqual(use["owner"]["scopes"], ["infer", "manage"])
        self.assertGreaterEqual(use["owner"]["generated_tokens"], 2)
        env = {**os.environ, "BERTH_API_KEY": MANAGE}
        said = subprocess.run([BERTH, "keys", "--port", str(self.d.port)], env=env, capture_output=True, text=True, timeout=60)
        self.assertRegex(said.stdout, r"owner +infer,manage +\d+ ")
        self.assertNotIn(BOTH, said.stdout)


class Pages(Folder):
    def test_lists(self):
        d = self.daemon("--allowed-hosts", "models.example.org, 192.0.2.7", "--allowed-origins",
                        "https://chat.example.org,http://app:*")
        for host, status in (("models.example.org:8443", 200), ("192.0.2.7", 200), ("localhost", 200), ("evil.com", 403),
                             ("localhost.evil.com", 403), ("x.models.example.org", 403), ("192.0.2.8", 403), ("0.0.0.0", 403)):
            self.assertEqual(d.get("/v1/models", {"Host": host})[0], status, host)
        for origin, status in (("https://chat.example.org", 200), ("http://app:3000", 200), ("http://localhost:99", 200),
                               ("http://chat.example.org", 403), ("https://evil.com", 403), ("null", 403), ("https://app:1", 403)):
            got, headers, _ = d.get("/v1/models", {"Origin": origin})
            self.assertEqual(got, status, origin)
            self.assertEqual(headers.get("access-control-allow-origin"), origin if status == 200 else None)
            self.assertEqual("access-control-allow-credentials" in headers, status == 200 and "localhost" not in origin)
            self.assertEqual("x-request-id" in headers.get("access-control-expose-headers", ""), status == 200)
        for site, status in (("cross-site", 403), ("same-origin", 200), ("same-site", 200), ("none", 200)):
            self.assertEqual(d.get("/v1/models", {"Sec-Fetch-Site": site})[0], status, site)
        self.assertEqual(d.get("/v1/models", {"Sec-Fetch-Site": "cross-site", "Origin": "https://chat.example.org"})[0], 200)
        for kind in ("text/plain", "text/plain;charset=UTF-8", "multipart/form-data; boundary=b", "application/x-www-form-urlencoded"):
            self.assertEqual(d.post("/v1/completions", ASK, {"Content-Type": kind, "Origin": "http://app:1"})[0], 415, kind)

    def preflight(self, d, origin, names, extra=None):
        return d.request("OPTIONS", "/v1/chat/completions", None, {
            "Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": names, **(extra or {})})

    def test_preflights(self):
        d = self.daemon("--allowed-origins", "https://chat.example.org", "--api-keys", write_keys(self.path("keys")))
        names = "authorization,content-type,openai-beta,x-stainless-os"
        status, headers, _ = self.preflight(d, "https://chat.example.org", names, {"Access-Control-Request-Private-Network": "true"})
        self.assertEqual((status, headers["access-control-allow-headers"]), (204, names))
        self.assertEqual(headers["access-control-allow-methods"], "GET, POST, DELETE, OPTIONS")
        self.assertEqual(headers["access-control-allow-private-network"], "true")
        self.assertEqual(headers["vary"], "Origin")
        _, headers, _ = self.preflight(d, "https://chat.example.org", 'ok, b@d, "x", fine')
        self.assertEqual(headers["access-control-allow-headers"], "ok,fine")
        self.assertEqual(self.preflight(d, "https://evil.com", names)[0], 403)
        status, headers, _ = d.get("/v1/models", {"Origin": "https://chat.example.org"})
        self.assertEqual((status, headers["access-control-allow-origin"]), (401, "https://chat.example.org"))

    def test_everybody(self):
        d = self.daemon("--allowed-origins", "*")
        for origin in ("https://evil.com", "null"):
            status, headers, _ = d.get("/v1/models", {"Origin": origin})
            self.assertEqual((status, headers["access-control-allow-origin"]), (200, "*"))
            self.assertNotIn("access-control-allow-credentials", headers)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


def ask_unix(path, target, headers=None):
    c = UnixConnection(path)
    try:
        c.request("GET", target, headers=headers or {})
        return c.getresponse().status
    finally:
        c.close()


def ask_unix_as(uid, path, target, key=""):
    """The status that another user gets, or the word for why there was none."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b"broken"
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            said = str(ask_unix(path, target, {"X-Api-Key": key} if key else None)).encode()
        except PermissionError:
            said = b"denied"
        finally:
            os.write(w, said)
            os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        said = f.read().decode()
    os.waitpid(pid, 0)
    return said


def start_activated(test, sockets, *args, extra_env=""):
    """A daemon that gets listening sockets from 3 on, as systemd passes them; (process, its output so far)."""
    high = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in sockets]

    def arrange():
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)
    state = tempfile.mkdtemp(prefix="berth-guard-")
    test.addCleanup(shutil.rmtree, state, True)
    env = {"PATH": os.environ["PATH"], "HOME": state, "BERTH_MODELS_DIR": os.path.join(ROOT, "models"),
           **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
    p = subprocess.Popen(["sh", "-c", f'{extra_env} LISTEN_FDS={len(sockets)} LISTEN_PID=$$ exec "$0" serve "$@"', BERTH, *args],
                         env=env, close_fds=False, preexec_fn=arrange, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    for fd in high:
        os.close(fd)
    test.addCleanup(p.stdout.close)
    test.addCleanup(p.wait)
    test.addCleanup(p.kill)
    return p, p.stdout.readline().decode()


class Sockets(Folder):
    def test_unix_socket_of_the_same_user(self):
        path = self.path("berth.sock")
        d = self.daemon("--socket", path, "--api-keys", write_keys(self.path("keys")))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        self.assertEqual(ask_unix(path, "/v1/models"), 200)
        self.assertEqual(ask_unix(path, "/v1/models", {"Host": "whatever"}), 200)
        self.assertEqual(ask_unix(path, "/v1/models", {"Origin": "https://evil.com"}), 403)
        self.assertEqual(d.get("/v1/models")[0], 401)
        if os.geteuid() == 0:
            self.assertEqual(ask_unix_as(65534, path, "/v1/models"), "denied")
        self.assertEqual(d.stop(), 0)
        self.assertFalse(os.path.exists(path))

    @unittest.skipIf(os.geteuid() != 0, "only root can be another user")
    def test_unix_socket_of_other_users(self):
        path = self.path("open.sock")
        for keys in (None, write_keys(self.path("keys"))):
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(path)
                os.chmod(path, 0o666)
                s.listen()
                p, said = start_activated(self, [s], *(["--api-keys", keys] if keys else []))
                self.assertIn("descriptor 3", said)
                self.assertEqual(ask_unix(path, "/v1/models"), 200)
                self.assertEqual(ask_unix_as(65534, path, "/livez"), "200")
                self.assertEqual(ask_unix_as(65534, path, "/v1/models"), "401" if keys else "403")
                self.assertEqual(ask_unix_as(65534, path, "/v1/models", INFER), "200" if keys else "403")
                p.terminate()
                self.assertEqual(p.wait(60), 0)
            os.unlink(path)

    def test_activation(self):
        with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as local:
            path = self.path("a.sock")
            local.bind(path)
            local.listen()
            p, said = start_activated(self, [tcp, local], "--port", "1")  # the port does not count
            self.assertIn("listens on", said)
            port = tcp.getsockname()[1]
            c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            c.request("GET", "/v1/models")
            self.assertEqual(c.getresponse().status, 200)
            self.assertEqual(ask_unix(path, "/v1/models"), 200)
            c.close()
            p.terminate()
            self.assertEqual(p.wait(60), 0)
            # ours to close, not to remove: the next one goes on with them
            p, _ = start_activated(self, [tcp, local])
            self.assertEqual(ask_unix(path, "/livez"), 200)

    def test_activation_does_not_open_what_would_be_refused(self):
        with socket.create_server(("0.0.0.0", 0)) as tcp:
            _, said = start_activated(self, [tcp])
            self.assertIn("--insecure", said)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            _, said = start_activated(self, [s])
            self.assertIn("not a listening stream socket", said)


@unittest.skipIf(shutil.which("openssl") is None, "no openssl command to make certificates with")
class Tls(Folder):
    def make(self, name, ca):
        """A certificate for localhost, signed by a new authority; paths of both and the key."""
        def openssl(*args):
            subprocess.run(["openssl", *args], cwd=self.dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", "-x509", *ec, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "2", "-subj", f"/CN={ca}",
                "-addext", "basicConstraints=critical,CA:TRUE")
        openssl("req", *ec, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        with open(self.path("ext"), "w", encoding="ascii") as f:
            f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-out", f"{name}.pem", "-days", "2",
                "-extfile", "ext", "-CAcreateserial")

    def get(self, port, ca, headers=None):
        context = ssl.create_default_context(cafile=self.path(ca + ".pem"))
        c = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
        try:
            c.request("GET", "/v1/models", headers=headers or {})
            return c.getresponse().status
        finally:
            c.close()

    def test_certificate_and_reload(self):
        self.make("one", "ca1")
        self.make("two", "ca2")
        for kind in ("pem", "key"):
            shutil.copy(self.path("one." + kind), self.path("live." + kind))
        d = self.daemon("--tls-cert", self.path("live.pem"), "--tls-key", self.path("live.key"),
                        "--api-keys", write_keys(self.path("keys")))
        self.assertTrue(wait_until(lambda: "https://" in d.output()))
        self.assertEqual(self.get(d.port, "ca1", bearer(INFER)), 200)
        self.assertEqual(self.get(d.port, "ca1"), 401)
        self.assertRaises(ssl.SSLCertVerificationError, self.get, d.port, "ca2")
        status, headers, answer = d.get("/v1/models", bearer(INFER))  # plain HTTP on that port
        self.assertEqual((status, headers["connection"]), (400, "close"))
        self.assertIn("https://", answer["error"]["message"])

        def reload(said):
            before = d.output().count("reloaded, told by SIGHUP")
            os.kill(d.pid, signal.SIGHUP)
            self.assertTrue(wait_until(lambda: d.output().count("reloaded, told by SIGHUP") > before))
            self.assertIn(said, d.output())
        with open(self.path("live.pem"), "w", encoding="ascii") as f:
            f.write("not a certificate\n")
        reload("the certificate stays as it was")
        self.assertEqual(self.get(d.port, "ca1", bearer(INFER)), 200)
        for kind in ("pem", "key"):
            shutil.copy(self.path("two." + kind), self.path("live." + kind))
        reload("read the certificate again")
        self.assertEqual(self.get(d.port, "ca2", bearer(INFER)), 200)
        self.assertRaises(ssl.SSLCertVerificationError, self.get, d.port, "ca1")

    def test_a_key_of_another_certificate_is_refused(self):
        self.make("one", "ca1")
        self.make("two", "ca2")
        self.refused("--tls-cert", self.path("one.pem"), "--tls-key", self.path("two.key"))


class Reload(Folder):
    def test_keys(self):
        path = write_keys(self.path("keys"))
        d = self.daemon("--api-keys", path)
        n = 0

        def reload():
            nonlocal n
            n += 1
            os.kill(d.pid, signal.SIGHUP)
            self.assertTrue(wait_until(lambda: d.output().count("reloaded, told by SIGHUP") == n))
        self.assertEqual(d.get("/v1/models", bearer(INFER))[0], 200)
        write_keys(path, "reader infer another-0123456789abcdef\n")
        self.assertEqual(d.get("/v1/models", bearer(INFER))[0], 200)
        reload()
        self.assertEqual(d.get("/v1/models", bearer(INFER))[0], 401)
        self.assertEqual(d.get("/v1/models", bearer("another-0123456789abcdef"))[0], 200)
        for text, mode in (("reader infer\n", 0o600), ("", 0o600), (KEYS, 0o644)):
            write_keys(path, text, mode)
            reload()
            self.assertEqual(d.get("/v1/models", bearer("another-0123456789abcdef"))[0], 200)
        os.unlink(path)
        reload()
        self.assertEqual(d.output().count("the keys stay as they were"), 4)
        self.assertEqual(d.get("/v1/models", bearer("another-0123456789abcdef"))[0], 200)
        self.assertEqual(d.stop(), 0)

    def test_log_files(self):
        log, audit = self.path("log"), self.path("audit")
        d = self.daemon("--log-file", log, "--audit-log", audit)
        for p in (log, audit):
            os.rename(p, p + ".old")
        os.kill(d.pid, signal.SIGHUP)
        self.assertTrue(wait_until(lambda: os.path.exists(log) and "reloaded" in read(log)))
        self.assertEqual(d.post("/v1/completions", ASK)[0], 200)
        self.assertTrue(wait_until(lambda: os.path.exists(audit) and os.path.getsize(audit) > 0))


class Manager(Folder):
    """A service manager that listens."""

    def test_notify(self):
        path = self.path("notify")
        heard, found = [], threading.Condition()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            s.settimeout(60)

            def listen():
                while True:
                    try:
                        text = s.recv(4096).decode()
                    except OSError:
                        return
                    with found:
                        heard.append(text)
                        found.notify_all()
                    if text == "end":
                        return
            t = threading.Thread(target=listen)
            t.start()

            def expect(word, n=1):
                with found:
                    self.assertTrue(found.wait_for(lambda: sum(word in h.split("\n") for h in heard) >= n, 30), (word, heard))
            try:
                d = self.daemon(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "600000"})
                expect("READY=1")
                expect("WATCHDOG=1", 3)
                os.kill(d.pid, signal.SIGHUP)
                expect("RELOADING=1")
                expect("READY=1", 2)
                self.assertEqual(d.stop(), 0)
                expect("STOPPING=1")
            finally:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                    end.sendto(b"end", path)
                t.join()
        self.assertTrue(heard[0].startswith("READY=1\n"))
        self.assertTrue(any("MONOTONIC_USEC=" in h for h in heard))
        self.assertTrue(any("EXTEND_TIMEOUT_USEC=" in h for h in heard))


def probe(d, path):
    c = d.connect()
    try:
        c.request("GET", path)
        return c.getresponse().status
    finally:
        c.close()


class Stream:
    """A streamed answer that is read in the background."""

    def __init__(self, d, body=None):
        self.events, self.error, self.refusal = [], None, None
        self.c = d.connect()
        self.c.request("POST", "/v1/completions", body=json.dumps(body or LONG).encode(), headers={"Content-Type": "application/json"})
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        try:
            self.response = self.c.getresponse()
            if self.response.status != 200:
                self.refusal = (self.response.status, self.response.read().decode())
                return
            self.events.extend(e for e in read_events(self.response) if e.kind != "comment")
        except Exception as e:  # noqa: BLE001: told by the test
            self.error = e

    def end(self):
        self.thread.join(120)
        self.c.close()
        return self.events[-1] if self.events else None


class Drain(Folder):
    def begin(self, *args, n=1, n_waiting=0, body=None):
        """A daemon with n streams under way, and others that wait for them."""
        d = self.daemon(*args)
        streams = [Stream(d, body) for _ in range(n + n_waiting)]
        self.assertTrue(wait_until(lambda: sum(len(s.events) > 2 for s in streams) >= n, 60 * SLOW))
        return d, streams

    def test_running_answers_end_whole(self):
        d, streams = self.begin("--drain-timeout", "10m", n=4)
        os.kill(d.pid, signal.SIGTERM)
        self.assertTrue(wait_until(d.is_closed))
        self.assertEqual(d.stop(sig=0, timeout=60 * SLOW), 0)
        for s in streams:
            self.assertEqual((s.end().data, s.error), ("[DONE]", None))
            self.assertEqual(s.events[-2].json["choices"][0]["finish_reason"], "length")

    def test_what_is_left_gets_an_error(self):
        d, streams = self.begin("--drain-timeout", "0", "--max-num-seqs", "4", n_waiting=7, body={**LONG, "n": 128})
        os.kill(d.pid, signal.SIGTERM)
        self.assertEqual(d.stop(sig=0, timeout=120), 0)
        n_failed = 0
        for s in streams:
            last = s.end()
            self.assertIsNone(s.error)
            if s.refusal:
                n_failed += 1
                self.assertIn("stopping", s.refusal[1])
            elif last.data != "[DONE]" or "error" in s.events[-2].data:
                n_failed += 1
                self.assertTrue(any("stopping" in e.data for e in s.events[-2:]), s.events[-2:])
        self.assertGreater(n_failed, 0)

    def test_a_balancer_is_told_first(self):
        d = self.daemon("--drain-delay", "2")
        self.assertEqual(probe(d, "/readyz"), 200)
        begin = time.monotonic()
        os.kill(d.pid, signal.SIGTERM)
        self.assertTrue(wait_until(lambda: probe(d, "/readyz") == 503))
        self.assertEqual(probe(d, "/livez"), 200)
        self.assertEqual(d.post("/v1/completions", ASK)[0], 200)
        self.assertEqual(d.stop(sig=0, timeout=60), 0)
        self.assertGreater(time.monotonic() - begin, 1.9)

    def test_a_second_signal_is_at_once(self):
        d, streams = self.begin("--drain-delay", "600", "--drain-timeout", "600", n=2)
        os.kill(d.pid, signal.SIGTERM)
        self.assertTrue(wait_until(lambda: probe(d, "/readyz") == 503))
        os.kill(d.pid, signal.SIGINT)
        self.assertEqual(d.stop(sig=0, timeout=60), 0)
        self.assertIn("at once", d.output())
        for s in streams:
            s.end()

    def test_signals_at_any_time(self):
        for delay in (0, 0.005, 0.01, 0.02, 0.05):
            p = subprocess.Popen([BERTH, "serve", "--port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 env={**os.environ, "HOME": self.dir})
            time.sleep(delay * SLOW)
            p.send_signal(signal.SIGTERM)
            self.assertIn(p.wait(60), (0, -signal.SIGTERM))  # the latter before it has read its options
        d = self.daemon()
        c = d.connect()
        c.request("POST", "/berth/v1/load", b'{"model":"stories"}', {"Content-Type": "application/json"})
        os.kill(d.pid, signal.SIGHUP)
        self.assertEqual(d.stop(), 0)
        c.close()

    def test_idle_connections_do_not_hold_it_up(self):
        d = self.daemon()
        idle = [socket.create_connection(("127.0.0.1", d.port)) for _ in range(20)]
        idle[0].sendall(b"GET /livez HTTP/1.1\r\n")
        begin = time.monotonic()
        self.assertEqual(d.stop(), 0)
        self.assertLess(time.monotonic() - begin, 20 * SLOW)
        for s in idle:
            s.close()


class Terminal(Folder):
    def start(self, *prefix):
        """A daemon whose controlling terminal is a new one; (process id, master)."""
        try:
            master, slave = os.openpty()
        except OSError as e:
            self.skipTest(f"no pseudo-terminal here: {e}")
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
                for fd in (0, 1, 2):
                    os.dup2(slave, fd)
                os.set_inheritable(w, True)
                os.chdir(self.dir)  # nohup writes there
                signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup themselves
                argv = [*prefix, BERTH, "serve", "--port", "0", "--ready-fd", str(w)]
                os.execvpe(argv[0], argv, {**os.environ, "HOME": self.dir})
            finally:
                os._exit(99)
        os.close(slave)
        os.close(w)
        with os.fdopen(r, "rb") as f:
            self.assertTrue(f.readline().startswith(b"port="))
        return pid, master

    def test_ends_with_its_terminal(self):
        pid, master = self.start()
        os.kill(pid, signal.SIGHUP)  # of somebody who wants a reload
        wait_until(lambda: b"reloaded" in os.read(master, 4096))
        os.close(master)
        self.assertTrue(wait_until(lambda: os.waitpid(pid, os.WNOHANG)[0], 60))

    def test_outlives_it_under_nohup(self):
        pid, master = self.start("nohup")
        os.close(master)
        time.sleep(0.3)
        self.assertEqual(os.waitpid(pid, os.WNOHANG)[0], 0)
        os.kill(pid, signal.SIGTERM)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)


if __name__ == "__main__":
    unittest.main()
