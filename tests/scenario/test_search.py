# SPDX-License-Identifier: Apache-2.0
"""`berth search` and `docker model search` by way of a daemon, against stand-ins for Docker Hub and Hugging Face on loopback."""
import json
import os
import subprocess
import sys
import unittest
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import registry_server as rs  # noqa: E402
from berth_test import BERTH, Daemon, SLOW  # noqa: E402
from cli_case import CliCase  # noqa: E402

DOCKER = [{"name": "smollm2", "description": "A tiny model", "pull_count": 5000, "star_count": 3, "last_updated": "2025-03-24T12:34:56Z"},
          {"name": "qwen3-vllm", "short_description": "x" * 60, "pull_count": 1234567, "star_count": 20}]
FACE = [{"id": "Org/Tiny-GGUF", "downloads": 7, "likes": 2, "tags": ["gguf", "safetensors"], "pipeline_tag": "text-generation"},
        {"modelId": "org/raw", "downloads": 90, "likes": 0, "tags": ["safetensors"]}]
TABLE = """\
NAME                 DESCRIPTION                                         BACKEND    SIZE  DOWNLOADS  STARS  SOURCE        
ai/qwen3-vllm        xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...  vllm       n/a   1.23M      20     Docker Hub    
ai/smollm2           A tiny model                                        llama.cpp  n/a   5.00K      3      Docker Hub    
hf.co/org/raw                                                            vllm       n/a   90         0      Hugging Face  
hf.co/Org/Tiny-GGUF  text-generation                                     llama.cpp  n/a   7          2      Hugging Face  
"""


class Hubs(rs.Registry):
    """Both hubs at one address; docker and face are what they answer: rows, or bytes, or a status."""
    docker, face = DOCKER, FACE

    def answer(self, method, target, headers, body):
        path, _, query = target.partition("?")
        said = {"/v2/repositories/ai/": self.docker, "/api/models": self.face}.get(path, 404)
        if isinstance(said, int):
            return said, {}, b'{"error":"\\u001b[31mbroken"}'
        if isinstance(said, list):
            said = json.dumps(said if path == "/api/models" else {"count": len(said), "results": said}).encode()
        return 200, {"Content-Type": "application/json"}, said


class Search(CliCase):
    def setUp(self):
        super().setUp()
        self.hubs = Hubs()
        self.hubs.__enter__()
        self.addCleanup(self.hubs.__exit__, None, None, None)
        self.env.update(BERTH_HF_ENDPOINT=self.hubs.url, BERTH_HUB_SEARCH_ENDPOINT=self.hubs.url)
        self.plugin = os.path.join(self.home, "docker-model")
        os.symlink(BERTH, self.plugin)
        self.ok("list", "-q")  # the daemon starts here, and says so here

    def docker(self, *args):
        p = subprocess.run([self.plugin, "search", *args], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, timeout=60 * SLOW)
        return p.returncode, p.stdout.decode(), p.stderr.decode()

    def names(self, *args):
        rc, out, err = self.berth("search", "--json", *args)
        self.assertEqual((rc, err), (0, ""))
        return [x["Name"] for x in json.loads(out)]

    def asked(self):
        out = [urllib.parse.urlsplit(path) for _, path, _ in self.hubs.requests]
        self.hubs.requests.clear()
        return [(u.path, urllib.parse.parse_qs(u.query)) for u in out]

    def test_table_and_json(self):
        self.assertEqual(self.docker("tiny & more/é"), (0, TABLE, ""))
        (d, dq), (f, fq) = self.asked()
        self.assertEqual((d, dq), ("/v2/repositories/ai/", {"page_size": ["32"], "name": ["tiny & more/é"]}))
        self.assertEqual((f, fq["search"], fq["limit"], fq["apps"]), ("/api/models", ["tiny & more/é"], ["32"], ["llama.cpp,vllm"]))
        rc, out, err = self.docker("--json")
        self.assertEqual((rc, err), (0, ""))
        self.assertEqual(json.loads(out)[1],
                         {"Name": "ai/smollm2", "Description": "A tiny model", "Downloads": 5000, "Stars": 3, "Source": "Docker Hub",
                          "Official": True, "UpdatedAt": "2025-03-24T12:34:56Z", "Backend": "llama.cpp", "Size": ""})
        self.assertEqual([x["Official"] for x in json.loads(out)], [True, True, False, False])
        rc, out, err = self.berth("search")
        self.assertEqual((rc, [x.rstrip() for x in out.splitlines()], err), (0, [x.rstrip() for x in TABLE.splitlines()], ""))

    def test_sources_and_limits(self):
        for names, path in ((("dockerhub", "docker", "hub"), "/v2/repositories/ai/"), (("huggingface", "hf"), "/api/models")):
            for name in names:
                self.names("--source", name)
                self.assertEqual([p for p, _ in self.asked()], [path])
        self.hubs.docker = [{**DOCKER[0], "name": f"m{i}"} for i in range(300)]
        self.assertEqual(len(self.names("--source", "hub")), 32)
        self.assertEqual(len(self.names("--source", "hub", "-n", "100")), 100)
        self.assertEqual(self.names("-n", "1"), ["ai/m0", "hf.co/Org/Tiny-GGUF"])
        self.hubs.requests.clear()
        for args in (("-n", "0"), ("-n", "101"), ("-n", "x"), ("--source", "elsewhere"), ("x" * 201,)):
            self.assertNotEqual(self.berth("search", *args)[0], 0, args)
            rc, out, err = self.docker(*args)
            self.assertEqual((rc, out), (1, ""), args)
            self.assertTrue(err)
        self.assertEqual(self.asked(), [])
        self.hubs.docker = self.hubs.face = []
        self.assertEqual(self.docker("nothing"), (0, "", "no model was found\n"))
        self.assertEqual(self.names("nothing"), [])

    def test_hostile_answers(self):
        bad = "\x1b[2J\u009b1m\u202eevil\u0000\n\n end\u2066"
        self.hubs.docker = [{**DOCKER[0], "description": bad, "pull_count": -5, "star_count": "many", "last_updated": {}},
                            {"name": "../../etc"}, {"name": "a\x1b[m"}, {"name": 7}, {"name": "n" * 5000}, {"name": ""}, 5, None, []]
        self.hubs.face = [{"id": x} for x in ("noslash", "a/b/c", "/x", "x/", "a/../b", "a b/c", "-a/b", "ok/x", "a/b?c")] + \
            [{"id": "org/y", "tags": "gguf", "downloads": 1e300}, {"id": "org/z", "tags": [None, 5, "gguf"], "pipeline_tag": "d" * 100000}]
        rc, out, err = self.berth("search", "--json")
        self.assertEqual((rc, err), (0, ""))
        rows = {x["Name"]: x for x in json.loads(out)}
        self.assertEqual(sorted(rows), ["ai/smollm2", "hf.co/ok/x", "hf.co/org/y", "hf.co/org/z"])
        r = rows["ai/smollm2"]
        self.assertEqual((r["Description"], r["Downloads"], r["Stars"], r["UpdatedAt"]), ("[2J 1m evil end", 0, 0, ""))
        self.assertEqual((rows["hf.co/org/z"]["Backend"], len(rows["hf.co/org/z"]["Description"])), ("llama.cpp", 300))
        self.assertNotRegex(self.docker()[1], "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")

    def test_one_source_fails(self):
        for said in (500, 403, b"<html>", b"[" * 100000, b'{"results":5}', b'{"results":[]', b"", b" " * (5 << 20)):
            self.hubs.docker, self.hubs.face = said, FACE
            rc, out, err = self.docker("--json")
            self.assertEqual((rc, [x["Source"] for x in json.loads(out)]), (0, ["Hugging Face"] * 2), str(said)[:20])
            self.assertRegex(err, r"\Awarning: searching Docker Hub: [^\n\x1b]+\n\Z")
            self.hubs.docker, self.hubs.face = DOCKER, said
            rc, out, err = self.docker("--json")
            self.assertEqual((rc, len(json.loads(out))), (0, 2))
            self.assertRegex(err, r"\Awarning: searching Hugging Face: [^\n\x1b]+\n\Z")
            rc, out, err = self.docker("--source", "hf")
            self.assertEqual((rc, out), (1, ""))
            self.assertRegex(err, r"\Asearching Hugging Face: [^\n\x1b]+\n\Z")
        self.hubs.docker = self.hubs.face = 500
        self.refused(1, "searching Docker Hub: .*500", "search")


class Api(unittest.TestCase):
    def test_parameters(self):
        env = {"BERTH_HF_ENDPOINT": "http://127.0.0.1:9", "BERTH_HUB_SEARCH_ENDPOINT": "http://127.0.0.1:9"}
        with Daemon(models_dir="/nonexistent-models", env=env, timeout=60 * SLOW) as d:
            for query in ("limit=0", "limit=101", "limit=-1", "limit=1e1", "source=x", "q=" + "x" * 201, "limit="):
                status, _, body = d.get("/berth/v1/search?" + query)
                self.assertEqual((status, body["error"]["code"]), (400, "invalid_value"), query)
            status, _, body = d.get("/berth/v1/search")
            self.assertGreaterEqual(status, 500, body)
            self.assertIn("searching Docker Hub", body["error"]["message"])


if __name__ == "__main__":
    unittest.main()
