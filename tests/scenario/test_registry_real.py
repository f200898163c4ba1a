# SPDX-License-Identifier: Apache-2.0
"""Against a real registry: docker-registry of Debian, started here, open and with basic authentication and TLS; skopeo and oras, where they are, see the same."""
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import registry_server as rs  # noqa: E402
from berth_test import SLOW, wait_until  # noqa: E402
from registry_case import RegistryCase  # noqa: E402

SERVER = shutil.which("docker-registry") or shutil.which("registry")
# user:pass, by bcrypt, as docker-registry's htpasswd wants it
HTPASSWD = "user:$2y$05$abcdefghijklmnopqrstuuZFBUbfXoM8LFiPx8LYlO/sXZB/Cwk3K\n"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@unittest.skipUnless(SERVER, "docker-registry is not installed")
class Real(RegistryCase):
    NAME = "docker.io/ai/m:latest"

    def serve(self, extra=""):
        port = free_port()
        config = os.path.join(self.dir, "registry.yml")
        with open(config, "w") as f:
            f.write(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                    f"storage: {{filesystem: {{rootdirectory: {self.dir}/data}}, delete: {{enabled: true}}}}\n"
                    f"http:\n  addr: 127.0.0.1:{port}\n{extra}")
        log = open(os.path.join(self.dir, "log"), "wb")
        p = subprocess.Popen([SERVER, "serve", config], stdout=log, stderr=log)
        self.addCleanup(lambda: (p.kill(), p.wait(), log.close()))

        def listens():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        self.assertTrue(wait_until(listens, 20 * SLOW))
        return f"localhost:{port}"

    def make(self, *sizes):
        self.tool("make", self.NAME, *(str(x) for x in sizes))
        return self.lines[-1]["digest"]

    def round(self, host, **kw):
        digest = self.make(3_000_000, 10, 1, 700_000)
        self.assertEqual(self.tool("push", self.NAME, f"{host}/ai/m:v1", **kw)["digest"], digest)
        self.assertTrue(self.tool("push", self.NAME, f"{host}/ai/m:v2", **kw)["cached"])
        for ref in (f"{host}/ai/m:v1", f"{host}/ai/m@{digest}"):
            back = os.path.join(self.dir, "back" + ref.replace("/", "_"))
            self.assertEqual(self.tool("pull", ref, store=back, **kw)["digest"], digest)
            self.check_store(back)
        self.assertIn("MANIFEST_UNKNOWN", self.fails("not_found", "pull", f"{host}/ai/m:none", **kw))
        return digest

    def test_open(self):
        self.round(self.serve())

    def test_mount(self):
        host = self.serve()
        self.round(host)
        self.tool("pull", f"{host}/ai/m:v1")
        self.tool("push", f"{host}/ai/m:v1", f"{host}/ai/other:v1")
        again = os.path.join(self.dir, "again")
        self.tool("pull", f"{host}/ai/other:v1", store=again)
        self.check_store(again)

    def test_basic_over_tls(self):
        cert, key = rs.certificate(self.dir, ["IP:127.0.0.1", "DNS:localhost"])
        with open(os.path.join(self.dir, "htpasswd"), "w") as f:
            f.write(HTPASSWD)
        host = self.serve(f"  tls: {{certificate: {cert}, key: {key}}}\n"
                          f"auth: {{htpasswd: {{realm: here, path: {self.dir}/htpasswd}}}}\n")
        ca = os.path.join(self.dir, "ca.pem")
        self.fails("auth", "pull", f"{host}/ai/m:v1")
        self.assertIn("docker login", self.fails("auth", "pull", f"{host}/ai/m:v1", ca=ca))
        config = self.docker_config({"auths": {host: {"username": "user", "password": "pass"}}})
        self.round(host, ca=ca, docker_config=config)

    def test_killed_at_any_moment(self):
        """kill -9 in the midst of pulls and pushes: the store is right each time, and the last pull takes up what there is."""
        host = self.serve()
        digest = self.make(40_000_000, 30_000_000)
        self.tool("push", self.NAME, f"{host}/ai/m:v1")
        back = os.path.join(self.dir, "back")
        moments = random.Random(7)
        for i in range(12):
            args = ("pull", f"{host}/ai/m:v1") if i % 3 else ("push", self.NAME, f"{host}/ai/m{i}:v1")
            store = back if i % 3 else self.store
            p = self.start(*args, store=store)
            time.sleep(moments.uniform(0.01, 0.15) * SLOW)
            p.kill()
            p.communicate()
            self.check_store(store)
        self.assertEqual(self.tool("pull", f"{host}/ai/m:v1", store=back)["digest"], digest)
        self.check_store(back)

    @unittest.skipUnless(shutil.which("skopeo"), "skopeo is not installed")
    def test_skopeo_sees_the_same(self):
        host = self.serve()
        digest = self.round(host)
        out = os.path.join(self.dir, "oci")
        subprocess.run(["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false",
                        f"docker://{host}/ai/m:v1", f"docker://{host}/ai/copied:v1"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", f"docker://{host}/ai/m:v1", f"oci:{out}:v1"],
                       check=True, stdout=subprocess.DEVNULL)
        with open(os.path.join(out, "blobs", "sha256", digest.removeprefix("sha256:")), "rb") as f:
            self.assertEqual(rs.digest_of(f.read()), digest)
        back = os.path.join(self.dir, "copied")
        self.assertEqual(self.tool("pull", f"{host}/ai/copied:v1", store=back)["digest"], digest)

    @unittest.skipUnless(shutil.which("oras"), "oras is not installed")
    def test_oras_sees_the_same(self):
        host = self.serve()
        digest = self.round(host)
        subprocess.run(["oras", "copy", "--from-plain-http", "--to-plain-http", f"{host}/ai/m:v1", f"{host}/ai/copied:v1"], check=True,
                       stdout=subprocess.DEVNULL)
        back = os.path.join(self.dir, "copied")
        self.assertEqual(self.tool("pull", f"{host}/ai/copied:v1", store=back)["digest"], digest)


if __name__ == "__main__":
    unittest.main()
