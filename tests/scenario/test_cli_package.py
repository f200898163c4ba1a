# SPDX-License-Identifier: Apache-2.0
"""Every kind of model that `berth package` makes, with a real daemon: the manifest is what Docker Model Runner or ModelPack
writes, the digest is the same each time and as a tar file, `show`, `inspect` and `list` tell what it is, and it runs or is
refused by name.  And a store of Docker Model Runner, taken over by `berth import`."""
import json
import os
import re
import shutil
import struct
import sys
import tarfile
import unittest
import zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import gguf_split  # noqa: E402
import model_tar  # noqa: E402
from berth_test import MODELS, ROOT  # noqa: E402
from cli_case import STORY, CliCase  # noqa: E402

DOCKER, CNCF = "application/vnd.docker.ai.", "application/vnd.cncf.model."
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
PATH = "org.cncf.model.filepath"


def safetensors(names):
    head = {name: {"dtype": "F32", "shape": [4, 4], "data_offsets": [64 * i, 64 * i + 64]} for i, name in enumerate(names)}
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + bytes(range(64)) * len(names)


class Package(CliCase):
    def setUp(self):
        super().setUp()
        shutil.copy(os.path.join(MODELS, "stories.gguf"), self.at("stories.gguf"))
        shutil.copy(os.path.join(ROOT, "tests/data/docker-model/dummy.mmproj"), self.at("eyes.mmproj"))
        for name, text in (("LICENSE", "may be used"), ("NOTICE", "made here"), ("t.jinja", TEMPLATE)):
            self.write(name, text.encode())

    def at(self, *names):
        return os.path.join(self.home, *names)

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.at(name)), exist_ok=True)
        with open(self.at(name), "wb") as f:
            f.write(data)

    def package(self, name, *args):
        """Packaged twice and as a tar file: one digest.  The manifest, and the path and media type of each layer."""
        digest = self.ok("package", *args, name).splitlines()[1]
        self.assertEqual(self.ok("package", *args, name).splitlines()[1], digest)
        self.assertEqual(self.ok("package", *args, "-o", "out.tar").splitlines()[1], digest)
        with tarfile.open(self.at("out.tar")) as tar:
            text = tar.extractfile("manifest.json").read()
            self.assertEqual(model_tar.digest_of(text), digest)
            for x in tar.getmembers():
                if x.isfile() and x.name != "manifest.json":
                    self.assertEqual("blobs/sha256/" + model_tar.digest_of(tar.extractfile(x).read())[7:], x.name)
        m = json.loads(text)
        self.assertEqual((m["schemaVersion"], m["mediaType"]), (2, "application/vnd.oci.image.manifest.v1+json"))
        return digest, m, {x["annotations"][PATH]: x["mediaType"] for x in m["layers"]}

    def told(self, name, digest, **config):
        """show, inspect and list say the same of it."""
        shown = json.loads(self.ok("show", name, "--json"))
        self.assertEqual((shown["id"], {k: shown["config"].get(k) for k in config}), (digest, config))
        for command in ("show", "inspect"):
            out = self.ok(command, name)
            self.assertEqual(re.findall(r"(?m)^(?:digest|format|architecture) +(.*)$", out),
                             [digest, config["format"], config["architecture"]], out)
        listed = {m["name"]: m for m in json.loads(self.ok("list", "--json"))}[shown["tags"][0]]
        self.assertEqual((listed["id"], listed["format"], listed["arch"]), (digest, config["format"], config["architecture"]))

    def tell(self, name):
        return self.ok("run", name, "Once upon a time", "-t", "0", "-n", "20")

    def cannot_run(self, name, format):
        self.refused(1, rf"^berth: model docker.io/ai/{name}:latest is a {format} model, and the engines here load GGUF models only; it can be "
                     r"kept, inspected, pulled and pushed$", "run", name, "x")

    def test_safetensors_folder(self):
        for name, data in (("model-00001-of-00002.safetensors", safetensors("ab")), ("model-00002-of-00002.safetensors", safetensors("c")),
                           ("config.json", b'{"model_type": "llama", "max_position_embeddings": 2048}'), ("LICENSE", b"free"),
                           ("README.md", b"read me"), ("chat_template.jinja", b"{{ x }}"), ("deep/tokenizer.json", b"{}"), (".cache/x", b"no")):
            self.write("tensors/" + name, data)
        digest, m, kinds = self.package("tensors", "--safetensors", "tensors")
        self.assertEqual(m["config"]["mediaType"], DOCKER + "model.config.v0.2+json")
        self.assertEqual(kinds, {
            "model-00001-of-00002.safetensors": DOCKER + "safetensors", "model-00002-of-00002.safetensors": DOCKER + "safetensors",
            "LICENSE": DOCKER + "license", "chat_template.jinja": DOCKER + "chat.template.jinja", "README.md": DOCKER + "model.file",
            "config.json": DOCKER + "model.file", "deep/tokenizer.json": DOCKER + "model.file"})
        self.assertEqual(self.ok("package", "--safetensors-dir", "tensors", "same").splitlines()[1], digest)
        self.ok("rm", "same")
        self.told("tensors", digest, format="safetensors", architecture="llama", parameters="48", quantization="F32", context_size=2048,
                  safetensors={"tensor_count": "3"})
        self.cannot_run("tensors", "safetensors")
        packed, m, kinds = self.package("packed", "--safetensors", "tensors", "--format", "cncf")
        self.assertEqual((m["artifactType"], m["config"]["mediaType"]), (CNCF + "manifest.v1+json", CNCF + "config.v1+json"))
        self.assertEqual([kinds[x] for x in ("model-00001-of-00002.safetensors", "config.json", "deep/tokenizer.json", "chat_template.jinja",
                                             "README.md", "LICENSE")],
                         [CNCF + x + ".v1.raw" for x in ("weight", "weight.config", "weight.config", "weight.config", "doc", "doc")])
        config = json.loads(self.ok("show", "packed", "--json"))["config"]
        self.assertEqual(config["config"], {"architecture": "llama", "format": "safetensors", "paramSize": "48", "quantization": "F32"})
        self.assertEqual(sorted(config["modelfs"]["diffIds"]), sorted(x["digest"] for x in m["layers"]))
        self.cannot_run("packed", "safetensors")
        # A byte more in any file is another model.
        self.write("tensors/deep/tokenizer.json", b"{} ")
        self.assertNotEqual(self.ok("package", "--safetensors", "tensors", "tensors").splitlines()[1], digest)

    def test_dduf(self):
        with zipfile.ZipFile(self.at("flux.dduf"), "w", zipfile.ZIP_STORED) as z:
            z.writestr("model_index.json", json.dumps({"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}))
            z.writestr("vae/config.json", "{}")
            z.writestr("vae/diffusion_pytorch_model.safetensors", safetensors("v"))
        digest, m, kinds = self.package("flux", "--dduf", "flux.dduf")
        self.assertEqual((m["config"]["mediaType"], kinds), (DOCKER + "model.config.v0.1+json", {"flux.dduf": DOCKER + "dduf"}))
        self.told("flux", digest, format="dduf", architecture="diffusers", parameters="16",
                  diffusers={"dduf_file": "flux.dduf", "layout": "dduf", "pipeline": "FluxPipeline"})
        self.cannot_run("flux", "dduf")
        self.write("not.dduf", b"PK\3\4 and no more")
        self.refused(1, r"not\.dduf", "package", "--dduf", "not.dduf", "x")

    def test_split(self):
        with open(self.at("stories.gguf"), "rb") as f:
            parts = gguf_split.split(f.read(), 3)
        for i, data in enumerate(parts):
            self.write(f"s-{i + 1:05}-of-00003.gguf", data)
        digest, m, kinds = self.package("split", "--gguf", "s-00001-of-00003.gguf")
        self.assertEqual(m["config"]["mediaType"], DOCKER + "model.config.v0.1+json")
        self.assertEqual([(x["annotations"][PATH], x["mediaType"], x["digest"]) for x in m["layers"]],
                         [(f"s-{i + 1:05}-of-00003.gguf", DOCKER + "gguf.v3", model_tar.digest_of(x)) for i, x in enumerate(parts)])
        self.told("split", digest, format="gguf", architecture="llama", parameters="292.80K", quantization="F32", context_size=2048)
        self.ok("package", "--gguf", "stories.gguf", "whole")
        answer = self.tell("split")
        self.assertEqual((answer, answer[:40]), (self.tell("whole"), STORY[:40]))
        os.unlink(self.at("s-00002-of-00003.gguf"))
        self.refused(1, "s-00002-of-00003.gguf: No such file", "package", "--gguf", "s-00001-of-00003.gguf", "x")

    def test_everything_beside_the_weights(self):
        shutil.copy(self.at("stories.gguf"), self.at("tone.gguf"))
        extras = ("--mmproj", "eyes.mmproj", "--license", "LICENSE", "--license", "NOTICE", "--chat-template", "t.jinja")
        digest, m, kinds = self.package("all", "--gguf", "stories.gguf", *extras, "--lora", "tone.gguf", "--context-size", "512")
        self.assertEqual(m["config"]["mediaType"], DOCKER + "model.config.v0.1+json")
        self.assertEqual(list(kinds.items()), [
            ("stories.gguf", DOCKER + "gguf.v3"), ("eyes.mmproj", DOCKER + "mmproj"), ("t.jinja", DOCKER + "chat.template.jinja"),
            ("tone.gguf", DOCKER + "gguf.v3.lora"), ("LICENSE", DOCKER + "license"), ("NOTICE", DOCKER + "license")])
        # The order of the flags is not the model's.
        self.assertEqual(self.ok("package", "--lora", "tone.gguf", "--context-size", "512", "--chat-template", "t.jinja", "--mmproj", "eyes.mmproj",
                                 "--license", "LICENSE", "--license", "NOTICE", "--gguf", "stories.gguf", "all").splitlines()[1], digest)
        self.told("all", digest, format="gguf", architecture="llama", parameters="292.80K", quantization="F32", context_size=512)
        self.assertEqual(self.tell("all")[:40], STORY[:40])  # by the template: the model has none of its own
        packed, m, kinds = self.package("packed", "--gguf", "stories.gguf", *extras, "--format", "cncf")
        self.assertEqual((m["artifactType"], m["config"]["mediaType"]), (CNCF + "manifest.v1+json", CNCF + "config.v1+json"))
        self.assertEqual(list(kinds.items()), [("stories.gguf", CNCF + "weight.v1.raw"), ("eyes.mmproj", CNCF + "weight.v1.raw"),
                                               ("t.jinja", CNCF + "weight.config.v1.raw"), ("LICENSE", CNCF + "doc.v1.raw"),
                                               ("NOTICE", CNCF + "doc.v1.raw")])
        self.assertEqual(self.tell("packed")[:40], STORY[:40])
        self.refused(1, "ModelPack has no place for a LoRA adapter: package in Docker's format", "package", "--gguf", "stories.gguf", "--lora",
                     "tone.gguf", "--format", "cncf", "x")
        self.write("other/LICENSE", b"another")
        self.refused(1, "two files of the model would be called 'LICENSE'; rename one of them", "package", "--gguf", "stories.gguf", "-l", "LICENSE",
                     "-l", "other/LICENSE", "x")
        self.write("none.jinja", b"")
        self.write("noise.jinja", b"{{ messages }}\xff\xfe")
        for flag, value, why in (("--chat-template", "none.jinja", "none.jinja is empty: it is no chat template"),
                                 ("--chat-template", "noise.jinja", "noise.jinja is not UTF-8 text: it is no chat template"),
                                 ("--context-size", "0", "--context-size"), ("--context-size", "1", "--context-size"),
                                 ("--context-size", "16777217", "--context-size")):
            self.refused(1, why, "package", "--gguf", "stories.gguf", flag, value, "x")


class Import(CliCase):
    def test_store_of_docker_model_runner(self):
        with open(os.path.join(MODELS, "stories.gguf"), "rb") as f:
            gguf = f.read()
        one = model_tar.Model([(model_tar.GGUF, gguf)], context_size=512)
        two = model_tar.Model([(model_tar.GGUF, gguf), (model_tar.TEMPLATE, TEMPLATE.encode())], context_size=256)
        root, entries = os.path.join(self.home, "theirs"), []
        for folder in ("blobs/sha256", "manifests/sha256"):
            os.makedirs(os.path.join(root, folder))
        for m, tags in ((one, ["docker.io/ai/stories:latest", "docker.io/ai/stories:v1"]), (two, ["hf.co/org/chatty:Q8_0"])):
            entries.append({"id": m.id, "tags": tags, "files": list(m.blobs)})
            for folder, files in (("blobs", m.blobs), ("manifests", {m.id: m.manifest})):
                for digest, data in files.items():
                    with open(os.path.join(root, folder, "sha256", digest[7:]), "wb") as f:
                        f.write(data)
        for name, value in (("layout.json", {"version": "1.0.0"}), ("models.json", {"models": entries})):
            with open(os.path.join(root, name), "w", encoding="utf-8") as f:
                json.dump(value, f, indent=2)
        before = {name: os.stat(os.path.join(root, name)).st_mtime_ns for name in ("layout.json", "models.json")}
        self.assertRegex(self.ok("import", "theirs"), r"2 models")
        stored = {m["name"]: m["id"] for m in json.loads(self.ok("list", "--json")) if m["source"] == "store"}
        self.assertEqual(set(stored.values()), {one.id, two.id})
        self.assertEqual(json.loads(self.ok("show", "ai/stories:v1", "--json"))["tags"], entries[0]["tags"])
        self.assertEqual(json.loads(self.ok("show", "hf.co/org/chatty:Q8_0", "--json"))["id"], two.id)
        # Links and not copies, and theirs stays as it was.
        ours = os.path.join(self.home, ".local/share/berth/store")
        for digest in {**one.blobs, **two.blobs}:
            stats = [os.stat(os.path.join(x, "blobs/sha256", digest[7:])) for x in (root, ours)]
            self.assertTrue(os.path.samestat(*stats), digest)
            self.assertEqual(stats[0].st_nlink, 2)
        self.assertEqual({name: os.stat(os.path.join(root, name)).st_mtime_ns for name in before}, before)
        self.assertIn("nothing wrong", self.ok("verify"))
        self.assertEqual(self.ok("run", "ai/stories:v1", "Once upon a time", "-t", "0", "-n", "20")[:40], STORY[:40])
        # Again: nothing is there twice; removing ours leaves theirs.
        self.ok("import", "theirs")
        self.assertEqual({m["name"] for m in json.loads(self.ok("list", "--json")) if m["source"] == "store"}, set(stored))
        self.ok("rm", "-f", one.id, two.id)
        self.ok("prune")
        self.assertEqual(sorted(os.listdir(os.path.join(root, "blobs/sha256"))), sorted(x[7:] for x in {**one.blobs, **two.blobs}))
        self.refused(1, "opening the store nowhere", "import", "nowhere")
        os.mkdir(os.path.join(self.home, "empty"))
        self.refused(1, "is no store of Docker Model Runner: it has no layout.json and models.json", "import", "empty")


if __name__ == "__main__":
    unittest.main()
