# SPDX-License-Identifier: Apache-2.0
"""The commands that manage: what is set, what is declared, how the daemon is, what it logs, what it takes; each for
people and as JSON."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, MODELS  # noqa: E402
from cli_case import LIMIT_S, CliCase  # noqa: E402

STORIES = os.path.join(MODELS, "stories.gguf")


class Config(CliCase):
    def config(self, text, name=".config/berth/config"):
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def shown(self, key, *args, **env):
        v = json.loads(self.ok("config", "show", key, "--json", *args, **env))
        return v["value"], v["source"], v["origin"]

    def test_show_tells_where_from(self):
        path = self.config("# mine\nthreads = 3\nkeep-alive = 1h\napi-key = hunter2 # never shown\ncpu = avx2\n")
        self.assertEqual(self.shown("max-num-seqs"), (0, "default", "default"))
        self.assertEqual(self.shown("threads"), (3, "file", path + ":2"))
        self.assertEqual(self.shown("threads", BERTH_THREADS="4"), (4, "environment", "BERTH_THREADS"))
        self.assertEqual(self.shown("threads", "--threads", "5", BERTH_THREADS="4"), (5, "flag", "--threads"))
        self.assertEqual(self.shown("max-model-len", BERTH_CTX_SIZE="9"), (9, "environment", "BERTH_CTX_SIZE"))
        self.assertEqual(self.shown("keep-alive")[0], 3600)
        self.assertEqual(self.shown("request-timeout")[0], -1)
        self.assertEqual(self.shown("api-key")[0], True)
        self.assertEqual(self.ok("config", "show", "api-key"), "(set)\n")
        self.assertEqual(self.ok("config", "show", "keep-alive"), "1h\n")
        table = self.ok("config", "show")
        self.assertRegex(table, rf"(?m)^api-key +\(set\) +{re.escape(path)}:4$")
        self.assertRegex(table, r"(?m)^host +127\.0\.0\.1 +default$")
        everything = json.loads(self.ok("config", "show", "--json"))
        self.assertEqual([x["key"] for x in everything], [x.split()[0] for x in table.splitlines()[1:]])
        self.assertNotIn("hunter2", table + json.dumps(everything))
        self.refused(2, "there is no option 'thread'; did you mean 'threads'\\?", "config", "show", "thread")

    def test_files(self):
        mine = os.path.join(self.home, ".config/berth/config")
        rc, out, err = self.berth("config", "path")
        if not os.path.exists("/etc/berth/config"):
            self.assertEqual((rc, out), (0, mine + "\n"))
            self.assertIn("there is no such file yet", err)
        other = self.config("port = 7\n", "other")
        self.config("port = 8\n")
        del self.env["BERTH_PORT"]
        self.assertEqual(json.loads(self.ok("config", "path", "--json")), {"path": mine, "exists": True})
        self.assertEqual(self.ok("config", "path", BERTH_CONFIG=other), other + "\n")
        self.assertEqual(self.ok("config", "show", "port"), "8\n")
        self.assertEqual(self.ok("config", "show", "port", BERTH_CONFIG=other), "7\n")
        self.assertEqual(self.ok("config", "show", "port", "--config", mine, BERTH_CONFIG=other), "8\n")
        self.refused(2, "there is no configuration file /nowhere; name one", "list", "--config", "/nowhere")
        self.refused(2, "is a folder", "version", BERTH_CONFIG=self.home)
        self.assertEqual(self.ok("config", "check"), mine + ": no mistakes\n")
        bad = self.config("prot = 1\nthreads = many\nthreads = 2\n\nhost\n", "bad")
        rc, out, err = self.berth("config", "check", bad)
        self.assertEqual((rc, out), (1, ""))
        self.assertEqual([x.split(": ")[1] for x in err.splitlines()], [f"{bad}:{n}" for n in (1, 2, 3, 5)])
        self.assertIn("did you mean 'port'?", err)
        rc, out, err = self.berth("config", "check", bad, "--json")
        self.assertEqual((rc, err, len(json.loads(out)["mistakes"])), (1, "", 4))
        # A mistake in a name stops every command, one in a value those that read it.
        self.refused(2, f"{re.escape(bad)}:1: there is no option 'prot'", "version", "--config", bad)
        bad = self.config("hang-timeout = x\n", "bad")
        self.ok("version", "--config", bad)
        self.refused(2, "hang-timeout: 'x' is not a whole number", "serve", "--config", bad)
        self.env["BERTH_PORT"] = "1"

    def test_environment(self):
        rc, _, err = self.berth("version", BERTH_THRAEDS="3")
        self.assertEqual((rc, err), (0, "berth: BERTH_THRAEDS in the environment means nothing to berth; "
                                        "did you mean BERTH_THREADS?\n"))


    def test_another_programs_variables(self):
        self.assertEqual(self.shown("url", MODEL_RUNNER_HOST="http://h:1"), ("http://h:1", "environment", "MODEL_RUNNER_HOST"))
        self.assertEqual(self.shown("url", MODEL_RUNNER_HOST="http://h:1", BERTH_URL="http://i:2"),
                         ("http://i:2", "environment", "BERTH_URL"))
        self.assertEqual(self.shown("history", DOCKER_MODEL_NOHISTORY="1"), (False, "environment", "DOCKER_MODEL_NOHISTORY"))
        self.assertEqual(self.shown("autostart", MODEL_RUNNER_NO_AUTO_INSTALL=""), (True, "default", "default"))

    def test_url(self):
        """Which of the addresses counts, as the sentence about it tells."""
        port = self.env.pop("BERTH_PORT")
        for env, place in (({"MODEL_RUNNER_HOST": "http://127.0.0.1:7"}, "http://127.0.0.1:7"),
                           ({"MODEL_RUNNER_HOST": "localhost:7/"}, "http://localhost:7"),
                           ({"BERTH_URL": "http://[::1]:7"}, "http://[::1]:7"), ({"BERTH_URL": "https://127.0.0.1:7"}, "https://127.0.0.1:7"),
                           ({"BERTH_URL": "unix:///no/where"}, "/no/where"),
                           ({"MODEL_RUNNER_HOST": "http://127.0.0.1:7", "BERTH_PORT": "8"}, "http://127.0.0.1:8"),
                           ({"BERTH_URL": "http://127.0.0.1:7", "BERTH_PORT": "8"}, "http://127.0.0.1:7")):
            _, _, err = self.berth("ps", **env)
            self.assertEqual(err, f"berth: no daemon listens on {place}\n", env)
        self.assertIn("http://127.0.0.1:9\n", self.berth("ps", "--port", "9", BERTH_URL="http://127.0.0.1:7")[2])
        for bad in ("ftp://h:1", "http://", "http://h:99999", "http://h:1/path", "unix://x", "http://h:"):
            self.refused(1, "is none of http://HOST:PORT, https://HOST:PORT and unix:///PATH", "ps", BERTH_URL=bad)
        self.refused(1, "starts one \\(autostart is off\\)", "run", "stories", "x", "--autostart=no", BERTH_URL="http://127.0.0.1:7")
        self.env["BERTH_PORT"] = port


class Daemon(CliCase):
    def test_status(self):
        rc, out, err = self.berth("status")
        self.assertEqual(rc, 1)
        self.assertRegex(out, r"^berth is not running on http://127\.0\.0\.1:\d+\n$")
        self.assertIn("`berth serve` starts it", err)
        rc, out, _ = self.berth("status", "--json")
        self.assertEqual((rc, json.loads(out)["running"]), (1, False))
        self.ok("run", "stories", "Once", "-n", "1")
        s = json.loads(self.ok("status", "--json"))
        self.assertEqual((s["running"], [m["state"] for m in s["models"]]), (True, ["ready", "idle"]))
        text = self.ok("status")
        self.assertRegex(text, rf"(?m)^process +{s['pid']}, for \d+ (second|minute)s?$")
        self.assertRegex(text, r"(?m)^models +2, 1 of them loaded$")
        self.assertRegex(text, r"(?m)^memory +[\d.]+ MB planned")

    def test_inspect(self):
        self.assertFalse(json.loads(self.ok("inspect", "stories", "--json")).get("state"))  # no daemon: the file alone
        alone = self.ok("inspect", STORIES)
        for line in (r"parameters +293K", r"architecture +llama", r"trained for +2048 tokens", r"llama\.block_count +5"):
            self.assertRegex(alone, rf"(?m)^{line}$")
        self.assertFalse(os.path.exists(os.path.join(self.home, ".local/state/berth")), "a daemon was started")
        self.ok("run", "stories", "Once", "-n", "1")
        known = json.loads(self.ok("inspect", STORIES, "--json"))
        self.assertEqual((known["name"], known["state"], known["file"]["parameters"]), ("stories", "ready", 292800))
        self.assertEqual(len(known["file"]["tensors"]), 48)
        self.assertRegex(self.ok("inspect", "stories"), r"(?m)^memory +1\.17 MB weights, 15\.7 MB cache, ")
        self.refused(1, "no model 'storis'", "inspect", "storis")
        bad = os.path.join(self.home, "bad.gguf")
        with open(bad, "wb") as f:
            f.write(b"GGUF" + bytes(100))
        self.refused(1, "bad.gguf", "inspect", bad)

    def test_metadata_does_not_steer_a_terminal(self):
        with open(STORIES, "rb") as f:
            data = f.read()
        # The value of general.name, replaced by one of the same length.
        at = data.index(b"general.name") + len("general.name") + 4 + 8
        self.assertEqual(data[at:at + 5], b"llama")
        path = os.path.join(self.home, "evil.gguf")
        with open(path, "wb") as f:
            f.write(data[:at] + b"\x1b[2J\x07" + data[at + 5:])
        out = self.ok("inspect", path)
        self.assertRegex(out, r"(?m)^general\.name +\?\[2J\?$")

    def test_configure(self):
        self.refused(2, "say what to declare", "configure", "stories")
        self.refused(2, "exclude each other", "configure", "stories", "--pin", "--no-pin")
        self.refused(2, "--no-prepare and --prepare exclude each other", "configure", "stories", "--prepare", "--no-prepare")
        self.refused(2, "did you mean 'context-size'", "configure", "stories", "--unset", "context-sise")
        self.refused(2, "--keep-alive: 'soon' is not a time", "configure", "stories", "--keep-alive", "soon")
        self.refused(1, "temperature", "configure", "stories", "--temperature", "-3")
        template = os.path.join(self.home, "t.jinja")
        with open(template, "w", encoding="utf-8") as f:
            f.write("{{ messages[0].content }}")
        self.assertEqual(self.ok("configure", "stories", "--context-size", "100", "--keep-alive", "1h", "--pin",
                                 "--temperature", "0", "--chat-template", template), "")
        declared = {"context-size": 100, "keep-alive": 3600, "pinned": True, "temperature": 0.0,
                    "chat-template": "{{ messages[0].content }}"}
        self.assertEqual(json.loads(self.ok("configure", "show", "stories", "--json"))["settings"], declared)
        self.assertEqual(len(json.loads(self.ok("configure", "show", "--json"))), 1)
        self.ok("stop", "--daemon")  # kept across restarts
        self.assertEqual(json.loads(self.ok("configure", "show", "stories", "--json"))["settings"], declared)
        self.assertRegex(self.ok("configure", "show"), r"(?m)^stories +context-size +100$")
        self.ok("run", "stories", "Once", "-n", "1", "--complete")
        loaded = json.loads(self.ok("ps", "--json"))[0]
        self.assertEqual((loaded["n_ctx"], loaded["expires_in_s"]), (100, -1))
        self.assertRegex(self.ok("ps"), r"(?m)^stories +ready .* 100 .* Forever$")
        left = json.loads(self.ok("configure", "stories", "--unset", "chat-template", "--no-pin", "--json"))["settings"]
        self.assertEqual(left.get("pinned", False), False)
        self.assertNotIn("chat-template", left)
        self.assertRegex(self.ok("ps"), r"^NAME.*\n$|(59 minutes|1 hour) from now")
        for flag, wanted in (("--no-prepare", True), ("--prepare", False)):
            declared = json.loads(self.ok("configure", "stories", flag, "--json"))["settings"]
            self.assertIs(declared["no-prepare"], wanted)
            self.assertRegex(self.ok("configure", "show", "stories"), rf"(?m)^stories +no-prepare +{str(wanted).lower()}$")
        self.assertNotIn("no-prepare", json.loads(self.ok("configure", "stories", "--unset", "no-prepare", "--json"))["settings"])
        self.assertEqual(json.loads(self.ok("configure", "stories", "--reset", "--json")), {"model": "stories", "settings": {}})
        path = os.path.join(self.home, "mine.gguf")
        shutil.copy(STORIES, path)
        self.assertEqual(json.loads(self.ok("configure", path, "--seed", "7", "--json")), {"model": "mine", "settings": {"seed": 7}})
        self.refused(1, "no model|not found|nosuch", "configure", "nosuch", "--seed", "1")

    def test_logs(self):
        self.refused(1, "none that a command started has left a log", "logs")
        self.ok("run", "stories", "Once upon a time", "-n", "1")
        text = self.ok("logs")
        self.assertIn("stories", text)
        self.assertNotIn("Once upon", text)
        self.assertEqual(len(self.ok("logs", "-n", "1").splitlines()), 1)
        self.assertEqual(self.ok("logs", "-n", "0"), "")
        for line in self.ok("logs", "--json").splitlines():
            self.assertIsInstance(json.loads(line), dict)
        with subprocess.Popen([BERTH, "logs", "-f", "-n", "1"], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, cwd=self.home) as p:
            self.assertTrue(p.stdout.readline())
            self.ok("run", "stories", "Once", "-n", "1")
            self.assertTrue(p.stdout.readline())  # of that request
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=LIMIT_S)
            self.assertEqual((p.returncode, err), (130, b""))
        self.ok("stop", "--daemon")
        rc, out, err = self.berth("logs", "-n", "2")
        self.assertEqual((rc, out.count("\n")), (0, 2))
        self.assertIn("this is what the last one left in", err)
        self.refused(1, "there is no log to follow", "logs", "-f")

    def test_started_daemon_reads_the_same_file(self):
        path = os.path.join(self.home, "mine")
        with open(path, "w", encoding="utf-8") as f:
            f.write("max-model-len = 77\n")
        self.ok("run", "stories", "Once", "-n", "1", "--config", path)
        self.assertEqual(json.loads(self.ok("ps", "--json"))[0]["n_ctx"], 77)

    def test_started_daemon_has_the_folders_named(self):
        folder = os.path.join(self.home, "mine")
        os.makedirs(folder)
        shutil.copy(STORIES, os.path.join(folder, "tale.gguf"))
        self.assertEqual(self.ok("list", "-q", "--models-dir", folder), "tale\n")
        rc, out, err = self.berth("list", "-q", "--models-dir", MODELS)
        self.assertEqual((rc, out), (0, "tale\n"))
        self.assertIn("runs already, with folders of its own", err)

    def test_df(self):
        rows = json.loads(self.ok("df", "--json"))["rows"]
        models = [r for r in rows if r["type"] == "models"]
        self.assertEqual([(r["path"], r["files"], r["exists"]) for r in models], [(MODELS, 2, True)])
        self.assertGreaterEqual(models[0]["bytes"], 2 * 1185376)
        self.assertGreater(models[0]["free_bytes"], 0)
        self.ok("list")  # a daemon, and its log
        d = json.loads(self.ok("df", "--json"))
        self.assertEqual(d["total_bytes"], sum(r["bytes"] for r in d["rows"]))
        self.assertGreater([r for r in d["rows"] if r["type"] == "logs"][0]["bytes"], 0)
        self.assertRegex(self.ok("df"), rf"(?m)^models +2 +2\.\d+ MB +[\d.]+ [GTP]B +{re.escape(MODELS)}$")

    def test_stop_and_list_for_machines(self):
        self.assertEqual(json.loads(self.ok("stop", "--all", "--json")), {"unloaded": [], "stopped_daemon": False})
        self.assertEqual(self.ok("list", "--quiet"), "stories\nstories-chat\n")
        self.ok("run", "stories", "Once", "-n", "1")
        self.assertEqual(json.loads(self.ok("stop", "stories", "--json")), {"unloaded": ["stories"], "stopped_daemon": False})
        self.assertEqual(json.loads(self.ok("stop", "--daemon", "--json")), {"unloaded": [], "stopped_daemon": True})
        self.assertEqual(sorted(self.ok("list", "--no-start").split()), ["stories", "stories-chat"])
        self.assertEqual(json.loads(self.ok("ps", "--json")), [])


if __name__ == "__main__":
    unittest.main()
