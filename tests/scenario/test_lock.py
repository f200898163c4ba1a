# SPDX-License-Identifier: Apache-2.0
"""`berth lock` and --locked: which models a project names, what is written of them, and what is refused; against a stand-in for
the daemon."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from cli_case import CliCase  # noqa: E402
from manager_stub import ID, MODEL, ManagerStub, success  # noqa: E402

ONE, TWO, FILE, OTHER = ("sha256:" + c * 64 for c in "129e")
SMOL = "docker.io/ai/smollm2:latest"


def model(name, digest):
    return {**MODEL, "id": digest, "tags": [f"docker.io/ai/{name}:latest"]}


def known(name, settings=None, **more):
    return {"name": name, "source": "store", "settings": settings or {}, **more}


class Lock(CliCase):
    def setUp(self):
        super().setUp()
        self.models = [dict(MODEL), model("one", ONE), model("two", TWO)]
        file = known("stories", source="file", digest=FILE)
        self.answers = {("GET", "/berth/v1/models"): {"models": [file]}, ("GET", "/berth/v1/models/stories"): file,
                        ("POST", "/berth/v1/configure"): {}, ("POST", "/engines/_configure"): {}}
        self.declare(SMOL, {"context-size": 2048})

    def declare(self, name, settings):
        self.answers["GET", "/berth/v1/models/" + name] = known(name, settings)
        self.answers["GET", "/berth/v1/models/" + name.removeprefix("docker.io/ai/").removesuffix(":latest")] = known(name, settings)

    def run_with(self, *args, course=(), version="9.9.9"):
        with ManagerStub(self.models, course, {**self.answers, ("GET", "/berth/v1/version"): {"version": version}}) as self.stub:
            return self.berth(*args, BERTH_PORT=str(self.stub.port))

    def lock(self):
        with open(os.path.join(self.home, "berth.lock"), encoding="utf-8") as f:
            return f.read()

    def compose(self, text, name="compose.yaml"):
        with open(os.path.join(self.home, name), "w", encoding="utf-8") as f:
            f.write(text)

    def test_file(self):
        rc, out, err = self.run_with("lock", "stories", "smollm2")
        self.assertEqual((rc, err), (0, ""))
        self.assertEqual(out.splitlines()[0].split(), ["MODEL", "DIGEST", "PARAMETERS"])
        self.assertEqual(self.lock(), f"""{{
  "engine": "berth 9.9.9",
  "models": {{
    "{SMOL}": {{
      "digest": "{ID}",
      "parameters": {{
        "context-size": 2048
      }}
    }},
    "stories": {{
      "digest": "{FILE}",
      "parameters": {{}},
      "source": "file"
    }}
  }},
  "version": 1
}}
""")
        first = self.lock()
        self.run_with("lock", "smollm2:latest", "stories")  # another order, another form: the same file
        self.assertEqual(self.lock(), first)
        self.run_with("lock")  # those of the lock itself
        self.assertEqual(self.lock(), first)
        self.assertEqual(self.run_with("lock", "--check"), (0, "2 models are as berth.lock says\n", ""))
        rc, out, _ = self.run_with("lock", "--json")
        self.assertEqual((rc, json.loads(out)), (0, json.loads(first)))

    def test_another_default_registry(self):
        self.models.append({**MODEL, "id": OTHER, "tags": ["reg.example/ai/x:latest"]})
        self.env["BERTH_DEFAULT_REGISTRY"] = "reg.example"
        self.assertEqual(self.run_with("lock", "reg.example/ai/x")[0], 0)
        self.assertEqual(list(json.loads(self.lock())["models"]), ["reg.example/ai/x:latest"])
        self.run_with("pull", "--locked", "x", course=[success("Model pulled successfully", id=OTHER, name="reg.example/ai/x:latest")])
        self.assertEqual(self.stub.asked("POST", "/berth/v1/pull"), [{"model": f"reg.example/ai/x:latest@{OTHER}"}])
        self.run_with("pull", "x", course=[success("Model pulled successfully", id=OTHER, name="reg.example/ai/x:latest")])
        self.assertEqual(self.stub.asked("POST", "/berth/v1/pull"), [{"model": "reg.example/ai/x:latest"}])

    def test_template_is_its_digest(self):
        self.declare(SMOL, {"chat-template": "hello"})
        self.run_with("lock", "smollm2")
        self.assertEqual(json.loads(self.lock())["models"][SMOL]["parameters"],
                         {"chat-template": "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"})

    def test_check_and_locked(self):
        self.run_with("lock", "smollm2")
        self.models[0] = {**MODEL, "id": OTHER}
        self.declare(SMOL, {"context-size": 4096, "temperature": 0.5})
        rc, out, err = self.run_with("lock", "--check", version="9.9.10")
        self.assertEqual((rc, err), (1, ""))
        differences = ["the engine is berth 9.9.10 here, and berth 9.9.9 in the lock", f"{SMOL} is {OTHER} here, and {ID} in the lock",
                       f"context-size of {SMOL} is 4096 here, and 2048 in the lock",
                       f"temperature of {SMOL} is 0.5 here, and nothing in the lock"]
        self.assertEqual(out.splitlines(), differences)
        rc, out, _ = self.run_with("lock", "--check", "--json", version="9.9.10")
        self.assertEqual((rc, json.loads(out)), (1, {"is_locked": False, "differences": differences}))
        rc, out, err = self.run_with("run", "--locked", "smollm2", "hi")
        self.assertEqual((rc, out), (1, ""))
        self.assertRegex(err, rf"^berth: --locked: smollm2 is {OTHER} here, and {ID} in the lock; context-size of smollm2 is 4096 ")
        self.models.pop(0)
        rc, _, err = self.run_with("run", "--locked", "smollm2", "hi")
        self.assertEqual((rc, err), (1, "berth: --locked: smollm2 is not here; `berth pull --locked smollm2` fetches the lock's bytes\n"))
        rc, _, err = self.run_with("run", "--locked", "one", "hi")
        self.assertEqual((rc, err), (1, "berth: --locked: berth.lock does not name one\n"))

    def test_pull_locked_is_by_digest(self):
        rc, _, err = self.run_with("pull", "--locked", "smollm2")
        self.assertEqual((rc, err), (1, "berth: there is no berth.lock here; `berth lock MODEL...` makes one\n"))
        self.run_with("lock", "smollm2")
        rc, _, _ = self.run_with("pull", "--locked", "ai/smollm2", course=[success("Model pulled successfully", id=ID, name=SMOL)])
        self.assertEqual(rc, 0)
        self.assertEqual(self.stub.asked("POST", "/berth/v1/pull"), [{"model": f"{SMOL}@{ID}"}])

    def test_compose(self):
        self.compose("""
x-base: &base {context_size: 4096}
services:
  api: {image: x, models: [llm]}
  p: {provider: {type: model, options: {model: [ai/one, ai/two], context-size: 128, runtime-flags: "--temp 0"}}}
  other: {provider: {type: awesomecloud, options: {model: nothing}}}
models:
  llm:
    <<: *base
    model: ${LLM:-ai/smollm2}
    runtime_flags: ["--temp", "0.2"]
    gpus: all
    x-runner: {engine: vllm}
""")
        rc, _, err = self.run_with("lock")
        self.assertEqual((rc, err), (0, "berth: compose.yaml:12: Compose itself refuses 'gpus' in a model, and the lock leaves it out\n"))
        models = json.loads(self.lock())["models"]
        self.assertEqual(models, {
            SMOL: {"digest": ID, "parameters": {"context-size": 4096, "runtime-flags": ["--temp", "0.2"]}},
            "docker.io/ai/one:latest": {"digest": ONE, "parameters": {"context-size": 128, "runtime-flags": ["--temp", "0"]}},
            "docker.io/ai/two:latest": {"digest": TWO, "parameters": {"context-size": 128, "runtime-flags": ["--temp", "0"]}}})
        self.assertEqual(self.run_with("lock", "--check")[:2], (0, "3 models are as berth.lock says\n"))
        self.env["LLM"] = "one"
        rc, _, err = self.run_with("lock")
        self.assertEqual(rc, 1)
        self.assertIn("is declared twice, with different parameters", err)
        del self.env["LLM"]
        self.compose("models: {llm: {model: ai/smollm2, context_size: 4096}}")
        rc, out, _ = self.run_with("lock", "--check")
        self.assertEqual((rc, out.splitlines()), (1, [
            f"the parameters of {SMOL} are others in compose.yaml than in the lock",
            "docker.io/ai/one:latest is in the lock, and no longer in compose.yaml",
            "docker.io/ai/two:latest is in the lock, and no longer in compose.yaml"]))

    def test_compose_mistakes(self):
        for text, sentence in (("models: {a: {modle: x}}", r"compose\.yaml:1:14: a model has no 'modle'; did you mean 'model'\?"),
                               ("models:\n  a: {context_size: 5}", r"compose\.yaml:2:6: the model lacks `model: NAME`"),
                               ("models: {a: {model: x, context_size: many}}", r":38: context_size is a whole number"),
                               ("models: {a: {model: '${NONE}'}}", r"the variable NONE is not set"),
                               ("models: {a: {model: '${NONE:?set it}'}}", r"the variable NONE is not set: set it"),
                               ("models: [a]", r"`models` is a mapping|declares no models"),
                               ("models: {a: x}", r"a model is a mapping"), ("a: [", r"compose\.yaml:\d+:\d+: "), ("- a", "is not a mapping"),
                               ("", r"is not a mapping"), ("services: {}", r"compose\.yaml declares no models"),
                               ("models: {a: {model: x, runtime_flags: {b: c}}}", r"runtime_flags is a list of texts"),
                               ("a: &a {<<: *a}\nmodels: {m: {<<: *a}}", r"lacks `model: NAME`|compose\.yaml:\d"),
                               ("models: {m: {model: x", r"compose\.yaml:2:1: ")):
            self.compose(text)
            rc, out, err = self.run_with("lock")
            self.assertEqual((rc, out), (1, ""), text)
            self.assertRegex(err, rf"^berth: .*{sentence}.*\n$", text)
        self.assertFalse(os.path.exists(os.path.join(self.home, "berth.lock")))

    def test_bad_locks(self):
        for text, sentence in (("", "berth.lock"), ("[]", "is no lock"), ('{"version": 2, "engine": "b", "models": {}}', "has version 2"),
                               ('{"version": 1, "engine": "b", "models": {"a": {"digest": "x", "parameters": {}}}}', "the digest of 'a' is none"),
                               ('{"version": 1, "engine": "b", "models": {"a": {"digest": "%s"}}}' % ID, "the parameters of 'a'")):
            self.compose(text, "berth.lock")
            rc, out, err = self.run_with("pull", "--locked", "a")
            self.assertEqual((rc, out), (1, ""), text)
            self.assertIn(sentence, err)
        os.unlink(os.path.join(self.home, "berth.lock"))
        self.assertIn("neither a Compose file nor a berth.lock", self.run_with("lock")[2])
        self.assertIn("exclude each other", self.run_with("lock", "--check", "--apply")[2])

    def test_apply(self):
        self.run_with("lock", "smollm2", "one")
        self.models = [model("two", TWO)]
        done = success("Model pulled successfully", id=ID, name=SMOL)
        # Nothing of it is here: both are fetched by digest; the stand-in stays as it is, so naming fails.
        rc, _, err = self.run_with("lock", "--apply", course=[done])
        self.assertEqual((rc, self.stub.asked("POST", "/berth/v1/pull")), (1, [{"model": f"docker.io/ai/one:latest@{ONE}"}]), err)
        self.models = [dict(MODEL), model("one", ONE)]
        rc, out, err = self.run_with("lock", "--apply")
        self.assertEqual((rc, err), (0, ""), out)
        self.assertEqual(self.stub.asked("POST", "/berth/v1/configure"), [
            {"model": "docker.io/ai/one:latest", "settings": {}, "replace": True},
            {"model": SMOL, "settings": {"context-size": 2048}, "replace": True}])


if __name__ == "__main__":
    unittest.main()
