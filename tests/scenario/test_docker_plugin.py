# SPDX-License-Identifier: Apache-2.0
"""`docker model`: how docker and Compose call the plugin, and its output to the letter; against a stand-in for the daemon where
the letters must be known, against a real one where it must work, and through docker's own client where that is there
(BERTH_TEST_DOCKER: its command)."""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, ROOT  # noqa: E402
from cli_case import LIMIT_S, STORY, CliCase  # noqa: E402
from manager_stub import ID, MODEL, ManagerStub, success  # noqa: E402
from stub_openai import StubOpenAI  # noqa: E402

PACK = {"id": "sha256:" + "ab" * 32, "tags": ["reg.example:5000/team/Pack:V2"], "created": 0,
        "config": {"descriptor": {"createdAt": "2025-01-01T00:00:00Z"}, "modelfs": {"type": "layers", "diffIds": []},
                   "config": {"architecture": "qwen2", "format": "safetensors", "paramSize": "0.5b"}}}
UNTAGGED = {"id": "sha256:" + "cd" * 32, "tags": [], "created": 0, "config": {"format": "gguf", "size": "1.00MiB"}}


class Plugin(CliCase):
    def setUp(self):
        super().setUp()
        folder = os.path.join(self.home, ".docker", "cli-plugins")
        os.makedirs(folder)
        self.plugin = os.path.join(folder, "docker-model")
        os.symlink(BERTH, self.plugin)

    def call(self, *args, stub=None, stdin=b"", **env):
        """(exit status, standard output, standard error)"""
        env = {**self.env, **env}
        if stub:
            env["BERTH_PORT"] = str(stub.port)
        p = subprocess.run([self.plugin, *args], env=env, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=LIMIT_S, cwd=self.home)
        return p.returncode, p.stdout.decode(), p.stderr.decode()

    def good(self, *args, **kw):
        rc, out, err = self.call(*args, **kw)
        self.assertEqual((rc, err), (0, ""), f"{args}: {out}")
        return out


class Protocol(Plugin):
    def test_metadata(self):
        m = json.loads(self.good("docker-cli-plugin-metadata"))
        self.assertEqual(sorted(m), ["SchemaVersion", "ShortDescription", "Vendor", "Version"])
        self.assertEqual(m["SchemaVersion"], "0.1.0")
        self.assertTrue(m["Vendor"])
        # From 1.0.6 on Compose hands runtime flags on.
        self.assertGreaterEqual([int(x) for x in m["Version"].removeprefix("v").split(".")], [1, 0, 6])

    def test_both_ways_of_being_called(self):
        with ManagerStub([MODEL]) as stub:
            alone = self.good("ls", stub=stub)
            for args in (("model", "ls"), ("--context", "x", "model", "ls"), ("-D", "--config=/nowhere", "model", "list"),
                         ("--tlscacert", "f", "--tls", "ls"), ("-H", "tcp://other:1", "model", "ls")):
                self.assertEqual(self.good(*args, stub=stub, DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND="docker"), alone, args)

    def test_where_the_daemon_is(self):
        with ManagerStub([MODEL]) as stub:
            del self.env["BERTH_PORT"]
            self.assertEqual(self.good("ls", "-q", MODEL_RUNNER_HOST=f"http://127.0.0.1:{stub.port}"), "354bf30d0aa3\n")
            self.assertEqual(self.good("ls", "-q", MODEL_RUNNER_HOST=f"localhost:{stub.port}/"), "354bf30d0aa3\n")
            # berth's own variable counts before another program's.
            rc, _, err = self.call("ls", MODEL_RUNNER_HOST=f"http://127.0.0.1:{stub.port}", BERTH_URL="http://127.0.0.1:1",
                                   BERTH_AUTOSTART="no")
            self.assertIn("Docker Model Runner is not running", err)
            rc, _, err = self.call("ls", MODEL_RUNNER_HOST="ftp://x")
            self.assertEqual((rc, err), (1, "the daemon's url 'ftp://x' is none of http://HOST:PORT, https://HOST:PORT and "
                                            "unix:///PATH\n"))
            self.env["BERTH_PORT"] = str(stub.port)

    def test_not_running(self):
        rc, out, err = self.call("ps", MODEL_RUNNER_NO_AUTO_INSTALL="1")
        self.assertEqual((rc, out), (1, ""))
        self.assertTrue(err.startswith("Docker Model Runner is not running. Please start it and try again.\n"), err)
        self.assertIn("\nWhat's next:\n", err)
        rc, out, err = self.call("status")
        self.assertEqual((rc, out), (1, "Docker Model Runner is not running\n"))
        self.assertEqual(self.good("version").splitlines()[4:], ["Server:", " Version:    (not reachable)", " Engine:     Docker Engine"])

    def test_wrong_lines(self):
        usage = "\n\nUsage:  docker model {}\n\nSee 'docker model {} --help' for more information\n"
        for args, sentence in (
                (("pull",), "'docker model pull' requires 1 argument(s)." + usage.format("pull MODEL", "pull")),
                (("tag", "a"), "'docker model tag' requires 2 argument(s)." + usage.format("tag SOURCE TARGET", "tag")),
                (("rm",), "'docker model rm' requires at least 1 argument(s)." + usage.format("rm [OPTIONS] MODEL [MODEL...]", "rm")),
                (("ls", "--oops"), "unknown flag: --oops\n\nUsage:  docker model list [OPTIONS] [MODEL]\n\n"
                                   "Run 'docker model list --help' for more information\n"),
                (("ls", "-qx"), "unknown shorthand flag: 'x' in -qx\n\nUsage:  docker model list [OPTIONS] [MODEL]\n\n"
                                "Run 'docker model list --help' for more information\n"),
                (("configure", "--context-size"), "flag needs an argument: --context-size\n\nUsage:  docker model configure [OPTIONS] "
                                                  "[--context-size=<n>] MODEL [-- <runtime-flags...>]\n\n"
                                                  "Run 'docker model configure --help' for more information\n"),
                (("xyzzy",), "docker: unknown command: docker model xyzzy\n\nRun 'docker model --help' for more information\n")):
            self.assertEqual(self.call(*args), (1, "", sentence), args)
        with open(os.path.join(ROOT, "docs/DOCKER.md"), encoding="utf-8") as f:
            words = re.search(r"\*\*Answered with a sentence only\*\*: (.*?), whatever flags", f.read(), re.S).group(1)
        words = re.findall(r"`([a-z-]+)`", words)
        self.assertEqual(len(words), 11)
        for word in words:
            rc, out, err = self.call(word, "--gpu", "cuda", "x")
            self.assertEqual((rc, out, err.count("\n")), (1, "", 1), err)
            self.assertTrue(err.startswith(f"'docker model {word}' is not what berth does: "), err)

        for flag, args in (("--openaiurl", ("run", "--openaiurl", "http://127.0.0.1:9/v1", "x")), ("--websearch", ("run", "x", "hello", "--websearch"))):
            rc, out, err = self.call(*args)
            self.assertEqual((rc, out, err.count("\n")), (1, "", 1), err)
            self.assertTrue(err.startswith(f"{flag} is not what berth does: "), err)

    def test_help(self):
        top = self.good("--help")
        self.assertIn("\nCommands:\n", top)
        self.assertEqual(self.good("model", "--help"), top)
        self.assertNotIn("install-runner", top)
        page = self.good("ls", "--help")
        self.assertTrue(page.startswith("Usage:  docker model list [OPTIONS] [MODEL]\n\n"), page)
        self.assertIn("\nAliases:\n  docker model list, docker model ls\n", page)
        self.assertRegex(page, r"\n  -q, --quiet +\w")

    def test_completion(self):
        with ManagerStub([MODEL, PACK]) as stub:
            for args, words in ((("__complete", "model", "ru"), ["run\tAsk a model, or converse with it", ":4"]),
                                (("__completeNoDesc", "ru"), ["run", ":4"]),
                                (("__complete", "model", "rm", "sm"), ["smollm2", ":4"]),
                                (("__complete", "rm", "docker.io/"), ["docker.io/ai/smollm2:latest", ":4"]),
                                (("__complete", "show", "reg"), ["reg.example:5000/team/Pack:V2", ":4"]),
                                (("__complete", "show", "smollm2", ""), [":4"]),
                                (("__completeNoDesc", "ls", "--j"), ["--json", ":4"])):
                rc, out, err = self.call(*args, stub=stub)
                self.assertEqual((rc, out.splitlines()), (0, words), args)
                self.assertIn("ShellCompDirectiveNoFileComp", err)

    def test_docker_can_end_it(self):
        """docker closes its socket: the plugin ends as by Ctrl-C."""
        import socket
        path = os.path.join(self.home, "docker.sock")
        with socket.socket(socket.AF_UNIX) as listener, ManagerStub(course=[60]) as stub:
            listener.bind(path)
            listener.listen(1)
            p = subprocess.Popen([self.plugin, "pull", "smollm2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env={**self.env, "BERTH_PORT": str(stub.port), "DOCKER_CLI_PLUGIN_SOCKET": path})
            connection, _ = listener.accept()
            while not stub.asked("POST", "/berth/v1/pull"):
                time.sleep(0.02)
            time.sleep(0.2)
            connection.close()
            out, err = p.communicate(timeout=LIMIT_S)
        self.assertEqual((p.returncode, out, err),
                         (130, b"", b"docker model: interrupted; `docker model pull smollm2` goes on where it stopped\n"))


class Formats(Plugin):
    def test_list(self):
        now = int(time.time())
        models = [{**MODEL, "created": now - 3 * 86400 - 60}, {**UNTAGGED, "created": now - 100 * 86400}, {**PACK, "tags": PACK["tags"] + ["docker.io/ai/Smollm:Q4"]}]
        with ManagerStub(models) as stub:
            out = self.good("list", stub=stub)
            self.assertEqual({len(x) for x in out.splitlines()}, {out.index("\n")})  # the last column is padded, too
            self.assertEqual([x.rstrip() for x in out.splitlines()], [
                "MODEL NAME                     PARAMETERS  QUANTIZATION    ARCHITECTURE  MODEL ID      CREATED       CONTEXT  SIZE",
                "<none>                                                                   cdcdcdcdcdcd  3 months ago           1.00MiB",
                "reg.example:5000/team/Pack:V2  0.5b                        qwen2         abababababab",
                "Smollm:Q4                      0.5b                        qwen2         abababababab",
                "smollm2                        361.82M     IQ2_XXS/Q4_K_M  llama         354bf30d0aa3  3 days ago    8192     256.35MiB"])
            self.assertTrue(out.startswith("MODEL NAME ") and "  SIZE       \n" in out)
            self.assertEqual(self.good("ls", "-q", stub=stub), "cdcdcdcdcdcd\nabababababab\nabababababab\n354bf30d0aa3\n")
            for name in ("smollm2", "ai/smollm2", "docker.io/ai/smollm2:latest"):
                self.assertEqual(self.good("ls", "--quiet", name, stub=stub), "354bf30d0aa3\n", name)
            self.assertEqual(self.good("ls", "-q", "smollm2:other", stub=stub), "")

    def test_list_of_another_server(self):
        with StubOpenAI() as stub:
            out = self.good("ls", "--openaiurl", stub.url + "/v1/", BERTH_API_KEY="secret")
            self.assertEqual([x.split() for x in out.splitlines()], [["MODEL", "NAME", "CREATED"], ["stub-model"]])
            self.assertEqual(stub.list_keys, [None])  # berth's key is berth's
        with ManagerStub(answers={("GET", "/v1/models"): {"data": [{"id": "m", "created": int(time.time()) - 7200}, {}]},
                                  ("GET", "/odd/models"): {"data": 7}}) as stub:
            url = f"http://127.0.0.1:{stub.port}"
            self.assertEqual(self.good("ls", "--openaiurl", url + "/v1").splitlines()[1].split(None, 1), ["m", "2 hours ago  "])
            self.assertEqual(self.call("ls", "--openaiurl", url + "/odd"),
                             (1, "", f"{url}/odd/models: the answer is no list of models as OpenAI's API has it\n"))
        for url, sentence in (("localhost:1/v1", "--openaiurl: 'localhost:1/v1' is no http:// or https:// address\n"),
                              ("http://127.0.0.1:9/" + "x" * 400, "--openaiurl: ")):
            rc, out, err = self.call("ls", "--openaiurl", url)
            self.assertEqual((rc, out, err.startswith(sentence)), (1, "", True), err)

    def test_json_is_go_s(self):
        with ManagerStub([MODEL]) as stub:
            listed = self.good("ls", "--json", stub=stub)
            self.assertEqual(self.good("inspect", "smollm2", stub=stub), json.dumps(MODEL, indent=4) + "\n")
        short = ["docker.io/ai/smollm2:latest", "ai/smollm2:latest", "ai/smollm2", "smollm2:latest", "smollm2"]
        self.assertEqual(listed, json.dumps([{**MODEL, "tags": short}], indent=4) + "\n")

    def test_show(self):
        with ManagerStub([MODEL, PACK]) as stub:
            self.assertEqual(self.good("show", "smollm2", stub=stub), f"""Model:        {ID}
Tags:         docker.io/ai/smollm2:latest
Created:      2025-03-24T11:49:41Z
Format:       gguf
Architecture: llama
Parameters:   361.82M
Size:         256.35MiB
Quantization: IQ2_XXS/Q4_K_M
Context Size: 8192

GGUF Metadata:
  general.name: SmolLM2
""")
            self.assertIn("Architecture: qwen2\nParameters:   0.5b\n", self.good("show", PACK["tags"][0], stub=stub))
            self.assertEqual(self.call("show", "nix", stub=stub), (1, "", "there is no model 'nix' in the store; `docker model list` lists those there are\n"))

    def test_changes(self):
        removed = [{"Untagged": "docker.io/ai/smollm2:latest"}, {"Deleted": ID}]
        answers = {("DELETE", "/models/smollm2"): removed, ("POST", "/models/smollm2/tag"): {"message": "", "target": "x"},
                   ("POST", "/engines/unload"): {"unloaded_runners": 2}, ("DELETE", "/models/purge"): {}}
        with ManagerStub([MODEL], answers=answers) as stub:
            self.assertEqual(self.good("rm", "-f", "smollm2", stub=stub), f"Untagged: docker.io/ai/smollm2:latest\nDeleted: {ID}\n")
            self.assertEqual(stub.requests[-1][:2], ("DELETE", "/models/smollm2?force=true"))
            self.assertEqual(self.good("tag", "smollm2", "me/mine", stub=stub), 'Model "smollm2" tagged successfully with "me/mine"\n')
            self.assertEqual(stub.requests[-1][:2], ("POST", "/models/smollm2/tag?repo=me%2Fmine&tag=latest"))
            self.assertEqual(self.good("unload", "--all", stub=stub), "Unloaded 2 model(s).\n")
            self.assertEqual(self.good("stop", "a", "b", "--backend=vllm", stub=stub), "Unloaded 2 model(s).\n")
            self.assertEqual(stub.asked("POST", "/engines/unload")[-1], {"all": False, "backend": "vllm", "models": ["a", "b"]})
            self.assertIn("[y/N]", self.good("purge", stub=stub, stdin=b"n\n"))
            self.assertNotIn(("DELETE", "/models/purge"), [r[:2] for r in stub.requests])
            self.good("purge", "--force", stub=stub)
            self.assertEqual(stub.requests[-1][:2], ("DELETE", "/models/purge?force=true"))
            rc, _, err = self.call("unload", stub=stub)
            self.assertEqual(rc, 1)
        with ManagerStub(answers={("POST", "/engines/unload"): {"unloaded_runners": 0}}) as stub:
            self.assertEqual(self.good("unload", "--all", stub=stub), "No models are running.\n")
            self.assertEqual(self.good("unload", "x", stub=stub), "No such model(s) running.\n")

    def test_ps_and_df(self):
        zero = "0001-01-01T00:00:00Z"
        used = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 30))
        ps = [{"backend_name": "llama.cpp", "model_name": "docker.io/ai/smollm2:latest", "mode": "completion", "last_used": used,
               "keep_alive": "5m0s"},
              {"backend_name": "vllm", "model_name": "ai/y", "mode": "embedding", "last_used": zero, "loading": True},
              {"backend_name": "vllm", "model_name": "ai/z", "mode": "completion", "last_used": used, "keep_alive": "-1"},
              {"backend_name": "vllm", "model_name": "old", "mode": "completion", "last_used": used, "keep_alive": "10s"}]
        df = {"models_disk_usage": 1234567890, "default_backend_disk_usage": 0}
        with ManagerStub(answers={("GET", "/engines/ps"): ps, ("GET", "/engines/df"): df}) as stub:
            self.assertEqual([x.rstrip() for x in self.good("ps", stub=stub).splitlines()], [
                "MODEL NAME  BACKEND    MODE        UNTIL", "smollm2     llama.cpp  completion  4 minutes from now",
                "y           vllm       embedding   Loading...", "z           vllm       completion  Forever",
                "old         vllm       completion  Expiring"])
            self.assertEqual(self.good("df", stub=stub), "TYPE    SIZE    \nModels  1.23GB  \n")

    def test_pull_lines(self):
        with ManagerStub(course=[success("Using cached model: 256.35MiB", id=ID)]) as stub:
            self.assertEqual(self.good("pull", "smollm2", stub=stub), "Using cached model: 256.35MiB\n")


class Compose(Plugin):
    def test_status_json(self):
        engines = {"llama.cpp": "Running: llama.cpp b1", "vllm": "Not Installed"}
        with ManagerStub(answers={("GET", "/engines/status"): engines}) as stub:
            out = self.good("status", "--json", stub=stub)
            self.assertEqual(out.count("\n"), 1)
            s = json.loads(out)
            self.assertEqual(list(s), ["running", "backends", "kind", "endpoint", "endpointHost"])
            self.assertEqual((s["running"], s["backends"], s["kind"], s["endpointHost"]),
                             (True, engines, "Docker Engine", f"http://127.0.0.1:{stub.port}/v1/"))
            self.assertRegex(s["endpoint"], rf"^http://[\d.]+:{stub.port}/v1/$")
            self.assertEqual([x.rstrip() for x in self.good("status", stub=stub).splitlines()], [
                "Docker Model Runner is running", "", "BACKEND    STATUS         DETAILS", "llama.cpp  Running        llama.cpp b1",
                "vllm       Not Installed"])

    def test_nothing_beside_the_json(self):
        """Compose reads both streams as one; here with a daemon that has to be started first."""
        for args in (["ls", "--json"], ["status", "--json"]):
            p = subprocess.run([self.plugin, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT_S)
            self.assertEqual(p.returncode, 0, p.stdout)
            json.loads(p.stdout)
            subprocess.run([BERTH, "stop", "--daemon"], env=self.env, stdout=subprocess.DEVNULL, timeout=LIMIT_S)

    def test_configure(self):
        with ManagerStub(answers={("POST", "/engines/_configure"): {}}) as stub:
            for args, body in (
                    (("--context-size", "4096", "ai/x"), {"model": "ai/x", "context-size": 4096}),
                    (("--context-size=-1", "ai/x"), {"model": "ai/x", "context-size": -1}),
                    (("ai/x", "--", "--temp", "0.2"), {"model": "ai/x", "runtime-flags": ["--temp", "0.2"]}),
                    (("--keep-alive", "-1", "--mode", "embedding", "ai/x"), {"model": "ai/x", "mode": "embedding", "keep_alive": "-1"}),
                    (("--gpu-memory-utilization", "0.5", "--hf_overrides", '{"a": 1}', "ai/x"),
                     {"model": "ai/x", "vllm": {"gpu-memory-utilization": 0.5, "hf-overrides": {"a": 1}}}),
                    (("--speculative-draft-model", "d", "--speculative-num-tokens", "3", "ai/x"),
                     {"model": "ai/x", "speculative": {"num_tokens": 3, "draft_model": "d"}})):
                self.assertEqual(self.good("configure", *args, stub=stub), "")
                self.assertEqual(stub.asked("POST", "/engines/_configure")[-1], body)
            for args, sentence in ((("--gpu-memory-utilization", "2", "x"), "not a number from 0 to 1"),
                                   (("--hf_overrides", '{"max_model_len": 8}', "x"), "say --context-size N"),
                                   (("--hf_overrides", '{"gpu_memory_utilization": 0.8}', "x"), "leave it out, this engine runs on the processor"),
                                   (("--hf_overrides", "[]", "x"), "is not an object"), (("a", "b"), "Exactly one model")):
                rc, out, err = self.call("configure", *args, stub=stub)
                self.assertEqual((rc, out), (1, ""))
                self.assertIn(sentence, err)

    def test_provider(self):
        m = json.loads(self.good("compose", "metadata"))
        self.assertEqual(m["description"], "Docker Model Runner")
        self.assertEqual(m["down"], {"parameters": None})
        up = m["up"]["parameters"]
        self.assertEqual([p["name"] for p in up], sorted(p["name"] for p in up))
        self.assertEqual([p["name"] for p in up if p["required"]], ["model"])
        self.assertEqual({p["name"]: p.get("default") for p in up}["context-size"], "-1")
        with ManagerStub([MODEL], answers={("POST", "/engines/_configure"): {}}) as stub:
            out = self.good("compose", "--project-name=p", "up", "--model=smollm2", "--context-size", "512", "--runtime-flags", "--temp 0",
                            "svc", stub=stub)
            lines = [json.loads(x) for x in out.splitlines()]
            self.assertEqual([x["message"] for x in lines if x["type"] == "info"], [
                "Initializing model runner...", "Setting context size to 512", "Setting raw runtime flags to --temp 0",
                "Successfully configured backend for model smollm2"])
            self.assertEqual([x["message"].split("=")[0] for x in lines if x["type"] == "setenv"], ["URL", "MODEL"])
            self.assertRegex(lines[-2]["message"], rf"^URL=http://[\d.]+:{stub.port}/engines/v1/$")
            self.assertEqual(lines[-1]["message"], "MODEL=smollm2")
            self.assertEqual(stub.asked("POST", "/engines/_configure"),
                             [{"model": "smollm2", "context-size": 512, "raw-runtime-flags": "--temp 0"}])
            out = self.good("compose", "--project-name=p", "up", "--model=smollm2", "--speculative-draft-model", "smollm2",
                            "--speculative-num-tokens", "3", "--speculative-min-acceptance-rate", "0.5", "svc", stub=stub)
            self.assertIn("Enabling speculative decoding with draft model: smollm2", out)
            self.assertEqual(stub.asked("POST", "/engines/_configure")[-1], {"model": "smollm2", "speculative": {
                "draft_model": "smollm2", "num_tokens": 3, "min_acceptance_rate": 0.5}})
            rc, out, _ = self.call("compose", "--project-name=p", "up", "svc", stub=stub)
            self.assertEqual((rc, json.loads(out.splitlines()[-1])["type"]), (1, "error"))
        self.assertEqual(self.good("compose", "--project-name=p", "down", "svc"), "")


class Real(Plugin):
    """With a daemon of berth's own."""

    def test_round(self):
        rc, out, _ = self.call("run", "stories", "Once upon a time", "--color", "no")
        self.assertEqual((rc, bool(out)), (0, True))
        self.assertRegex(self.good("ps"), r"(?m)^stories +llama\.cpp +completion +\d minutes from now +$")
        self.assertEqual(self.good("configure", "--context-size", "512", "stories", "--", "--threads", "1", "--temp", "0"), "")
        shown = json.loads(self.good("configure", "show", "stories"))
        self.assertEqual((shown[0]["Backend"], shown[0]["Config"]["context-size"]), ("llama.cpp", 512))
        self.assertEqual(self.good("run", "stories", "Once upon a time")[:len(STORY)], STORY)
        self.assertEqual(self.good("stop", "stories"), "Unloaded 1 model(s).\n")
        self.assertEqual(self.good("run", "-d", "stories"), "")
        self.assertRegex(self.good("ps"), r"(?m)^stories ")
        rc, _, err = self.call("run", "--backend", "vllm", "stories", "x")
        self.assertEqual((rc, err), (1, 'backend "vllm" is not installed: models are answered by llama.cpp\n'))

    def test_bench(self):
        for name in ("stories", "stories-chat"):  # answers end there
            self.assertEqual(self.call("configure", "--context-size", "128", name)[0], 0)
        self.call("run", "-d", "stories")
        for name in ("stories", "stories-chat"):  # one without a chat template
            rc, out, err = self.call("bench", name, "--concurrency", "1,2", "--duration", "1s", "--prompt", "Once upon", "--json")
            self.assertEqual(rc, 0, err)
            b = json.loads(out)
            self.assertEqual((b["model"], b["prompt"], [x["Concurrency"] for x in b["results"]]), (name, "Once upon", [1, 2]))
            for x in b["results"]:
                self.assertEqual((sum(x["TokenCounts"]), len(x["TokenCounts"])), (x["TotalTokens"], x["Requests"]))
                self.assertAlmostEqual(x["TPS"], x["TotalTokens"] / (x["TotalTime"] / 1e9), 3)
        self.assertRegex(self.good("bench", "stories", "--concurrency", "1", "--duration", "1s"),
                         r"(?m)^CONCURRENCY +TPS +RPS +REQUESTS +TOKENS +TIME\n1( +[\d.]+){4} +[\d.]+s$")

    def test_docker(self):
        docker = shlex.split(os.environ.get("BERTH_TEST_DOCKER", "")) or [shutil.which("docker")]
        if not docker[0]:
            self.skipTest("docker's client is not installed: the plugin was NOT called by it (BERTH_TEST_DOCKER names one)")
        env = {**self.env, "DOCKER_CONFIG": os.path.join(self.home, ".docker")}

        def run(*args):
            p = subprocess.run([*docker, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT_S)
            return p.returncode, p.stdout.decode(), p.stderr.decode()

        self.assertIn("Docker Model Runner (berth", run("info")[1])
        rc, out, err = run("model", "run", "-d", "stories")
        self.assertEqual((rc, out), (0, ""), err)
        self.assertRegex(run("model", "ps")[1], r"(?m)^stories ")
        self.assertEqual(run("--log-level", "error", "model", "stop", "stories"), (0, "Unloaded 1 model(s).\n", ""))
        self.assertEqual(run("__complete", "model", "unl")[1], "unload\tEnd models that run\n:4\n")
        rc, _, err = run("model", "pull")
        self.assertEqual((rc, err.splitlines()[0]), (1, "'docker model pull' requires 1 argument(s)."))


if __name__ == "__main__":
    unittest.main()
