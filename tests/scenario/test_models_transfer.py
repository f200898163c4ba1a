#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pull and push through the daemon's API against a registry that misbehaves on order: progress in its shapes, refusals before
the first byte, joining, leaving, stopping."""
import html
import json
import os
import signal
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import model_tar  # noqa: E402
import registry_server as rs  # noqa: E402
from berth_test import MODELS, SLOW, Daemon, wait_until  # noqa: E402
from registry_case import noise  # noqa: E402

JSON = {"Content-Type": "application/json", "Accept": "application/json"}
SIZE = 3_000_001


class TransferCase(unittest.TestCase):
    def setUp(self):
        self.r = rs.Registry().__enter__()
        self.addCleanup(self.r.__exit__, None, None, None)
        self.d = Daemon(models_dir="/nonexistent-models", timeout=60 * SLOW).__enter__()
        self.addCleanup(self.d.__exit__, None, None, None)
        self.data = noise(SIZE)
        self.layer = rs.digest_of(self.data)
        self.digest = self.r.add_model("ai/x", "v1", [self.data])
        self.ref = f"{self.r.host}/ai/x:v1"

    def lines(self, path, body, headers=JSON, status=200):
        got, h, data = self.d.request("POST", path, json.dumps(body).encode(), headers)
        self.assertEqual(got, status, data)
        return [json.loads(x) for x in data.decode().splitlines()]

    def names(self):
        return {t: m["id"] for m in self.d.get("/models")[2] for t in m.get("tags", [])}

    def clean(self):
        self.assertEqual(self.lines("/berth/v1/verify", {})[-1]["findings"], 0)

    def gets(self):
        return len(self.r.asked("GET", self.layer))


class Pull(TransferCase):
    def test_as_docker_asks(self):
        lines = self.lines("/models/create", {"from": self.ref, "unknown": [1]})
        for x in lines:
            self.assertEqual(sorted(x), ["layer", "message", "mode", "total", "type"])
            self.assertEqual(x["mode"], "pull")
            self.assertLessEqual(set(x["layer"]), {"id", "size", "current"})
        self.assertEqual((lines[-1]["type"], lines[-1]["message"], lines[-1]["total"], lines[-1]["layer"]),
                         ("success", "Model pulled successfully", 0, {"size": 0, "current": 0}))
        moving = [x for x in lines if x["type"] == "progress" and x["layer"].get("id") == self.layer]
        self.assertTrue(moving, lines)
        self.assertEqual(moving[-1]["layer"], {"id": self.layer, "size": SIZE, "current": SIZE})
        self.assertTrue(all(x["message"].startswith("Downloaded: ") for x in moving))
        self.assertEqual(self.names(), {self.ref: self.digest})
        again = self.lines("/models/create", {"from": self.ref})
        self.assertEqual((again[-1]["type"], again[-1]["message"]), ("success", "Using cached model: 3.00MB"))
        self.assertEqual(self.gets(), 1)
        self.clean()

    def test_text_for_clients_that_do_not_ask_for_json(self):
        for accept in (None, "*/*", "application/json, text/plain"):
            headers = {"Content-Type": "application/json", **({"Accept": accept} if accept else {})}
            status, h, data = self.d.request("POST", "/models/create", json.dumps({"from": self.ref}).encode(), headers)
            self.assertEqual((status, h["content-type"]), (200, "text/plain; charset=utf-8"))
            text = data.decode()
            self.assertNotIn('"', text)
            self.assertEqual(json.loads(html.unescape(text.splitlines()[-1]))["type"], "success")

    def test_our_own_has_more(self):
        last = self.lines("/berth/v1/pull", {"model": self.ref})[-1]
        self.assertEqual((last["type"], last["id"], last["name"], last["done"] >= SIZE), ("success", self.digest, self.ref, True))
        self.assertTrue(self.lines("/berth/v1/pull", {"model": self.ref})[-1]["cached"])

    def test_by_digest(self):
        self.lines("/models/create", {"from": f"{self.r.host}/ai/x@{self.digest}"})
        self.assertEqual([(m["id"], m.get("tags")) for m in self.d.get("/models")[2]], [(self.digest, None)])

    def test_refused_before_the_first_byte(self):
        for ref, status in ((f"{self.r.host}/ai/nobody:v1", 404), (f"{self.r.host}/ai/x@sha256:{'0' * 64}", 404)):
            got, _, body = self.d.post("/models/create", {"from": ref})
            self.assertEqual(got, status, body)
            got, h, data = self.d.connect(), None, None
            got.request("POST", "/models/create", json.dumps({"from": ref}), {"User-Agent": "docker-model-cli/v1"})
            answer = got.getresponse()
            self.assertEqual((answer.status, answer.getheader("content-type")), (status, "text/plain; charset=utf-8"))
            got.close()
        self.assertEqual(self.d.get("/models")[2], [])

    def test_inference_after_a_pull(self):
        with open(os.path.join(MODELS, "stories-chat.gguf"), "rb") as f:
            model = f.read()
        self.r.add_model("ai/stories", "latest", [model])
        ref = f"{self.r.host}/ai/stories"
        self.assertEqual(self.d.post("/v1/completions", {"model": ref, "prompt": "Once", "max_tokens": 1})[0], 404)
        self.lines("/models/create", {"from": ref})
        status, _, body = self.d.post("/v1/completions", {"model": ref, "prompt": "Once", "max_tokens": 1})
        self.assertEqual(status, 200, body)

    def test_error_in_the_middle(self):
        self.r.fault("GET", self.layer, rs.wrong_bytes, times=1000)
        lines = self.lines("/models/create", {"from": self.ref})
        self.assertEqual((lines[-1]["type"], lines[0]["type"]), ("error", "progress"))
        self.assertTrue(lines[-1]["message"].startswith("Error: "), lines[-1])
        self.assertEqual(self.d.get("/models")[2], [])
        self.clean()

    def ask(self, body, path="/models/create"):
        s = socket.create_connection(("127.0.0.1", self.d.port), timeout=60 * SLOW)
        text = json.dumps(body).encode()
        s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
                  b"Content-Length: %d\r\n\r\n" % (path.encode(), len(text)) + text)
        return s

    def test_two_join_and_the_last_to_leave_stops_it(self):
        def open_requests(n):
            return wait_until(lambda: f"\nberth_http_requests_open {n + 1}\n" in self.d.get("/metrics")[2])  # and this one
        self.r.fault("GET", self.layer, rs.stall(0.5, 20 * SLOW), times=1)
        first, second = self.ask({"from": self.ref}), self.ask({"from": self.ref})
        self.assertTrue(wait_until(lambda: self.gets() == 1))
        self.assertTrue(open_requests(2))
        first.close()
        self.assertTrue(open_requests(1))
        self.assertEqual(self.d.get("/metrics")[2].count("\nberth_jobs_running 1\n"), 1)
        second.close()
        self.assertTrue(wait_until(lambda: "\nberth_jobs_running 0\n" in self.d.get("/metrics")[2]))
        self.assertIn('berth_store_operations_total{operation="pull",code="cancelled"} 1', self.d.get("/metrics")[2])
        self.assertEqual(self.d.get("/models")[2], [])
        self.lines("/models/create", {"from": self.ref})  # goes on from there
        ranges = [x[2].get("range") for x in self.r.asked("GET", self.layer)]
        self.assertTrue(ranges[-1] and ranges[-1].startswith("bytes="), ranges)
        self.clean()

    def test_both_of_two_hear_the_end(self):
        self.r.fault("GET", self.layer, rs.stall(0.5, 0.5), times=1)
        got = []

        def pull():
            got.append(self.lines("/models/create", {"from": self.ref})[-1]["type"])

        threads = [threading.Thread(target=pull) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(got, ["success"] * 3)
        self.assertEqual(self.names(), {self.ref: self.digest})

    def test_two_models_at_once_share_a_layer(self):
        """The second model's pull waits for the layer that the first one's brings; it comes once."""
        self.r.add_model("ai/y", "v1", [self.data], config=b'{"config":{"format":"gguf","size":"1"}}')
        other, go = f"{self.r.host}/ai/y:v1", threading.Event()

        def half_then_wait(h, status, headers, body):
            h.head(status, headers, len(body))
            h.wfile.write(body[:SIZE // 2])
            h.wfile.flush()
            go.wait(20 * SLOW)
            h.wfile.write(body[SIZE // 2:])
        self.r.fault("GET", self.layer, half_then_wait)
        first = self.ask({"from": self.ref})
        self.assertTrue(wait_until(lambda: self.gets() == 1))
        second = self.ask({"from": other})
        self.assertTrue(wait_until(lambda: self.r.asked("GET", "/ai/y/blobs/")))  # its config: its layers are being fetched
        self.assertEqual(self.d.get("/metrics")[2].count("\nberth_jobs_running 2\n"), 1)
        go.set()
        for s in (first, second):
            with s, s.makefile("rb") as f:
                self.assertIn(b'"type":"success"', f.read())
        self.assertEqual(self.gets(), 1)
        self.assertEqual(sorted(self.names()), sorted((self.ref, other)))
        self.clean()

    def test_tries_again_and_says_why(self):
        self.r.fault("GET", "/manifests/", rs.refuse(503))
        self.r.fault("GET", self.layer, rs.reset(0.5))
        lines = self.lines("/models/create", {"from": self.ref})
        said = [x["message"] for x in lines if x["type"] == "warning"]
        self.assertEqual(len(said), 2, lines)
        for text, why in zip(said, ("status 503", self.layer)):
            self.assertRegex(text, "^trying again in 0.5 s: .*" + why)
        self.assertEqual(lines[-1]["type"], "success")

    def test_tries_again_in_vain_is_a_status(self):
        """Until a byte has moved, what fails is an HTTP error, however often it was tried; our own command line is told of each try."""
        self.r.fault("GET", "/manifests/", rs.refuse(503, Retry_After="0"), times=99)
        status, h, answer = self.d.request("POST", "/models/create", json.dumps({"from": self.ref}).encode(), JSON)
        self.assertGreaterEqual(status, 500, answer)
        self.assertIn("status 503", json.loads(answer)["error"]["message"])
        self.assertGreater(len([x for x in self.r.requests if "/manifests/" in str(x)]), 2)
        lines = self.lines("/berth/v1/pull", {"model": self.ref})
        self.assertEqual({x["type"] for x in lines[:-1]}, {"warning"})
        self.assertEqual((lines[-1]["type"], lines[-1]["code"]), ("error", "net"))

    def test_too_many(self):
        for i in range(42):
            self.r.add_model("ai/many", f"v{i}", [noise(1000, i)])
        self.r.fault("GET", r"/blobs/", rs.stall(0, 20), times=1000)
        held = [self.ask({"from": f"{self.r.host}/ai/many:v{i}"}) for i in range(40)]
        self.assertTrue(wait_until(lambda: "\nberth_jobs_waiting 32\n" in self.d.get("/metrics")[2]))
        status, headers, body = self.d.post("/models/create", {"from": f"{self.r.host}/ai/many:v41"})
        self.assertEqual((status, "retry-after" in headers), (429, True), body)
        self.assertEqual(self.d.get("/models")[0], 200)  # short things have threads of their own
        for s in held:
            s.close()
        self.assertTrue(wait_until(lambda: "\nberth_jobs_running 0\n" in self.d.get("/metrics")[2]))

    def test_stop_of_the_daemon_ends_a_pull_with_a_sentence(self):
        self.r.fault("GET", self.layer, rs.stall(0.5, 30), times=1)
        self.d.stop()
        self.d.args += ["--drain-timeout", "1"]
        self.d.start()
        s = self.ask({"from": self.ref})
        self.assertTrue(wait_until(lambda: self.gets() == 1))
        time.sleep(0.3)
        self.d.process.send_signal(signal.SIGTERM)
        got = b""
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
        s.close()
        self.assertIn(b"the daemon is stopping", got)
        self.d.stop()
        self.d.start()
        self.lines("/models/create", {"from": self.ref})
        self.clean()

    def test_remote(self):
        got = self.d.get(f"/models/{self.ref}?remote=true")[2]
        self.assertEqual((got["id"], got["tags"]), (self.digest, [self.ref]))
        self.assertEqual(self.d.get(f"/berth/v1/remote?model={self.ref}")[2]["manifest"]["schemaVersion"], 2)
        self.assertEqual(self.d.get(f"/models/{self.r.host}/ai/nobody?remote=true")[0], 404)
        self.assertEqual(self.d.get("/berth/v1/remote")[0], 400)
        self.assertEqual(self.d.get("/models")[2], [])


class Push(TransferCase):
    def test_there_and_back(self):
        m = model_tar.Model([(model_tar.GGUF, self.data)], context_size=77)
        self.d.request("POST", "/models/load", m.tar(), {"Content-Type": "application/x-tar"})
        self.assertEqual(self.d.post(f"/models/{m.id}/tag?repo={self.r.host}/team/y&tag=v2", b"")[0], 201)
        lines = self.lines(f"/models/{self.r.host}/team/y:v2/push", {})
        self.assertEqual((lines[-1]["type"], lines[-1]["message"], lines[-1]["mode"]), ("success", "Model pushed successfully", "push"))
        for x in lines:
            self.assertEqual(sorted(x), ["layer", "message", "mode", "total", "type"])
        self.assertEqual(self.d.request("DELETE", "/models/purge")[0], 200)
        self.lines("/models/create", {"from": f"{self.r.host}/team/y@{m.id}"})
        self.assertEqual(self.d.get("/models")[2][0]["id"], m.id)
        last = self.lines("/berth/v1/push", {"model": f"{self.r.host}/team/y:v2"}, status=404)
        self.assertIn("no model", last[0]["error"]["message"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
