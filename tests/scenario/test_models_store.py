#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The model manager over HTTP, as Docker Model Runner's clients use it: models come as tars, are listed, tagged, asked by
every form of their names, moved, exported and removed."""
import json
import os
import socket
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import model_tar  # noqa: E402
from berth_test import MODELS, SLOW, Daemon, wait_until  # noqa: E402

DOCKER = {"User-Agent": "docker-model-cli/v1.0.0"}
NAME = "docker.io/ai/stories:latest"


def gguf(name="stories-chat"):
    with open(os.path.join(MODELS, name + ".gguf"), "rb") as f:
        return f.read()


def line_of(text):
    return json.loads(text.strip().splitlines()[-1])


class StoreCase(unittest.TestCase):
    """One daemon for a class, without files of models; each test begins with an empty store."""
    args = ()

    @classmethod
    def setUpClass(cls):
        cls.d = Daemon(models_dir="/nonexistent-models", args=cls.args, timeout=60 * SLOW)
        cls.d.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.d.__exit__(None, None, None)

    def setUp(self):
        self.delete("purge?force=true")
        self.chat = model_tar.Model([(model_tar.GGUF, gguf())], context_size=512, gguf={"llama.context_length": "512"})

    def load(self, model, headers=None, status=200):
        got, _, text = self.raw("POST", "/models/load", model.tar() if isinstance(model, model_tar.Model) else model,
                                {"Content-Type": "application/x-tar", "Accept": "application/json", **(headers or {})})
        self.assertEqual(got, status, text)
        return line_of(text) if got == 200 else text

    def raw(self, method, path, body=None, headers=None):
        if "User-Agent" not in (headers or {}):
            status, h, data = self.d.request(method, path, body, headers)
            return status, h, data.decode()
        c = self.d.connect()  # whose errors are text, not OpenAI's objects
        c.request(method, path, body, headers)
        r = c.getresponse()
        try:
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read().decode()
        finally:
            c.close()

    def tag(self, name, repo, tag="latest", status=201):
        got, _, body = self.d.post(f"/models/{name}/tag?" + urllib.parse.urlencode({"repo": repo, "tag": tag}), b"")
        self.assertEqual(got, status, body)
        return body

    def delete(self, name, status=None, headers=None):
        got, _, text = self.raw("DELETE", f"/models/{name}", None, headers)
        if status:
            self.assertEqual(got, status, text)
        return json.loads(text) if text[:1] in "[{" and text else text

    def stored(self, model=None, name="ai/stories"):
        model = model or self.chat
        self.assertIn(model.id, self.load(model)["message"])
        repo, _, tag = name.partition(":")
        self.tag(model.id, repo, tag or "latest")
        return model

    def complete(self, name, **kw):
        return self.d.post("/v1/completions", {"model": name, "prompt": "Once upon", "max_tokens": 4, "temperature": 0, **kw})

    def listed(self):
        status, _, body = self.d.get("/models")
        self.assertEqual(status, 200)
        return {m["id"]: m for m in body}

    def clean(self):
        _, _, text = self.raw("POST", "/berth/v1/verify", b"{}", {"Content-Type": "application/json"})
        self.assertEqual(line_of(text)["findings"], 0, text)


class Manager(StoreCase):
    def test_load_list_inspect(self):
        line = self.load(self.chat)
        self.assertEqual(sorted(line), ["layer", "message", "mode", "total", "type"])
        self.assertEqual((line["type"], line["layer"], line["mode"], line["total"]),
                         ("success", {"size": 0, "current": 0}, "pull", 0))
        self.assertIn(self.chat.id, line["message"])
        m = self.listed()[self.chat.id]
        self.assertEqual((m.get("tags"), m["created"], m["config"]), (None, 1735787045, self.chat.config))
        self.tag(self.chat.id, "ai/stories")
        self.tag("stories", "localhost:5000/team/Stories", "V1")
        m = self.listed()[self.chat.id]
        self.assertEqual(sorted(m["tags"]), [NAME, "localhost:5000/team/stories:V1"])
        for name in ("ai/stories", "stories", NAME, self.chat.id, self.chat.id[7:19], f"ai/stories@{self.chat.id}",
                     "docker.io%2Fai%2Fstories%3Alatest", "team/stories:V1"):
            self.assertEqual(self.d.get(f"/models/{name}")[2], m, name)
        self.clean()

    def test_names_that_are_none(self):
        for name in ("nobody", "ai/stories:v9", "sha256:" + "0" * 64, "0123456789ab"):
            status, headers, body = self.d.get(f"/models/{name}")
            self.assertEqual((status, body["error"]["code"]), (404, "model_not_found"), name)
            status, headers, text = self.raw("GET", f"/models/{name}", None, DOCKER)
            self.assertEqual((status, headers["content-type"]), (404, "text/plain; charset=utf-8"))
            self.assertTrue(text.endswith("\n") and "{" not in text, text)
        self.assertEqual(self.d.get("/models")[2], [])
        status, _, body = self.complete("ai/nobody")
        self.assertEqual(status, 404)
        self.assertIn("berth pull ai/nobody", body["error"]["message"])

    def test_inference_by_every_name(self):
        self.stored()
        answers = set()
        for name in ("ai/stories", "stories", "stories:latest", NAME, self.chat.id, self.chat.id[7:19], f"ai/stories@{self.chat.id}"):
            status, _, body = self.complete(name)
            self.assertEqual(status, 200, (name, body))
            answers.add((body["choices"][0]["text"], body["system_fingerprint"]))
        self.assertEqual(len(answers), 1, answers)
        self.assertIn(self.chat.id[7:19], answers.pop()[1])
        ps = self.d.get("/engines/ps")[2]
        self.assertEqual([p["model_name"] for p in ps], [NAME])  # one worker for all of them
        listed = {m["id"]: m for m in self.d.get("/v1/models")[2]["data"]}
        self.assertEqual(listed[NAME]["dmr"], {"context_window": 512, "architecture": "llama", "parameters": "0.59M",
                                               "quantization": "F16", "size": "1.13MiB"})
        self.assertEqual(listed[NAME]["digest"], self.chat.id)
        info = self.d.get("/berth/v1/models/stories")[2]
        self.assertEqual((info["name"], info["source"], info["id"], info["state"], info["format"]),
                         (NAME, "store", self.chat.id, "ready", "gguf"))
        self.assertEqual(self.d.post("/engines/unload", {"models": ["ai/stories"]})[2], {"unloaded_runners": 1})

    def test_template_and_context_of_the_artifact(self):
        template = b"{% for m in messages %}{{ m.content }}{% endfor %}"
        m = model_tar.Model([(model_tar.GGUF, gguf("stories")), (model_tar.TEMPLATE, template)], context_size=96,
                            gguf={"llama.context_length": "512"})
        self.stored(m, "ai/own:v1")
        status, _, body = self.d.post("/v1/chat/completions", {"model": "ai/own:v1", "max_tokens": 2, "temperature": 0,
                                                               "messages": [{"role": "user", "content": "Once"}]})
        self.assertEqual(status, 200, body)
        info = self.d.get("/berth/v1/models/ai/own:v1")[2]
        self.assertEqual((info["n_ctx"], info["context_size"]), (96, 96))

    def test_moved_tag(self):
        old = self.stored()
        new = model_tar.Model([(model_tar.GGUF, gguf())], context_size=512, created="2026-01-01T00:00:00Z",
                              gguf={"llama.context_length": "512"})
        first = self.complete("ai/stories")[2]
        self.load(new)
        self.tag(new.id, "ai/stories")
        second = self.complete("ai/stories")[2]
        self.assertIn(old.id[7:19], first["system_fingerprint"])
        self.assertIn(new.id[7:19], second["system_fingerprint"])
        by_digest = self.complete(old.id)[2]
        self.assertEqual((by_digest["system_fingerprint"], by_digest["choices"][0]["text"]),
                         (first["system_fingerprint"], first["choices"][0]["text"]))
        self.assertEqual(sorted(m.get("tags", []) for m in self.listed().values()), [[], [NAME]])
        pruned = self.d.post("/berth/v1/prune", {})[2]
        # the old one may still be loaded: then it stays until it is not
        self.assertIn(pruned["removed"], ([], [{"id": old.id}]))
        self.assertEqual(self.complete("ai/stories")[0], 200)
        self.clean()

    def test_running_request_keeps_its_bytes(self):
        self.stored()
        s = socket.create_connection(("127.0.0.1", self.d.port), timeout=60 * SLOW)
        body = json.dumps({"model": "ai/stories", "prompt": "Once", "max_tokens": 480, "ignore_eos": True, "stream": True}).encode()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        got = s.recv(4096)
        while b"data:" not in got:
            got += s.recv(4096)
        new = model_tar.Model([(model_tar.GGUF, gguf())], context_size=256, gguf={"llama.context_length": "512"})
        self.load(new)
        self.tag(new.id, "ai/stories")
        self.assertEqual(self.complete("ai/stories")[0], 200)
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
        s.close()
        self.assertIn(b"[DONE]", got)
        self.assertNotIn(new.id[7:19].encode(), got)

    def test_delete(self):
        self.stored()
        self.tag("ai/stories", "ai/other", "v2")
        self.assertEqual(self.delete("ai/other:v2", 200), [{"Untagged": "docker.io/ai/other:v2"}])
        self.tag("ai/stories", "ai/other", "v2")
        self.assertEqual(self.delete(self.chat.id, 409)["error"]["code"], "conflict")
        done = self.delete(self.chat.id + "?force=true", 200)
        self.assertEqual(done[-1], {"Deleted": self.chat.id})
        self.assertEqual(sorted(x["Untagged"] for x in done[:-1]), ["docker.io/ai/other:v2", NAME])
        self.assertEqual(self.listed(), {})
        self.delete("ai/stories", 404)
        self.assertEqual(self.d.get("/berth/v1/df")[2]["blobs"], 0)

    def test_delete_in_use(self):
        self.stored()
        self.assertEqual(self.complete("ai/stories")[0], 200)
        s = socket.create_connection(("127.0.0.1", self.d.port), timeout=60 * SLOW)
        body = json.dumps({"model": "ai/stories", "prompt": "Once", "max_tokens": 480, "ignore_eos": True, "stream": True,
                           "n": 128}).encode()
        s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        s.recv(4096)
        refused = self.delete("ai/stories", 409)
        self.assertIn("in use", refused["error"]["message"])
        self.assertEqual(self.delete("ai/stories?force=true", 200), [{"Untagged": NAME}, {"Deleted": self.chat.id}])
        s.close()
        self.assertEqual(self.complete("ai/stories")[0], 404)
        self.assertEqual(self.d.get("/engines/ps")[2], [])
        self.assertEqual(self.d.get("/berth/v1/df")[2]["blobs"], 0)
        # idle ones are unloaded without asking
        self.stored()
        self.assertEqual(self.complete("ai/stories")[0], 200)
        self.assertTrue(wait_until(lambda: not self.d.get("/engines/ps")[2][0].get("in_use")))
        self.delete("ai/stories", 200)

    def test_export_is_what_was_loaded(self):
        self.stored()
        status, headers, data = self.d.request("GET", "/models/ai/stories/export")
        self.assertEqual((status, headers["content-type"]), (200, "application/x-tar"))
        self.assertIn("attachment; filename=", headers["content-disposition"])
        files, names = model_tar.read(data)
        self.assertEqual(names[-1], "manifest.json")
        self.assertEqual(files.pop("manifest.json"), self.chat.manifest)
        self.assertEqual({"sha256:" + k.removeprefix("blobs/sha256/"): v for k, v in files.items()}, self.chat.blobs)
        self.delete("ai/stories", 200)
        status, _, text = self.raw("POST", "/models/load", data, {"Content-Type": "application/x-tar"})
        self.assertEqual(status, 200)
        self.assertIn(self.chat.id, text)
        self.assertEqual(self.d.get("/models/nobody/export")[0], 404)
        self.assertEqual(self.d.request("HEAD", f"/models/{self.chat.id}/export")[::2], (200, b""))

    def test_repackage(self):
        self.stored()
        status, _, body = self.d.post("/models/ai/stories/repackage", {"target": "ai/small:v1", "context_size": 64})
        self.assertEqual((status, body["source"], body["target"]), (201, "ai/stories", "ai/small:v1"))
        m = self.d.get("/models/ai/small:v1")[2]
        self.assertEqual(m["config"]["context_size"], 64)
        layers = [json.loads(self.raw("GET", "/berth/v1/manifest?model=" + n)[2])["layers"] for n in ("ai/small:v1", "ai/stories")]
        self.assertEqual([x["digest"] for x in layers[0]], [x["digest"] for x in layers[1]])
        self.assertEqual(self.complete("ai/small:v1")[0], 200)
        self.assertEqual(self.d.get("/berth/v1/models/ai/small:v1")[2]["n_ctx"], 64)
        status, _, text = self.raw("POST", "/models/ai/stories/repackage", b"{}", {**DOCKER, "Content-Type": "application/json"})
        self.assertEqual((status, text), (400, "target is required\n"))
        self.assertEqual(self.d.post("/models/ai/stories/repackage", {"target": "a", "context_size": -1})[0], 400)

    def test_manifest_is_the_very_bytes(self):
        self.stored()
        status, headers, data = self.d.request("GET", "/berth/v1/manifest?model=stories")
        self.assertEqual((status, data, headers["docker-content-digest"]), (200, self.chat.manifest, self.chat.id))

    def test_refused(self):
        json_type = {"Content-Type": "application/json"}
        for path, body, status, part in (
                ("/models/create", b"{", 400, "invalid request body"),
                ("/models/create", b"[]", 400, "invalid request body"),
                ("/models/create", b"{}", 400, "Invalid model reference"),
                ("/models/create", b'{"from":"a b"}', 400, "Invalid model reference"),
                ("/models/create", b'{"from":7}', 400, "'from'"),
                ("/models/ai/x/tag", b"", 400, "missing repo or tag query parameter"),
                ("/models/ai/x/tag?repo=a", b"", 400, "missing repo or tag query parameter"),
                ("/models/ai/x/tag?repo=a&tag=b", b"", 404, "no model"),
                ("/models/ai/x/push", b"", 404, "no model"),
                ("/models/ai/x/dance", b"", 404, 'unknown action "dance"'),
                ("/models/x", b"", 404, 'unknown action "x"'),
                ("/models/ai/x/repackage", b'{"target":"y"}', 404, "no model")):
            got, _, text = self.raw("POST", path, body, {**DOCKER, **json_type})
            self.assertEqual(got, status, (path, body, text))
            self.assertIn(part, text)
            got, _, body = self.d.post(path, body)
            self.assertEqual(got, status, (path, body))
            self.assertIn(part, body["error"]["message"])
        self.stored()
        self.assertEqual(self.d.post(f"/models/{self.chat.id}/push", b"")[0], 400)
        self.assertEqual(self.d.post("/models/ai/stories/tag?repo=a%40sha256:" + "0" * 64 + "&tag=b", b"")[0], 400)

    def test_hostile_tars(self):
        good = self.chat.tar()
        bad = model_tar.Model([(model_tar.GGUF, gguf())], context_size=512)
        first = next(iter(bad.blobs))
        bad.blobs[first] = b"x" + bad.blobs[first][1:]
        missing = model_tar.Model([(model_tar.GGUF, gguf())])
        del missing.blobs[next(iter(missing.blobs))]
        for what, data, why in (("nothing", b"", ""), ("noise", os.urandom(5000), ""), ("cut", good[:len(good) // 2], ""),
                                ("other bytes", bad.tar(), f"what came for blob {first} is sha256:"),
                                ("a layer missing", missing.tar(), "the archive is not whole: ")):
            status, _, text = self.raw("POST", "/models/load", data, {"Content-Type": "application/x-tar", **DOCKER})
            self.assertEqual(status, 400, (what, text))
            self.assertIn(why, text)
            status, _, text = self.raw("POST", "/models/load", data, {"Content-Type": "application/x-tar", "Accept": "application/json"})
            self.assertEqual((status, json.loads(text)["error"]["code"]), (400, "invalid_format"), (what, text))
            self.assertIn(why, json.loads(text)["error"]["message"])
            self.assertEqual(self.listed(), {}, what)
        self.clean()
        self.assertEqual(self.raw("POST", "/models/load", good, {"Content-Type": "text/plain"})[0], 415)
        self.load(self.chat)

    def test_large_load_has_no_limit_of_bodies(self):
        with Daemon(models_dir="/nonexistent-models", args=["--max-body", "4k"], timeout=60 * SLOW) as d:
            status, _, text = d.request("POST", "/models/load", self.chat.tar(), {"Content-Type": "application/x-tar"})
            self.assertEqual(status, 200, text)
            status, _, answer = d.request("POST", "/models/create", b" " * 5000)
            self.assertEqual(status, 413)
            self.assertIn("larger than the 4096 bytes that this server accepts (--max-body)", str(answer))

    def test_client_that_leaves_in_the_middle_of_a_load(self):
        data = self.chat.tar()
        s = socket.create_connection(("127.0.0.1", self.d.port))
        s.sendall(b"POST /models/load HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n" % len(data))
        s.sendall(data[:len(data) // 2])
        s.close()
        self.assertTrue(wait_until(lambda: self.d.get("/berth/v1/df")[2]["partial"] == 0 or None))
        self.assertEqual(self.listed(), {})
        self.clean()

    def test_other_formats_are_kept_and_not_loaded(self):
        m = model_tar.Model([(model_tar.SAFETENSORS, b"\x02\0\0\0\0\0\0\0{}", "model.safetensors")], format="safetensors")
        self.stored(m, "ai/tensors")
        status, _, body = self.complete("ai/tensors")
        self.assertEqual(status, 400, body)
        self.assertIn("safetensors", body["error"]["message"])
        self.assertEqual(self.d.get("/models/ai/tensors")[2]["config"]["format"], "safetensors")

    def test_prune_verify_df(self):
        self.stored()
        self.load(model_tar.Model([(model_tar.GGUF, gguf("stories"))], context_size=77))
        df = self.d.get("/berth/v1/df")[2]
        self.assertEqual((df["models"], df["blobs"], df["unused_bytes"]), (2, 6, 0))
        self.assertTrue(df["store"].endswith("/berth/store"))
        self.assertEqual(self.d.post("/berth/v1/prune", {"untagged": False})[2], {"removed": [], "freed_bytes": 0})
        pruned = self.d.post("/berth/v1/prune", {})[2]
        self.assertEqual(len(pruned["removed"]), 1)
        self.assertGreater(pruned["freed_bytes"], 1_000_000)
        self.assertEqual(len(self.listed()), 1)
        self.assertGreater(self.d.get("/engines/df")[2]["models_disk_usage"], 1_000_000)
        blob = os.path.join(df["store"], "blobs", "sha256", next(iter(self.chat.blobs)).removeprefix("sha256:"))
        os.chmod(blob, 0o644)
        with open(blob, "r+b") as f:
            f.seek(5000)
            f.write(b"damage")
        _, _, text = self.raw("POST", "/berth/v1/verify", b"")
        lines = [json.loads(x) for x in text.splitlines()]
        self.assertEqual(lines[-1]["findings"], 1, text)
        found = [x["finding"] for x in lines if "finding" in x]
        self.assertEqual(found[0]["digest"], next(iter(self.chat.blobs)))
        self.assertEqual(line_of(self.raw("POST", "/berth/v1/verify", b'{"repair":true}')[2])["repaired"], True)
        self.load(self.chat)
        self.clean()

    def test_metrics_and_log(self):
        self.stored()
        self.delete("ai/stories", 200)
        self.delete("ai/stories", 404)
        text = self.raw("GET", "/metrics")[2]
        self.assertIn('berth_store_operations_total{operation="load",code=""}', text)
        self.assertIn('berth_store_operations_total{operation="delete",code="not_found"}', text)
        self.assertIn("\nberth_store_models 0\n", text)
        self.assertRegex(text, r'berth_store_moved_bytes_total{operation="load"} \d{7}')
        self.assertIn("operation=tag", self.d.output())


class Import(StoreCase):
    def test_store_of_docker_model_runner(self):
        root = os.path.join(self.d.state, "dmr")
        os.makedirs(os.path.join(root, "blobs", "sha256"))
        os.makedirs(os.path.join(root, "manifests", "sha256"))
        for digest, data in self.chat.blobs.items():
            with open(os.path.join(root, "blobs", "sha256", digest.removeprefix("sha256:")), "wb") as f:
                f.write(data)
        with open(os.path.join(root, "manifests", "sha256", self.chat.id.removeprefix("sha256:")), "wb") as f:
            f.write(self.chat.manifest)
        for name, value in (("layout.json", {"version": "1.0.0"}),
                            ("models.json", {"models": [{"id": self.chat.id, "tags": [NAME], "files": list(self.chat.blobs)}]})):
            with open(os.path.join(root, name), "w") as f:
                json.dump(value, f)
        got, _, text = self.raw("POST", "/berth/v1/import", json.dumps({"path": root}).encode(), {"Content-Type": "application/json"})
        self.assertEqual((got, line_of(text)["type"], line_of(text)["models"]), (200, "success", 1), text)
        self.assertEqual(self.listed()[self.chat.id]["tags"], [NAME])
        self.assertEqual(self.complete("ai/stories")[0], 200)
        self.clean()
        for body in (b"{}", b'{"path":"relative"}', b'{"path":7}', b'{"path":""}'):
            self.assertEqual(self.d.post("/berth/v1/import", body)[0], 400, body)
        self.assertEqual(self.d.post("/berth/v1/import", {"path": "/nonexistent-dmr"})[0], 404)


class BesideFiles(unittest.TestCase):
    """A file's name means the file; everything else the store's model."""

    def test_file_wins_by_its_own_name(self):
        with Daemon(timeout=60 * SLOW) as d:
            m = model_tar.Model([(model_tar.GGUF, gguf())], context_size=512)
            self.assertEqual(d.request("POST", "/models/load", m.tar(), {"Content-Type": "application/x-tar"})[0], 200)
            self.assertEqual(d.post(f"/models/{m.id}/tag?repo=ai/stories&tag=latest", b"")[0], 201)
            ask = {"prompt": "Once", "max_tokens": 1, "temperature": 0}
            by_file = d.post("/v1/completions", {"model": "stories", **ask})[2]
            by_store = d.post("/v1/completions", {"model": "ai/stories", **ask})[2]
            self.assertNotIn(m.id[7:19], by_file["system_fingerprint"])
            self.assertIn(m.id[7:19], by_store["system_fingerprint"])
            names = [x["id"] for x in d.get("/v1/models")[2]["data"]]
            self.assertIn("stories", names)
            self.assertIn(NAME, names)
            self.assertEqual({x["name"]: x["source"] for x in d.get("/berth/v1/models")[2]["models"]},
                             {"stories": "file", "stories-chat": "file", NAME: "store"})

    def test_store_survives_a_restart_and_is_had_by_one(self):
        with Daemon(timeout=60 * SLOW) as d:
            m = model_tar.Model([(model_tar.GGUF, gguf())], context_size=512)
            d.request("POST", "/models/load", m.tar(), {"Content-Type": "application/x-tar"})
            d.post(f"/models/{m.id}/tag?repo=ai/kept&tag=v1", b"")
            d.post("/berth/v1/configure", {"model": "ai/kept:v1", "settings": {"temperature": 0.5}})
            home = d.env["HOME"]
            with Daemon(env={"HOME": home}, timeout=60 * SLOW) as other:  # runs, without the store
                status, _, body = other.get("/models")
                self.assertEqual((status, body["error"]["code"]), (503, "no_store"))
                self.assertRegex(body["error"]["message"], rf"no store for models: .*in use by another berth \(process {d.pid}\): ask that one")
                self.assertEqual(other.get("/v1/models")[0], 200)
                self.assertIn("in use by another berth", other.output())
            with self.assertRaises(RuntimeError) as c:
                Daemon(args=["--store", os.path.join(home, ".local/share/berth/store")]).start()
            self.assertIn("in use by another berth", str(c.exception))
            d.stop()
            d.start()
            self.assertEqual(d.get("/models")[2][0]["tags"], ["docker.io/ai/kept:v1"])
            self.assertEqual(d.get("/berth/v1/configure?model=ai/kept:v1")[2]["settings"], {"temperature": 0.5})


class Scopes(unittest.TestCase):
    def test_reading_and_changing(self):
        with Daemon(timeout=60 * SLOW) as d:
            keys = os.path.join(d.state, "keys")
            with open(keys, "w") as f:
                f.write("reader infer reader-key-0123456789\nboss infer,manage boss-key-0123456789abc\n")
            os.chmod(keys, 0o600)
            d.stop()
            d.args += ["--api-keys", keys]
            d.start()
            m = model_tar.Model([(model_tar.GGUF, gguf())], context_size=512)
            reader, boss = ({"Authorization": "Bearer " + k} for k in ("reader-key-0123456789", "boss-key-0123456789abc"))
            tar = {"Content-Type": "application/x-tar"}
            self.assertEqual(d.request("POST", "/models/load", m.tar(), tar)[0], 401)
            self.assertEqual(d.request("POST", "/models/load", m.tar(), {**tar, **reader})[0], 403)
            self.assertEqual(d.request("POST", "/models/load", m.tar(), {**tar, **boss})[0], 200)
            self.assertEqual(d.get("/models")[0], 401)
            self.assertEqual(d.get("/models", reader)[0], 200)
            for method, path in (("POST", "/models/create"), ("POST", "/models/a/b/tag"), ("DELETE", f"/models/{m.id}"), ("POST", "/berth/v1/pull"),
                                 ("POST", "/berth/v1/push"), ("POST", "/berth/v1/prune"), ("POST", "/berth/v1/verify"), ("DELETE", "/models/purge")):
                self.assertEqual(d.request(method, path, b"{}" if method == "POST" else None, reader)[0], 403, path)
            self.assertEqual(d.request("DELETE", f"/models/{m.id}", None, boss)[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
