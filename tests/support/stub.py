# SPDX-License-Identifier: Apache-2.0
"""What the stand-ins of a server share (manager_stub.py, stub_openai.py, stub_server.py): answers in JSON and as events, and
the server's life.

    class MyStub(Stub):
        def __init__(self):
            class Handler(StubHandler): ...
            super().__init__(Handler)

    with MyStub() as s: ... s.port, s.url
"""
import http.server
import json
import threading


class StubHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self):
        """The request's, whole."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while n := int(self.rfile.readline(), 16):
                data += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def whole(self, obj, status=200):
        body = json.dumps(obj).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, kind="text/event-stream"):
        """An answer without a length, which ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, obj):
        self.wfile.write(b"data: " + (obj if isinstance(obj, bytes) else json.dumps(obj).encode()) + b"\n\n")
        self.wfile.flush()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # with five, one that comes in a crowd is asked to come again, a second later

    def handle_error(self, request, client_address):
        self.stub.left.set()


class Stub:
    """left: set once a client has gone in mid-answer."""

    def __init__(self, handler):
        self.left = threading.Event()
        self.server = Server(("127.0.0.1", 0), handler)
        self.server.stub = self
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
