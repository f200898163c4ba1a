# SPDX-License-Identifier: Apache-2.0
"""A registry on loopback that misbehaves on order: the distribution API in memory, with token or basic authentication, TLS, redirects and faults.

    with Registry() as r:
        r.fault("GET", r"/blobs/", reset(0.5), times=3)
        ... r.host, r.requests
"""
import base64
import contextlib
import hashlib
import http.server
import json
import os
import re
import secrets
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.parse


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


# ---- faults: called with the handler and the answer (status, headers, body) that it would give ----

def hang_up(h):
    """The connection is reset, not closed."""
    h.close_connection = True
    h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        h.connection.shutdown(socket.SHUT_RDWR) if isinstance(h.connection, ssl.SSLSocket) else None
    h.connection.close()


def reset(part):
    def act(h, status, headers, body):
        h.head(status, headers, len(body))
        h.wfile.write(body[:int(len(body) * part)])
        h.wfile.flush()
        time.sleep(0.05)
        hang_up(h)
    return act


def stall(part, seconds):
    def act(h, status, headers, body):
        h.head(status, headers, len(body))
        h.wfile.write(body[:int(len(body) * part)])
        h.wfile.flush()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not h.server.owner.is_closed:
            time.sleep(0.05)
        hang_up(h)
    return act


def wrong_bytes(h, status, headers, body):
    h.answer(status, headers, body[:-1] + bytes([body[-1] ^ 1]))


def wrong_length(by):
    """Another Content-Length, with as many bytes."""
    def act(h, status, headers, body):
        h.answer(status, headers, body + b"x" * by if by > 0 else body[:by])
    return act


def endless(h, status, headers, body):
    """No length told, and more and more comes."""
    h.send_response(status)
    for k, v in headers.items():
        h.send_header(k, v)
    h.send_header("Connection", "close")
    h.end_headers()
    h.close_connection = True
    with contextlib.suppress(OSError):
        h.wfile.write(body)
        for _ in range(20000):
            h.wfile.write(b"y" * 65536)
            h.server.owner.n_extra += 65536


def wrong_range(h, status, headers, body):
    if "Content-Range" in headers:
        first, rest = headers["Content-Range"].removeprefix("bytes ").split("-", 1)
        headers = {**headers, "Content-Range": f"bytes {int(first) + 1}-{rest}"}
    h.answer(status, headers, body)


def ignore_range(h, status, headers, body):
    blob = h.server.owner.blobs.get(h.path.rsplit("/", 1)[1], body)
    h.answer(200, {k: v for k, v in headers.items() if k != "Content-Range"}, blob)


def refuse(status, **headers):
    def act(h, _status, _headers, _body):
        h.answer(status, {k.replace("_", "-"): v for k, v in headers.items()},
                 json.dumps({"errors": [{"code": "TOOMANYREQUESTS", "message": "slowly"}]}).encode())
    return act


def redirect(url, status=307):
    def act(h, _status, _headers, _body):
        h.answer(status, {"Location": url(h.path) if callable(url) else url}, b"")
    return act


class Fault:
    def __init__(self, method, path, act, times):
        self.method, self.path, self.act, self.times = method, re.compile(path), act, times


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *args):
        pass

    def head(self, status, headers, length):
        self.send_response(status)
        for k, v in headers.items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def answer(self, status, headers, body=b""):
        self.head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle(self):
        with contextlib.suppress(OSError, ValueError):
            super().handle()

    def finish(self):
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def serve(self):
        owner = self.server.owner
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen = {k.lower(): v for k, v in self.headers.items()}
        with owner.lock:
            owner.requests.append((self.command, self.path, seen))
        status, headers, answer = owner.answer(self.command, self.path, seen, body)
        fault = owner.take_fault(self.command, self.path) if status not in (401, 404) else None
        if fault:
            fault.act(self, status, headers, answer)
        else:
            self.answer(status, headers, answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = serve


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


def certificate(folder, names):
    """(certificate, key) of an authority of its own and a server with these names; the authority's certificate is ca.pem."""
    def run(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority",
        "-addext", "basicConstraints=critical,CA:TRUE")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=test")
    with open(os.path.join(folder, "names"), "w") as f:
        f.write("subjectAltName=" + ",".join(names))
    run("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "server.pem", "-days", "2",
        "-extfile", "names")
    return os.path.join(folder, "server.pem"), os.path.join(folder, "server.key")


class Registry:
    """auth: None, "basic" or "token" (user:pass at our own /token); tls: (certificate, key)."""

    USER, PASSWORD = "user", "pass"

    def __init__(self, auth=None, tls=None, realm=None):
        self.auth, self.realm = auth, realm
        self.blobs, self.manifests, self.uploads, self.tokens = {}, {}, {}, set()
        self.requests, self.faults, self.lock = [], [], threading.Lock()
        self.n_extra, self.is_closed, self.chunk_min, self.max_body = 0, False, None, None
        self.refresh_token = None
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.owner = self
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "https" if tls else "http"
        self.port = self.server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{self.scheme}://{self.host}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.is_closed = True
        self.server.shutdown()
        self.server.server_close()

    def fault(self, method, path, act, times=1):
        with self.lock:
            self.faults.append(Fault(method, path, act, times))

    def take_fault(self, method, path):
        """The one that this request meets: requests at once never share the last of its times."""
        with self.lock:
            fault = next((f for f in self.faults if f.times > 0 and f.method == method and f.path.search(path)), None)
            if fault:
                fault.times -= 1
            return fault

    def asked(self, method, path=""):
        """Requests of the method whose path has the pattern."""
        with self.lock:
            return [r for r in self.requests if r[0] == method and re.search(path, r[1])]

    def add_model(self, repo, tag, layers, config=b'{"config":{"format":"gguf"}}', media="application/vnd.docker.ai.gguf.v3"):
        """A model of these layers; returns the manifest's digest."""
        def described(data, kind):
            self.blobs[digest_of(data)] = data
            return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
        manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": described(config, "application/vnd.docker.ai.model.config.v0.1+json"),
                               "layers": [described(x, media) for x in layers]}).encode()
        return self.add_manifest(repo, tag, manifest, "application/vnd.oci.image.manifest.v1+json")

    def add_manifest(self, repo, tag, data, media):
        for ref in (tag, digest_of(data)):
            self.manifests[repo, ref] = (media, data)
        return digest_of(data)

    # ---- answers: (status, headers, body) ----

    def challenge(self, scope):
        if self.auth == "basic":
            return 'Basic realm="here, and \\"there\\""'
        return f'Bearer realm="{self.realm or self.url + "/token"}",service="stand-in",scope="{scope}"'

    def is_allowed(self, headers):
        given = headers.get("authorization", "")
        if self.auth == "basic":
            return given == "Basic " + base64.b64encode(f"{self.USER}:{self.PASSWORD}".encode()).decode()
        return self.auth is None or given.removeprefix("Bearer ") in self.tokens

    def token(self, method, query, headers, body):
        basic = "Basic " + base64.b64encode(f"{self.USER}:{self.PASSWORD}".encode()).decode()
        form = urllib.parse.parse_qs(body.decode()) if method == "POST" else {}
        if not (headers.get("authorization") == basic or
                (self.refresh_token and form.get("refresh_token") == [self.refresh_token] and form.get("grant_type") == ["refresh_token"])):
            return 401, {}, b"{}"
        t = secrets.token_hex(16)
        self.tokens.add(t)
        return 200, {"Content-Type": "application/json"}, json.dumps({"access_token" if method == "POST" else "token": t}).encode()

    def error(self, status, code):
        return status, {"Content-Type": "application/json"}, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()

    def answer(self, method, target, headers, body):
        path, _, query = target.partition("?")
        query = urllib.parse.parse_qs(query)
        if path == "/token":
            return self.token(method, query, headers, body)
        repo = re.match(r"/v2/(.+)/(?:blobs|manifests)/", path)
        if not self.is_allowed(headers):
            name = repo.group(1) if repo else ""
            return 401, {"WWW-Authenticate": self.challenge(f"repository:{name}:pull")}, b'{"errors":[{"code":"UNAUTHORIZED"}]}'
        if self.max_body is not None and len(body) > self.max_body:
            return self.error(413, "SIZE_INVALID")
        if not repo:
            return 200, {}, b"{}"
        if m := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            return self.manifest(method, m.group(1), m.group(2), headers, body)
        if m := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            return self.upload(method, m.group(1), m.group(2), query, headers, body)
        return self.blob(path.rsplit("/", 1)[1], headers)

    def manifest(self, method, repo, ref, headers, body):
        if method == "PUT":
            d = self.add_manifest(repo, ref, body, headers.get("content-type"))
            return 201, {"Docker-Content-Digest": d}, b""
        found = self.manifests.get((repo, ref))
        if not found:
            return self.error(404, "MANIFEST_UNKNOWN")
        return 200, {"Content-Type": found[0], "Docker-Content-Digest": digest_of(found[1])}, found[1]

    def blob(self, digest, headers):
        data = self.blobs.get(digest)
        if data is None:
            return self.error(404, "BLOB_UNKNOWN")
        m = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if not m:
            return 200, {"Content-Type": "application/octet-stream"}, data
        first = int(m.group(1))
        if first >= len(data):
            return 416, {}, b""
        return 206, {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"}, data[first:]

    def upload(self, method, repo, key, query, headers, body):
        if method == "POST":
            mount = query.get("mount", [None])[0]
            if mount in self.blobs and query.get("from"):
                return 201, {"Location": f"/v2/{repo}/blobs/{mount}"}, b""
            key = secrets.token_hex(8)
            self.uploads[key] = b""
            extra = {"OCI-Chunk-Min-Length": str(self.chunk_min)} if self.chunk_min else {}
            return 202, {"Location": f"/v2/{repo}/blobs/uploads/{key}?state=a%2Fb", **extra}, b""
        if key not in self.uploads or query.get("state") != ["a/b"]:
            return self.error(404, "BLOB_UPLOAD_UNKNOWN")
        here = {"Location": f"{self.url}/v2/{repo}/blobs/uploads/{key}?state=a%2Fb"}
        have = self.uploads[key]
        if method == "GET":
            return 204, {**here, "Range": f"0-{len(have) - 1}"}, b""
        if method == "PATCH":
            if headers.get("content-range") != f"{len(have)}-{len(have) + len(body) - 1}":
                return 416, {}, b""
            self.uploads[key] = have + body
            return 202, {**here, "Range": f"0-{len(have) + len(body) - 1}"}, b""
        data = self.uploads.pop(key) + body
        if digest_of(data) != query.get("digest", [""])[0]:
            return self.error(400, "DIGEST_INVALID")
        self.blobs[digest_of(data)] = data
        return 201, {"Location": f"/v2/{repo}/blobs/{digest_of(data)}"}, b""
