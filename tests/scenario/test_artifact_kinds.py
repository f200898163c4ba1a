#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One model in every packing an artifact may have, run: the answer is the same, and so are the bytes it comes from."""
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import MODELS, SLOW, Daemon, wait_until  # noqa: E402

CNCF, DOCKER = "application/vnd.cncf.model.", "application/vnd.docker.ai."


def tar_of(files, links=()):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as t:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            t.addfile(info)
    return out.getvalue()


def artifact(config_type, config, layers):
    """The tar that a load takes, of layers (media type, path or None, bytes)."""
    blobs, descriptors = {}, []

    def put(media, data, path=None):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        d = {"mediaType": media, "digest": "sha256:" + digest, "size": len(data)}
        if path:
            d["annotations"] = {"org.cncf.model.filepath": path}
        return d

    for media, path, data in layers:
        descriptors.append(put(media, data, path))
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": put(config_type, json.dumps(config).encode()), "layers": descriptors}
    return tar_of([(f"blobs/sha256/{h}", b) for h, b in blobs.items()] + [("manifest.json", json.dumps(manifest).encode())])


class Kinds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.d = Daemon(models_dir="/nonexistent-models", timeout=60 * SLOW)
        cls.d.__enter__()
        with open(os.path.join(MODELS, "stories.gguf"), "rb") as f:
            cls.gguf = f.read()
        cls.answer = cls.run_one("plain", artifact(DOCKER + "model.config.v0.1+json", {"config": {"format": "gguf"}},
                                                   [(DOCKER + "gguf.v3", None, cls.gguf)]))

    @classmethod
    def tearDownClass(cls):
        cls.d.__exit__(None, None, None)

    @classmethod
    def load(cls, tar):
        status, _, data = cls.d.request("POST", "/models/load", tar,
                                        {"Content-Type": "application/x-tar", "Accept": "application/json"})
        line = json.loads(data.decode().strip().splitlines()[-1])
        return status, line

    @classmethod
    def run_one(cls, name, tar):
        status, line = cls.load(tar)
        assert (status, line["type"]) == (200, "success"), line
        digest = "sha256:" + line["message"].split("sha256:")[1][:64]
        status, _, body = cls.d.post(f"/models/{digest}/tag?" + urllib.parse.urlencode({"repo": "ai/" + name, "tag": "v"}), b"")
        assert status == 201, body
        status, _, body = cls.d.post("/v1/completions", {"model": f"ai/{name}:v", "prompt": "Once upon", "max_tokens": 12,
                                                         "temperature": 0})
        assert status == 200, body
        return body["choices"][0]["text"]

    def cncf(self, media, path, data, *more):
        return artifact(CNCF + "config.v1+json", {"modelfs": {"type": "layers", "diffIds": []}, "config": {"format": "gguf"}},
                        [(CNCF + media, path, data), (CNCF + "doc.v1.raw", "README.md", b"read me"), *more])

    def test_raw(self):
        self.assertEqual(self.run_one("raw", self.cncf("weight.v1.raw", "any.gguf", self.gguf)), self.answer)

    def test_tar(self):
        inner = tar_of([("./deep/any.gguf", self.gguf), ("deep/notes.txt", b"x")])
        tar = self.cncf("weight.v1.tar", None, inner)
        self.assertEqual(self.load(tar)[0], 200)
        record = os.path.join(self.d.state, ".local/share/berth/store/unpacked", hashlib.sha256(inner).hexdigest())
        self.assertTrue(os.path.exists(record))  # before anybody asks for it
        self.assertEqual(self.run_one("tar", tar), self.answer)

    def test_gzip_and_what_else_is_in_it(self):
        inner = gzip.compress(tar_of([("m.gguf", self.gguf)]), 1)
        code = (CNCF + "code.v1.tar", None, tar_of([("run.py", b"raise SystemExit")]))
        self.assertEqual(self.run_one("gzip", self.cncf("weight.v1.tar+gzip", None, inner, code)), self.answer)

    @unittest.skipUnless(shutil.which("zstd"), "zstd is not installed")
    def test_zstd(self):
        inner = subprocess.run(["zstd", "-q", "-c"], input=tar_of([("m.gguf", self.gguf)]), stdout=subprocess.PIPE,
                               check=True).stdout
        self.assertEqual(self.run_one("zstd", self.cncf("weight.v1.tar+zstd", None, inner)), self.answer)

    def packed(self, name):
        """A model with an archive that takes a while, as after an import: not unpacked."""
        inner = gzip.compress(tar_of([("filler", bytes(int((400 << 20) / SLOW)))]), 1)
        status, line = self.load(self.cncf("weight.v1.raw", "any.gguf", self.gguf, (CNCF + "doc.v1.tar+gzip", None, inner)))
        self.assertEqual((status, line["type"]), (200, "success"), line)
        digest = "sha256:" + line["message"].split("sha256:")[1][:64]
        self.d.post(f"/models/{digest}/tag?" + urllib.parse.urlencode({"repo": "ai/" + name, "tag": "v"}), b"")
        record = os.path.join(self.d.state, ".local/share/berth/store/unpacked", hashlib.sha256(inner).hexdigest())
        os.unlink(record)
        return f"ai/{name}:v", record

    def test_others_answer_while_one_is_unpacked(self):
        name, record = self.packed("packed")
        answers, longest, begun = [], 0, time.monotonic()
        t = threading.Thread(target=lambda: answers.append(self.d.post("/berth/v1/load", {"model": name})))
        t.start()
        while t.is_alive():
            at = time.monotonic()
            status, _, body = self.d.post("/v1/completions", {"model": "ai/plain:v", "prompt": "a", "max_tokens": 1})
            self.assertEqual(status, 200, body)
            longest = max(longest, time.monotonic() - at)
        t.join()
        self.assertEqual(answers[0][0], 200, answers)
        self.assertTrue(os.path.exists(record))
        self.assertLess(longest, (time.monotonic() - begun) / 2)

    def test_unloaded_while_it_is_unpacked(self):
        name, record = self.packed("unloaded")
        answers = []
        t = threading.Thread(target=lambda: answers.append(self.d.post("/berth/v1/load", {"model": name})))
        t.start()
        self.assertTrue(wait_until(lambda: self.d.get("/berth/v1/models/" + name)[2]["state"] == "loading", step=0.001))
        self.d.post("/berth/v1/unload", {"model": name})
        self.assertFalse(os.path.exists(record))  # it was not waited for
        t.join()
        self.assertEqual(answers[0][2]["error"]["code"], "model_unloaded", answers)
        self.assertTrue(wait_until(lambda: os.path.exists(record)))  # for the next load

    def test_archives_that_cannot_be_taken(self):
        """They are kept as artifacts, and refused, with the reason, when they are to run."""
        for name, inner, reason in (("link", tar_of([("m.gguf", self.gguf)], [("x", "/etc/passwd")]), "symbolic link"),
                                    ("cut", tar_of([("m.gguf", self.gguf)])[:100000], "cut short"),
                                    ("none", tar_of([("m.txt", b"x")]), "weights")):
            with self.subTest(name):
                with self.assertRaises(AssertionError) as raised:
                    self.run_one("bad-" + name, self.cncf("weight.v1.tar", None, inner))
                self.assertIn(reason, str(raised.exception))
        status, _, body = self.d.get("/livez")
        self.assertEqual(status, 200, body)


if __name__ == "__main__":
    unittest.main()
