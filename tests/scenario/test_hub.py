# SPDX-License-Identifier: Apache-2.0
"""Models of the hub: revisions, listings, which files are taken, resume, verification; against a stand-in on loopback."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import registry_server as rs  # noqa: E402
from berth_test import MODELS  # noqa: E402
from hub_server import Hub  # noqa: E402
from registry_case import RegistryCase, noise  # noqa: E402

QUANTS = ("Q2_K", "Q4_K_M", "Q4_K_S", "Q8_0", "BF16", "IQ4_XS")


class HubCase(RegistryCase):
    def hub(self, files=None, **kw):
        if files is None:
            files = {f"Model-{q}.gguf": noise(40_000 + i, i) for i, q in enumerate(QUANTS)}
            files |= {"README.md": b"# read me\n" * 20, "LICENSE": b"do what you like\n", ".gitattributes": b"*.gguf lfs\n"}
        h = Hub(files=files, **kw)
        h.__enter__()
        self.addCleanup(h.__exit__, None, None, None)
        return h

    def pull(self, h, name="hf.co/Org/Repo-GGUF", **kw):
        return self.tool("pull", name, hub=h.url, **kw)

    def manifest(self, store=None):
        """(manifest, config) of the newest result."""
        m = json.loads(self.blob(self.lines[-1]["digest"], store))
        return m, json.loads(self.blob(m["config"]["digest"], store))

    def taken(self, store=None):
        return [(x["mediaType"].rsplit(".", 1)[-1], rs.digest_of(self.blob(x["digest"], store))) for x in self.manifest(store)[0]["layers"]]


class Choosing(HubCase):
    def test_the_usual_one(self):
        h = self.hub()
        r = self.pull(h)
        self.assertEqual(r["name"], "huggingface.co/org/repo-gguf:latest")
        m, c = self.manifest()
        self.assertEqual([x["digest"] for x in m["layers"]], [rs.digest_of(h.files["Model-Q4_K_M.gguf"]), rs.digest_of(h.files["LICENSE"])])
        self.assertEqual(m["config"]["mediaType"], "application/vnd.docker.ai.model.config.v0.1+json")
        self.assertEqual((c["config"]["format"], c["descriptor"]["created"]), ("gguf", "2025-03-24T12:34:56Z"))
        self.check_store()
        again = self.pull(h)
        self.assertEqual((again["digest"], again["cached"]), (r["digest"], True))

    def test_a_real_model_is_described(self):
        with open(os.path.join(MODELS, "stories.gguf"), "rb") as f:
            data = f.read()
        h = self.hub({"stories-Q4_K_M.gguf": data})
        self.pull(h, progress=1)
        c = self.manifest()[1]["config"]
        self.assertEqual((c["format"], c["architecture"]), ("gguf", "llama"))
        self.assertTrue(c["parameters"] and c["context_size"] > 0 and c["gguf"]["general.architecture"] == "llama", c)
        self.assertFalse(any(x.get("warning") for x in self.lines))

    def test_another_by_tag_whatever_its_case(self):
        h = self.hub()
        for tag, file in (("q8_0", "Q8_0"), ("bf16", "BF16"), ("IQ4_XS", "IQ4_XS"), ("Q4_K_S", "Q4_K_S")):
            self.pull(h, f"hf.co/Org/Repo-GGUF:{tag}")
            self.assertEqual(self.taken()[0][1], rs.digest_of(h.files[f"Model-{file}.gguf"]))

    def test_one_that_is_not_there_is_refused(self):
        message = None
        h = self.hub()
        message = self.fails("not_found", "pull", "hf.co/Org/Repo-GGUF:Q5_K_M", hub=h.url)
        for q in QUANTS:
            self.assertIn(q, message)
        self.assertEqual(self.names(), {})
        self.assertIn("could be", self.fails("invalid", "pull", "hf.co/Org/Repo-GGUF:Q4_K", hub=h.url))

    def test_no_q4_k_m(self):
        h = self.hub({"b-Q8_0.gguf": noise(2000, 1), "a-Q6_K.gguf": noise(2000, 2)})
        self.pull(h, progress=1)
        self.assertTrue(any(x.get("warning") and "Q6_K is taken" in x["note"] for x in self.lines))
        self.assertEqual(self.taken()[0][1], rs.digest_of(h.files["a-Q6_K.gguf"]))

    def test_shards_stay_together(self):
        files = {f"Q8_0/m-Q8_0-0000{i}-of-00003.gguf": noise(3000, i) for i in (1, 2, 3)}
        h = self.hub({**files, "m-Q4_K_M.gguf": noise(3000, 9), "mmproj-m-F32.gguf": noise(3000, 5), "mmproj-m-f16.gguf": noise(3000, 6)})
        self.pull(h, "hf.co/Org/Repo-GGUF:Q8_0")
        self.assertEqual([d for _, d in self.taken()][:3], [rs.digest_of(files[k]) for k in sorted(files)])
        self.assertEqual(self.taken()[3][1], rs.digest_of(h.files["mmproj-m-f16.gguf"]))
        del h.files["Q8_0/m-Q8_0-00002-of-00003.gguf"]
        self.assertIn("of its 3 shards", self.fails("format", "pull", "hf.co/Org/Repo-GGUF:Q8_0", hub=h.url))

    def test_a_folder_of_safetensors(self):
        files = {"model-00001-of-00002.safetensors": noise(5000, 1), "model-00002-of-00002.safetensors": noise(5000, 2),
                 "consolidated.safetensors": noise(9000, 3), "config.json": b'{"a":1}', "tokenizer.json": b"{}" * 3000, "README.md": b"x",
                 "tokenizer.model": noise(4000, 4), "1_Pooling/config.json": b'{"b":2}', "onnx/model.onnx": noise(5000, 5),
                 "pytorch_model.bin": noise(6000, 6), ".gitattributes": b"x", "chat_template.jinja": b"{{ x }}"}
        h = self.hub(files)
        self.pull(h)
        m, _ = self.manifest()
        self.assertEqual(m["config"]["mediaType"], "application/vnd.docker.ai.model.config.v0.2+json")
        paths = {x["annotations"]["org.cncf.model.filepath"] for x in m["layers"]}
        self.assertEqual(paths, set(files) - {"consolidated.safetensors", "onnx/model.onnx", "pytorch_model.bin", ".gitattributes"})
        for x in m["layers"]:
            self.assertEqual(self.blob(x["digest"]), files[x["annotations"]["org.cncf.model.filepath"]])
        self.assertIn("@Q4_K_M", self.fails("not_found", "pull", "hf.co/Org/Repo-GGUF:Q4_K_M", hub=h.url))

    def test_nothing_to_run(self):
        self.assertIn("no GGUF", self.fails("unsupported", "pull", "hf.co/Org/Repo-GGUF", hub=self.hub({"README.md": b"x"}).url))

    def test_pages_and_hostile_paths(self):
        h = self.hub(page=2)
        h.entries = [{"type": "file", "oid": "1" * 40, "size": 5, "path": p} for p in ("../../x.gguf", "/etc/x.gguf", "a\\b.gguf")]
        self.pull(h)
        self.assertEqual(self.taken()[0][1], rs.digest_of(h.files["Model-Q4_K_M.gguf"]))
        self.assertGreater(len(h.asked("GET", "/tree/")), 4)

    def test_a_page_elsewhere(self):
        h = self.hub(page=2)
        other = self.hub({})
        h.fault("GET", "/tree/", lambda x, status, headers, body: x.answer(
            status, {"Link": f'<{other.url}/api>; rel="next"'}, body), times=9)
        self.fails("denied", "pull", "hf.co/Org/Repo-GGUF", hub=h.url)
        self.assertEqual(other.requests, [])


class Revisions(HubCase):
    def test_becomes_a_commit(self):
        h = self.hub()
        h.revisions["refs/pr/1"] = h.COMMIT
        self.assertEqual(self.pull(h, "hf.co/Org/Repo-GGUF:Q8_0@refs/pr/1")["name"], "huggingface.co/org/repo-gguf:Q8_0@refs/pr/1")
        self.assertTrue(h.asked("GET", "/revision/refs%2Fpr%2F1"))
        self.assertTrue(all(h.COMMIT in x[1] for x in h.asked("GET", "/resolve/")))
        self.pull(h, f"hf.co/Org/Repo-GGUF@{h.COMMIT}")
        self.assertIn("nope", self.fails("not_found", "pull", "hf.co/Org/Repo-GGUF@nope", hub=h.url))

    def test_no_such_model(self):
        message = self.fails("auth", "pull", "hf.co/Org/Other", hub=self.hub().url)
        self.assertIn("hf-token", message)
        self.assertIn("if there is such a model", message)


class Carrying(HubCase):
    def test_from_elsewhere_without_the_token(self):
        cdn = self.hub()
        h = self.hub(cdn=cdn, token="hf_secret")
        self.assertIn("hf-token", self.fails("auth", "pull", "hf.co/Org/Repo-GGUF", hub=h.url))
        self.pull(h, hub_token="hf_secret")
        self.check_store()
        self.assertTrue(cdn.asked("GET", "/cdn/"))
        for _, _, headers in cdn.requests:
            self.assertNotIn("authorization", headers)
        self.pull(h, bearer="hf_secret", store=os.path.join(self.dir, "s2"))

    def test_resumes(self):
        cdn = self.hub()
        h = self.hub(cdn=cdn)
        for part in (0.01, 0.5, 0.999):
            cdn.fault("GET", "/cdn/", rs.reset(part))
        self.pull(h)
        ranges = [int(r[2].get("range", "bytes=0-")[6:-1]) for r in cdn.asked("GET", "/cdn/")]
        self.assertEqual(ranges, sorted(set(ranges)))
        self.check_store()

    def test_other_bytes_are_not_taken(self):
        for name, code in (("Q4_K_M", "corrupt"), ("LICENSE", "corrupt")):
            h = self.hub()
            h.fault("GET", f"/resolve/.*{name}", rs.wrong_bytes, times=99)
            self.assertIn(name, self.fails(code, "pull", "hf.co/Org/Repo-GGUF", hub=h.url))
            self.check_store()
            self.assertEqual(self.names(), {})

    def test_the_hub_is_tired(self):
        h = self.hub()
        h.fault("GET", "/tree/", rs.refuse(429, Retry_After="1"))
        h.fault("GET", "/revision/", rs.refuse(503))
        self.pull(h)

    def test_what_it_says_makes_no_sense(self):
        for path, answer in (("/revision/", b'{"sha":"../../x"}'), ("/revision/", b"<html>"), ("/tree/", b"{}"),
                             ("/tree/", b'[{"type":"file","path":"a.gguf","size":-1,"oid":"x"}]'), ("/tree/", b'[1]')):
            h = self.hub()
            h.fault("GET", path, lambda x, s, hd, b, answer=answer: x.answer(200, {}, answer), times=9)
            with self.subTest(answer=answer):
                with self.assertRaises(AssertionError) as c:
                    self.pull(h)
                self.assertIn(c.exception.error, ("format", "invalid"))


if __name__ == "__main__":
    unittest.main()
