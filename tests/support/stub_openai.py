# SPDX-License-Identifier: Apache-2.0
"""A server that speaks as much of OpenAI's API as `berth bench --vs` asks for, with times that a test chooses."""
import http.server
import json
import threading
import time


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # with five, one that comes in a crowd is asked to come again, a second later


class StubOpenAI:
    """first_s: until the first token; gap_s: between tokens; fail_from: requests from this number on get status 500;
    tokenize, usage: whether it can say these.  bodies, keys, at: what came, and when;
    list_keys: of those who asked for its models."""

    def __init__(self, first_s=0.05, gap_s=0.02, fail_from=None, tokenize=True, usage=True):
        self.first_s, self.gap_s, self.fail_from, self.tokenize, self.usage = first_s, gap_s, fail_from, tokenize, usage
        self.bodies, self.keys, self.list_keys, self.at, self.lock = [], [], [], [], threading.Lock()
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def whole(self, obj, status=200):
                body = json.dumps(obj).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                stub.list_keys.append(self.headers.get("Authorization"))
                self.whole({"object": "list", "data": [{"id": "stub-model", "object": "model"}]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
                if self.path == "/tokenize":
                    if stub.tokenize:
                        return self.whole({"tokens": list(range(100, 140))})
                    return self.whole({"error": {"message": "no such route"}}, 404)
                with stub.lock:
                    number = len(stub.bodies)
                    stub.bodies.append(body)
                    stub.keys.append(self.headers.get("Authorization"))
                    stub.at.append(time.monotonic())
                if stub.fail_from is not None and number >= stub.fail_from:
                    return self.whole({"error": {"message": "the stub has had enough"}}, 500)
                try:
                    self.stream(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def event(self, obj):
                self.wfile.write(b"data: " + (obj if isinstance(obj, bytes) else json.dumps(obj).encode()) + b"\n\n")
                self.wfile.flush()

            def stream(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                for i in range(body["max_tokens"]):
                    time.sleep(stub.gap_s if i else stub.first_s)
                    self.event({"choices": [{"index": 0, "text": " word", "finish_reason": None}]})
                if stub.usage:
                    self.event({"choices": [], "usage": {"prompt_tokens": len(body["prompt"]),
                                                         "completion_tokens": body["max_tokens"]}})
                self.event(b"[DONE]")

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.server.shutdown()
        self.server.server_close()
