# SPDX-License-Identifier: Apache-2.0
"""Pull and push against a registry that misbehaves: whatever it does, the store is right or there is an error that says what."""
import base64
import itertools
import os
import stat
import subprocess
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import registry_server as rs  # noqa: E402
from berth_test import SLOW  # noqa: E402
from proxy_server import Proxy  # noqa: E402
from registry_case import Failed, RegistryCase, noise  # noqa: E402

SIZE = 3_000_001


def as_it_is(handler, *answer):
    handler.answer(*answer)


def auth_of(user, password):
    return base64.b64encode(f"{user}:{password}".encode()).decode()


class Pull(RegistryCase):
    def setUp(self):
        super().setUp()
        self.r = self.enterContext(rs.Registry()) if hasattr(self, "enterContext") else self._enter(rs.Registry())
        self.data = noise(SIZE)
        self.digest = self.r.add_model("ai/x", "v1", [self.data])
        self.layer = rs.digest_of(self.data)
        self.ref = f"{self.r.host}/ai/x:v1"

    def _enter(self, cm):
        value = cm.__enter__()
        self.addCleanup(cm.__exit__, None, None, None)
        return value

    def pulled(self, **kw):
        result = self.tool("pull", self.ref, **kw)
        self.assertEqual(result["digest"], self.digest)
        self.assertEqual(self.blob(self.layer), self.data)
        self.check_store()
        return result

    def ranges(self):
        return [r[2].get("range") for r in self.r.asked("GET", self.layer)]

    def test_plain_then_cached(self):
        self.assertFalse(self.pulled()["cached"])
        self.assertTrue(self.pulled()["cached"])
        self.assertEqual(len(self.ranges()), 1)
        self.assertEqual(self.names(), {self.ref: self.digest})

    def test_by_digest(self):
        self.assertEqual(self.tool("pull", f"{self.r.host}/ai/x@{self.digest}")["name"], "")
        self.assertEqual(self.names(), {"": self.digest})
        self.assertIn(f"there is no ai/x:none in http://{self.r.host}: ", self.fails("not_found", "pull", f"{self.r.host}/ai/x:none"))
        message = self.fails("not_found", "pull", f"{self.r.host}/ai/x@sha256:{'0' * 64}")
        self.assertIn(f"there is no ai/x@sha256:{'0' * 64} in ", message)
        self.assertIn("404", message)

    def test_progress_is_whole_and_never_goes_back(self):
        self.r.fault("GET", self.layer, rs.reset(0.5))
        self.pulled(progress=1)
        self.tool("pull", self.ref, store=os.path.join(self.dir, "s2"), progress=1)
        steps = [x for x in self.lines if "phase" in x]
        done = [x["done"] for x in steps]
        self.assertEqual(done, sorted(done))
        self.assertEqual(done[-1], steps[-1]["total"])
        self.assertGreater(steps[-1]["total"], SIZE)
        self.assertEqual([x["layer_done"] for x in steps if x["layer"] == self.layer][-1], SIZE)

    def test_resets_resume_where_they_were(self):
        for part in (0.01, 0.5, 0.999):
            self.r.fault("GET", self.layer, rs.reset(part))
        self.pulled()
        starts = [int(x[6:-1]) if x else 0 for x in self.ranges()]
        self.assertEqual(len(starts), 4)
        self.assertEqual(starts, sorted(set(starts)), "each goes on from further on")

    def test_a_range_that_is_not_honoured(self):
        self.r.fault("GET", self.layer, rs.reset(0.5))
        self.r.fault("GET", self.layer, rs.ignore_range)
        self.pulled()

    def test_a_206_with_another_range(self):
        self.r.fault("GET", self.layer, rs.reset(0.5))
        self.r.fault("GET", self.layer, rs.wrong_range)
        self.pulled()
        self.assertIsNone(self.ranges()[-1], "from the beginning then")

    def test_a_416_deletes_what_was_there(self):
        self.r.fault("GET", self.layer, rs.reset(0.5))
        self.r.fault("GET", self.layer, rs.refuse(416))
        self.pulled()
        self.assertIsNone(self.ranges()[-1])

    def test_wrong_bytes_once_and_always(self):
        self.r.fault("GET", self.layer, rs.wrong_bytes)
        self.pulled()
        other = noise(SIZE, 2)
        self.r.add_model("ai/x", "bad", [other])
        self.r.fault("GET", rs.digest_of(other), rs.wrong_bytes, times=99)
        message = self.fails("corrupt", "pull", f"{self.r.host}/ai/x:bad")
        self.assertIn(rs.digest_of(other), message)
        self.assertEqual(set(self.names()), {self.ref})
        self.check_store()
        self.assertEqual(self.tool("usage")["partial"], 0)

    def test_wrong_lengths(self):
        for by in (1, 70000, -1, -70000):
            store = os.path.join(self.dir, f"s{by}")
            self.r.fault("GET", self.layer, rs.wrong_length(by), times=99)
            message = self.fails("corrupt", "pull", self.ref, store=store, retries=1)
            self.assertIn("bytes", message)
            self.r.faults.clear()
            self.tool("pull", self.ref, store=store)
            self.check_store(store)

    def test_a_body_without_end_is_stopped(self):
        self.r.fault("GET", self.layer, rs.endless, times=99)
        self.assertIn("more than its", self.fails("corrupt", "pull", self.ref))
        self.assertLess(self.r.n_extra, 64 << 20)
        self.assertEqual(self.names(), {})

    def test_429_waits_as_told(self):
        self.r.fault("GET", self.layer, rs.refuse(429, Retry_After="2"))
        begun = time.monotonic()
        self.pulled()
        self.assertGreaterEqual(time.monotonic() - begun, 2)

    def test_429_for_too_long(self):
        self.r.fault("GET", "/manifests/", rs.refuse(429, Retry_After="4000"), times=99)
        self.assertIn("4000 seconds", self.fails("busy", "pull", self.ref))

    def test_503_passes_and_500_in_the_end_does_not(self):
        self.r.fault("GET", "/manifests/", rs.refuse(503))
        self.tool("pull", self.ref, progress=1)
        notes = [x["note"] for x in self.lines if x.get("warning")]
        self.assertEqual(len(notes), 1, notes)
        self.assertRegex(notes[0], r"^trying again in 0\.0 s: .* status 503 \(TOOMANYREQUESTS: slowly\)$")
        self.r.fault("GET", "/manifests/", rs.refuse(500), times=99)
        self.assertIn("500", self.fails("net", "pull", self.ref, retries=1))

    def test_a_stall_is_noticed(self):
        self.r.fault("GET", self.layer, rs.stall(0.5, 30))
        begun = time.monotonic()
        self.pulled()
        self.assertLess(time.monotonic() - begun, 25)

    def test_canceled_and_taken_up(self):
        self.r.fault("GET", self.layer, rs.stall(0.7, 30))
        self.fails("canceled", "pull", self.ref, cancel_at=SIZE // 2)
        self.assertGreater(self.tool("usage")["partial_bytes"], SIZE // 2)
        self.r.faults.clear()
        self.pulled()
        self.assertIsNotNone(self.ranges()[-1])

    def test_killed_and_taken_up(self):
        self.r.fault("GET", self.layer, rs.stall(0.7, 30))
        p = self.start("pull", self.ref, stall_ms=60000)
        time.sleep(0.7)
        p.kill()
        p.communicate()
        self.pulled()

    def test_not_what_its_digest_says(self):
        good = self.r.manifests["ai/x", "v1"]
        self.r.manifests["ai/x", self.digest] = (good[0], good[1] + b" ")
        message = self.fails("corrupt", "pull", f"{self.r.host}/ai/x@{self.digest}")
        self.assertIn(self.digest, message)

    def test_what_is_no_model(self):
        image = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":' \
                b'"application/vnd.oci.image.config.v1+json","digest":"%s","size":2},"layers":[]}' % rs.digest_of(b"{}").encode()
        self.r.add_manifest("ai/image", "v1", image, "application/vnd.oci.image.manifest.v1+json")
        self.assertIn("application/vnd.oci.image.config.v1+json", self.fails("unsupported", "pull", f"{self.r.host}/ai/image:v1"))

    def test_indexes(self):
        one = '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d}' % (
            self.digest, len(self.r.manifests["ai/x", "v1"][1]))
        top = '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}'
        self.r.add_manifest("ai/x", "one", (top % one).encode(), "application/vnd.oci.image.index.v1+json")
        self.assertEqual(self.tool("pull", f"{self.r.host}/ai/x:one")["digest"], self.digest)
        self.r.add_manifest("ai/x", "two", (top % (one + "," + one)).encode(), "application/vnd.oci.image.index.v1+json")
        self.assertIn("index of 2", self.fails("unsupported", "pull", f"{self.r.host}/ai/x:two"))

    def test_a_manifest_that_is_too_large(self):
        self.r.add_manifest("ai/x", "big", b'{"schemaVersion":2,"x":"' + b"a" * (5 << 20) + b'"}', "application/json")
        self.assertIn("4194304", self.fails("limit", "pull", f"{self.r.host}/ai/x:big"))

    def test_inspect_stores_nothing(self):
        got = self.tool("inspect", self.ref)
        self.assertEqual(got["digest"], self.digest)
        self.assertEqual(got["config"], {"config": {"format": "gguf"}})
        self.assertEqual(self.names(), {})

    def test_many_layers_in_bounds(self):
        layers = [noise(50_000, i) for i in range(20)]
        self.r.add_model("ai/many", "v1", layers + layers[:3])
        self.tool("pull", f"{self.r.host}/ai/many:v1", parallel=3)
        self.check_store()
        self.assertEqual(len(self.r.asked("GET", "/blobs/")), 21, "each blob once, and the config")

    def test_two_pulls_share_a_blob(self):
        self.r.add_model("ai/y", "v1", [self.data], config=b'{"config":{"format":"gguf","size":"1"}}')
        self.r.fault("GET", self.layer, rs.stall(0.3, 2))
        self.pulled()
        self.tool("pull", f"{self.r.host}/ai/y:v1")
        self.check_store()
        self.assertEqual(len(self.names()), 2)

    def test_mirrors(self):
        mirror = self._enter(rs.Registry())
        mirror.add_model("ai/x", "v1", [self.data])
        self.pulled(mirrors=f"{self.r.host}={mirror.url}")
        self.assertEqual(len(self.r.asked("GET", "/blobs/")), 0)
        self.assertEqual(len(mirror.asked("GET", "/blobs/")), 2)

    def test_a_mirror_that_lacks_it(self):
        empty, broken = self._enter(rs.Registry()), self._enter(rs.Registry())
        broken.add_model("ai/x", "v1", [self.data])
        broken.blobs.clear()
        self.pulled(mirrors=f"{self.r.host}={empty.url},{self.r.host}={broken.url}")
        self.assertEqual(len(self.r.asked("GET", "/blobs/")), 2)


class Auth(RegistryCase):
    def setUp(self):
        super().setUp()
        self.data = noise(200_000)
        self.login = {}

    def server(self, **kw):
        r = rs.Registry(**kw)
        r.__enter__()
        self.addCleanup(r.__exit__, None, None, None)
        self.digest = r.add_model("ai/x", "v1", [self.data])
        return r, f"{r.host}/ai/x:v1"

    def config(self, r, user="user", password="pass", name="docker"):
        return self.docker_config({"auths": {r.host: {"auth": auth_of(user, password)}}}, name)

    def test_basic(self):
        r, ref = self.server(auth="basic")
        self.assertIn(f"docker login {r.host}", self.fails("auth", "pull", ref))
        self.assertIn("does not take", self.fails("auth", "pull", ref, docker_config=self.config(r, password="no")))
        self.tool("pull", ref, docker_config=self.config(r))
        self.check_store()

    def test_token(self):
        r, ref = self.server(auth="token")
        self.assertIn(f"docker login {r.host}", self.fails("auth", "pull", ref))
        self.assertIn("log in again", self.fails("auth", "pull", ref, docker_config=self.config(r, password="no")))
        before = len(r.asked("GET", "/token"))
        self.tool("pull", ref, docker_config=self.config(r))
        asked = r.asked("GET", "/token")[before:]
        self.assertEqual(len(asked), 1, "one token for the whole pull")
        self.assertIn("scope=repository%3Aai%2Fx%3Apull", asked[0][1])
        self.assertIn("service=stand-in", asked[0][1])
        for _, path, headers in r.asked("GET", "/v2/"):
            self.assertNotIn("Basic", headers.get("authorization", ""), path)

    def test_a_token_that_runs_out_under_way(self):
        r, ref = self.server(auth="token")
        r.fault("GET", rs.digest_of(self.data), lambda h, *a: (r.tokens.clear(), rs.reset(0.5)(h, *a)))
        self.tool("pull", ref, docker_config=self.config(r), parallel=1)
        self.check_store()

    def test_identity_token_by_post(self):
        r, ref = self.server(auth="token")
        r.refresh_token = "r/e+f="
        self.tool("pull", ref, docker_config=self.docker_config({"auths": {r.host: {"auth": auth_of("u", ""), "identitytoken": "r/e+f="}}}))
        self.assertEqual(len(r.asked("POST", "/token")), 1)

    def test_bearer_of_the_request(self):
        r, ref = self.server(auth="token")
        r.tokens.add("given")
        self.tool("pull", ref, bearer="given")
        self.assertEqual(r.asked("GET", "/token"), [])

    def test_push_asks_for_push(self):
        r, _ = self.server(auth="token")
        self.tool("make", "docker.io/ai/m:latest", "1000")
        self.tool("push", "docker.io/ai/m:latest", f"{r.host}/ai/m:v1", docker_config=self.config(r))
        self.assertTrue(any("pull%2Cpush" in x[1] for x in r.asked("GET", "/token")))

    def helper(self, script):
        path = os.path.join(self.dir, "bin")
        os.makedirs(path, exist_ok=True)
        with open(os.path.join(path, "docker-credential-mine"), "w") as f:
            f.write("#!/bin/sh\n" + script)
        os.chmod(f.name, os.stat(f.name).st_mode | stat.S_IXUSR)
        self.env["PATH"] = path + ":" + self.env.get("PATH", "/bin:/usr/bin")

    def test_helpers(self):
        r, ref = self.server(auth="basic")
        self.helper('read host; echo "{\\"ServerURL\\":\\"$host\\",\\"Username\\":\\"user\\",\\"Secret\\":\\"pass\\"}"; echo "$1 $host" > ' +
                    self.dir + "/asked")
        for key in ({"credHelpers": {r.host: "mine"}}, {"credsStore": "mine"}):
            self.tool("pull", ref, docker_config=self.docker_config(key), store=os.path.join(self.dir, "s" + next(iter(key))))
            with open(os.path.join(self.dir, "asked")) as f:
                self.assertEqual(f.read().strip(), f"get {r.host}")

    def test_helpers_that_fail(self):
        r, ref = self.server(auth="basic")
        config = self.docker_config({"credsStore": "mine"})
        for script, said in (("echo 'credentials not found in native keychain'; exit 1", "docker login"),
                             ("exit 3", "docker login"), ("yes", "docker login")):
            self.helper(script)
            self.assertIn(said, self.fails("auth", "pull", ref, docker_config=config))
        config = self.docker_config({"credsStore": "no-such-helper"})
        self.fails("auth", "pull", ref, docker_config=config)
        self.assertIn("docker-credential-no-such-helper", self.log)
        config = self.docker_config({"credsStore": "../../bin/sh"})
        self.fails("auth", "pull", ref, docker_config=config)

    def test_broken_config_does_not_stop_public_models(self):
        r, ref = self.server()
        self.tool("pull", ref, docker_config=self.docker_config("{nonsense"))

    def test_redirects_take_no_credentials_along(self):
        r, ref = self.server(auth="basic")
        other = rs.Registry()
        self.enter_registry(other)
        other.blobs.update(r.blobs)
        r.fault("GET", "/blobs/", rs.redirect(lambda path: other.url + path), times=99)
        self.tool("pull", ref, docker_config=self.config(r))
        self.check_store()
        self.assertEqual(len(other.asked("GET", "/blobs/")), 2)
        for _, _, headers in other.requests:
            self.assertNotIn("authorization", headers)

    def enter_registry(self, r):
        r.__enter__()
        self.addCleanup(r.__exit__, None, None, None)

    def test_redirects_resume_too(self):
        r, ref = self.server()
        other = rs.Registry()
        self.enter_registry(other)
        other.blobs.update(r.blobs)
        layer = rs.digest_of(self.data)
        r.fault("GET", "/blobs/", rs.redirect(lambda path: other.url + path, 302), times=99)
        other.fault("GET", layer, rs.reset(0.5))
        self.tool("pull", ref)
        self.assertTrue(other.asked("GET", layer)[-1][2]["range"].startswith("bytes="))
        self.check_store()

    def test_redirects_in_a_circle(self):
        r, ref = self.server()
        r.fault("GET", "/blobs/", rs.redirect(lambda path: path), times=999)
        self.assertIn("redirects more than", self.fails("net", "pull", ref, retries=1))

    def test_realms_that_are_refused(self):
        for realm, said in (("http://169.254.169.254/latest", "registry-auth-hosts"), ("file:///etc/passwd", "only http"),
                            ("http://elsewhere.example/token", "elsewhere.example"), ("https://user:pw@127.0.0.1/", "cannot be")):
            r, ref = self.server(auth="token", realm=realm)
            message = self.fails("invalid" if said in ("only http", "cannot be") else "denied", "pull", ref, docker_config=self.config(r))
            self.assertIn(said, message)


class Tls(RegistryCase):
    def test_an_authority_of_our_own(self):
        tls = rs.certificate(self.dir, ["IP:127.0.0.1", "DNS:localhost"])
        with rs.Registry(tls=tls, auth="token") as r:
            digest = r.add_model("ai/x", "v1", [noise(100_000)])
            ref = f"{r.host}/ai/x:v1"
            config = self.docker_config({"auths": {"https://" + r.host: {"username": "user", "password": "pass"}}})
            self.assertIn("registry-ca", self.fails("auth", "pull", ref))
            self.assertEqual(self.tool("pull", ref, ca=os.path.join(self.dir, "ca.pem"), docker_config=config)["digest"], digest)
            self.check_store()
            # from https to http: never
            with rs.Registry() as plain:
                plain.blobs.update(r.blobs)
                r.fault("GET", "/blobs/", rs.redirect(lambda path: plain.url + path), times=99)
                message = self.fails("denied", "pull", ref, ca=os.path.join(self.dir, "ca.pem"), docker_config=config,
                                     store=os.path.join(self.dir, "s2"))
                self.assertIn("does not follow", message)
                self.assertEqual(plain.requests, [])

    def test_a_machine_without_authorities(self):
        self.wrapped = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /etc/ssl/certs && exec "$@"', "sh"]
        if subprocess.run([*self.wrapped, "true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("to hide /etc/ssl/certs takes root, and a mount namespace")
        tls = rs.certificate(self.dir, ["IP:127.0.0.1", "DNS:localhost"])
        with rs.Registry() as plain, rs.Registry(tls=tls) as safe:
            digest = [r.add_model("ai/x", "v1", [noise(100_000)]) for r in (plain, safe)][0]
            self.assertEqual(self.tool("pull", f"{plain.host}/ai/x:v1")["digest"], digest)
            again = os.path.join(self.dir, "again")
            self.assertIn("ca-certificates", self.fails("auth", "pull", f"{safe.host}/ai/x:v1", store=again))
            self.tool("pull", f"{safe.host}/ai/x:v1", store=again, ca=os.path.join(self.dir, "ca.pem"))

    def test_plain_http_elsewhere_is_not_tried(self):
        message = self.fails("net", "pull", "registry.invalid:5000/ai/x:v1", retries=1)
        self.assertIn("https://registry.invalid:5000", message)


class Proxies(RegistryCase):
    """A registry whose name only the proxy knows."""
    HOST = "registry.test:5000"

    def setUp(self):
        super().setUp()
        tls = rs.certificate(self.dir, ["DNS:registry.test"])
        self.plain, self.safe = (self._enter(rs.Registry(tls=t)) for t in (None, tls))
        self.by_plain, self.by_safe = (self._enter(Proxy(r.port)) for r in (self.plain, self.safe))
        self.digest = [r.add_model("ai/x", "v1", [noise(100_000)]) for r in (self.plain, self.safe)][0]
        self.ca = os.path.join(self.dir, "ca.pem")

    def _enter(self, cm):
        value = cm.__enter__()
        self.addCleanup(cm.__exit__, None, None, None)
        return value

    def pull(self, variables, **kw):
        before = self.env
        self.env = {**before, **variables}
        try:
            return self.tool("pull", f"{self.HOST}/ai/x:v1", ca=self.ca, **kw)["digest"]
        finally:
            self.env = before

    def test_a_tunnel_for_https(self):
        for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
            with self.subTest(name):
                self.by_safe.asked.clear()
                self.assertEqual(self.pull({name: self.by_safe.url}, store=os.path.join(self.dir, name)), self.digest)
                self.assertEqual(set(self.by_safe.asked), {"CONNECT " + self.HOST})

    def test_whole_addresses_for_http(self):
        for name in ("http_proxy", "HTTP_PROXY"):
            with self.subTest(name):
                self.by_plain.asked.clear()
                proxies = {"https_proxy": self.by_plain.url, name: self.by_plain.url}  # the first, to see that it speaks no TLS
                self.assertEqual(self.pull(proxies, insecure=self.HOST, store=os.path.join(self.dir, name)), self.digest)
                self.assertEqual(self.by_plain.asked[0], "CONNECT " + self.HOST)
                self.assertIn(f"GET http://{self.HOST}/v2/ai/x/manifests/v1", self.by_plain.asked)
                self.by_plain.asked.clear()  # without the first: the name is unknown here, which is as good
                alone = os.path.join(self.dir, name + "-alone")
                self.assertEqual(self.pull({name: self.by_plain.url}, insecure=self.HOST, store=alone), self.digest)
                self.assertIn(f"GET http://{self.HOST}/v2/ai/x/manifests/v1", self.by_plain.asked)
                self.assertNotIn("CONNECT " + self.HOST, self.by_plain.asked)

    def test_the_names_that_go_without(self):
        for name in ("no_proxy", "NO_PROXY"):
            with self.subTest(name), self.assertRaises(Failed) as c:
                self.pull({"HTTPS_PROXY": self.by_safe.url, "HTTP_PROXY": self.by_plain.url, name: "localhost,.test"}, retries=1)
            self.assertIn("registry.test", c.exception.message)
        self.assertEqual(self.by_safe.asked + self.by_plain.asked, [])

    def test_loopback_goes_without(self):
        names = ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy")
        self.env.update({name: self.by_plain.url for name in names})
        self.tool("pull", f"{self.plain.host}/ai/x:v1")
        self.assertEqual(self.by_plain.asked, [])


class Push(RegistryCase):
    NAME = "docker.io/ai/m:latest"

    def setUp(self):
        super().setUp()
        self.r = rs.Registry()
        self.r.__enter__()
        self.addCleanup(self.r.__exit__, None, None, None)
        self.tool("make", self.NAME, "1000000", "5000", "1000000")
        self.digest = self.lines[-1]["digest"]

    def pushed(self, ref="ai/m:v1", **kw):
        result = self.tool("push", self.NAME, f"{self.r.host}/{ref}", **kw)
        self.assertEqual(result["digest"], self.digest)
        repo, tag = ref.split(":")
        self.assertEqual(rs.digest_of(self.r.manifests[repo, tag][1]), self.digest)
        for digest, data in self.r.blobs.items():
            self.assertEqual(rs.digest_of(data), digest)
        back = os.path.join(self.dir, "back")
        self.tool("pull", f"{self.r.host}/{ref}", store=back)
        self.check_store(back)
        return result

    def test_whole_then_nothing_to_do(self):
        self.assertFalse(self.pushed()["cached"])
        self.assertTrue(self.pushed("ai/m:v2")["cached"])
        self.assertEqual([x[0] for x in self.r.requests if x[0] == "PUT" and "/manifests/" in x[1]], ["PUT", "PUT"])
        last = [x for x in self.r.requests if x[0] == "PUT"]
        self.assertIn("/manifests/", last[-1][1], "the manifest comes last")

    def test_mounts_from_where_it_is(self):
        self.pushed()
        self.tool("pull", f"{self.r.host}/ai/m:v1")
        before = len(self.r.asked("PUT", "/blobs/"))
        real = self.r.blob
        self.r.blob = lambda digest, headers: self.r.error(404, "BLOB_UNKNOWN")  # of the new repository
        self.tool("push", f"{self.r.host}/ai/m:v1", f"{self.r.host}/ai/copy:v1")
        self.r.blob = real
        self.assertTrue(any("from=ai/m" in x[1] for x in self.r.asked("POST", "mount=")))
        self.assertEqual(len(self.r.asked("PUT", "/blobs/")), before + 1, "the config alone was sent")

    def test_resets_and_refusals(self):
        self.r.fault("POST", "/uploads/", rs.refuse(503))
        self.r.fault("PUT", "/uploads/", lambda h, *a: rs.hang_up(h))
        self.r.fault("PUT", "/manifests/", rs.refuse(429, Retry_After="1"))
        self.pushed()

    def test_one_of_several_uploads_at_once_is_refused(self):
        """Three blobs begin at the same moment; the stand-in refuses one of them, once, and that one comes again."""
        begun, number, real = threading.Barrier(3), itertools.count(), self.r.answer

        def answer(method, *rest):
            if method == "POST" and next(number) < 3:
                begun.wait(60 * SLOW)
            return real(method, *rest)
        self.r.answer = answer
        self.r.fault("POST", "/uploads/", rs.refuse(503))
        self.tool("push", self.NAME, f"{self.r.host}/ai/m:v1")
        self.assertEqual(len(self.r.asked("POST", "/uploads/")), 4 + 1)

    def test_in_chunks_when_told(self):
        self.r.chunk_min = 1000
        self.pushed()
        self.assertGreater(len(self.r.asked("PATCH")), 0)

    def test_an_upload_in_chunks_goes_on_where_it_was(self):
        """The answer to the second piece is lost (libcurl may send it again, and the registry has it already: 416), that to a
        later one is a refusal although its bytes were taken."""
        self.r.chunk_min = 1
        self.tool("make", "docker.io/ai/one:latest", "1000000")
        for act in (as_it_is, lambda h, *a: rs.hang_up(h), as_it_is, rs.refuse(503)):
            self.r.fault("PATCH", "/uploads/", act)
        self.tool("push", "docker.io/ai/one:latest", f"{self.r.host}/ai/one:v1", chunk_bytes=300_000, parallel=1)
        ranges = [x[2]["content-range"] for x in self.r.asked("PATCH") if int(x[2]["content-length"]) >= 100_000]
        self.assertEqual(list(dict.fromkeys(ranges)), ["0-299999", "300000-599999", "600000-899999", "900000-999999"])
        self.assertEqual(ranges.count("0-299999"), 1, "it did not begin anew")
        self.assertEqual(len(self.r.asked("GET", "/uploads/")), 2)
        self.tool("pull", f"{self.r.host}/ai/one:v1", store=os.path.join(self.dir, "back"))
        self.check_store(os.path.join(self.dir, "back"))

    def test_an_upload_that_is_forgotten_begins_anew(self):
        self.r.chunk_min = 1
        self.tool("make", "docker.io/ai/one:latest", "1000000")

        def forget(h, *_answer):
            self.r.uploads.clear()
            rs.hang_up(h)
        self.r.fault("PATCH", "/uploads/", as_it_is)
        self.r.fault("PATCH", "/uploads/", forget)
        self.tool("push", "docker.io/ai/one:latest", f"{self.r.host}/ai/one:v1", chunk_bytes=300_000, parallel=1)
        firsts = [x[2]["content-range"].split("-")[0] for x in self.r.asked("PATCH") if int(x[2]["content-length"]) >= 100_000]
        self.assertEqual(list(dict.fromkeys(firsts[:-4])), ["0", "300000"])
        self.assertEqual(firsts[-4:], ["0", "300000", "600000", "900000"])

    def test_a_refused_blob(self):
        self.r.fault("PUT", "/uploads/", rs.refuse(403), times=99)
        self.assertIn("403", self.fails("denied", "push", self.NAME, f"{self.r.host}/ai/m:v1"))
        self.assertEqual(self.r.manifests, {})

    def test_broken_bytes_here_are_noticed_there(self):
        self.tool("make", "docker.io/ai/broken:latest", "70000")
        blob = max((os.path.join(self.store, "blobs", "sha256", x) for x in os.listdir(os.path.join(self.store, "blobs", "sha256"))),
                   key=os.path.getmtime)
        layer = next(os.path.join(self.store, "blobs", "sha256", x) for x in os.listdir(os.path.dirname(blob))
                     if os.path.getsize(os.path.join(self.store, "blobs", "sha256", x)) == 70000)
        os.chmod(layer, 0o644)
        with open(layer, "r+b") as f:
            f.seek(100)
            f.write(b"broken")
        self.assertIn("berth verify", self.fails("corrupt", "push", "docker.io/ai/broken:latest", f"{self.r.host}/ai/b:v1"))


if __name__ == "__main__":
    unittest.main()
