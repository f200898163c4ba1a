# SPDX-License-Identifier: Apache-2.0
"""`berth bench`: figures of a server whose times are known, the load it makes, and what it prints."""
import json
import os
import re
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from berth_test import BERTH, SLOW  # noqa: E402
from cli_case import CliCase  # noqa: E402
from stub_openai import StubOpenAI  # noqa: E402
from terminal import Terminal  # noqa: E402

TIMES = ("ttft", "tpot", "itl", "e2el")


class Bench(CliCase):
    def bench(self, *args, status=0, **kw):
        rc, out, err = self.berth("bench", "stories", "--no-limits", "--json", *args, **kw)
        self.assertEqual(rc, status, out + err)
        return json.loads(out), err

    def test_counts_and_names(self):
        b, _ = self.bench("-c", "1,3", "--num-prompts", "4", "--prompt-len", "20", "--output-len", "10")
        self.assertEqual([(x["max_concurrency"], x["completed"], x["failed"], x["total_input_tokens"], x["total_output_tokens"])
                          for x in b["results"]], [(1, 4, 0, 80, 40), (3, 4, 0, 80, 40)])
        for x in b["results"]:
            self.assertEqual(x["total_cached_tokens"], 0)
            for t in TIMES:
                self.assertTrue(0 < x[f"p50_{t}_ms"] <= x[f"p90_{t}_ms"] <= x[f"p99_{t}_ms"], x)
                self.assertEqual(x[f"median_{t}_ms"], x[f"p50_{t}_ms"])
            self.assertAlmostEqual(x["output_throughput"], 40 / x["duration"], 3)
            self.assertAlmostEqual(x["total_token_throughput"], 120 / x["duration"], 3)
            for who in ("daemon_memory", "worker_memory"):
                self.assertTrue(0 < x[who]["private_bytes"] <= x[who]["rss_bytes"] < 1e9, x)
        self.assertIn("prefill_throughput", b["results"][0])
        self.assertNotIn("prefill_throughput", b["results"][1])

    def test_tables(self):
        rows = self.ok("bench", "stories", "--no-limits", "-c", "2", "-d", "1s", "--output-len", "5").splitlines()
        at = next(i for i, r in enumerate(rows) if r.startswith("AT ONCE"))
        self.assertRegex(rows[at + 1], r"^2( +[\d.]+){3}( +[\d.]+ m?s){6}$")
        self.assertNotIn("\033", "".join(rows))  # no live view on a pipe

    @unittest.skipIf(SLOW > 1, "a sanitizer's memory has no limits worth measuring")
    def test_limits_and_shares(self):
        out = self.ok("bench", "limits", "--threads", "1")
        self.assertRegex(out, r"(?m)^memory +[\d.]+ GB/s read by 1 thread, [\d.]+ by one \(\d+ MiB\)$")
        m = json.loads(self.ok("bench", "limits", "--json"))
        self.assertGreater(m["read_bytes_per_second"], 1e8 / SLOW)
        self.assertTrue(all(p["ops_per_second"] > 1e8 / SLOW for p in m["peaks"]), m)
        rc, out, err = self.berth("bench", "stories", "--json", "-c", "1", "--num-prompts", "2")
        self.assertEqual((rc, "no shares" in err), (0, False), err)
        b = json.loads(out)
        # 5 layers of 64 wide rows, tied embedding: every matrix is read once a step
        self.assertEqual(b["work"]["weight_bytes_per_step"], 4 * (512 * 64 + 5 * (64 * (64 + 64 + 32 + 32) + 3 * 64 * 172)))
        self.assertEqual(b["work"]["prefill_flop_per_token"], 2 * 5 * (64 * (64 + 64 + 32 + 32) + 3 * 64 * 172))
        self.assertEqual(b["work"]["kv_bytes_per_position"], 2 * 5 * (32 + 32))
        self.assertGreater(b["results"][0]["share_of_memory_bus"], 0)

    @unittest.skipIf(SLOW > 1, "a sanitizer's kernels have no speed worth measuring")
    def test_kernels(self):
        k = json.loads(self.ok("bench", "kernels", "--type", "q4_k", "--json"))
        self.assertEqual([x["type"] for x in k["kernels"]], ["Q4_K"])
        self.assertGreater(k["kernels"][0]["prefill_ops_per_second"], 0)
        self.refused(1, "--type Q99 is no type of weights", "bench", "kernels", "--type", "Q99", "--json")

    def test_times_of_a_server_that_are_known(self):
        with StubOpenAI(first_s=0.2, gap_s=0.05) as stub:
            b, _ = self.bench("-c", "1,2", "--num-prompts", "2", "--rounds", "2", "--prompt-len", "30", "--output-len", "5",
                              "--vs", stub.url + "/v1/", "--vs-key", "secret")
            self.assertEqual((b["vs"]["model_id"], b["rounds"]), ("stub-model", 2))
            for x in b["vs"]["results"]:
                self.assertEqual((x["completed"], x["failed"], x["total_input_tokens"], x["total_output_tokens"]), (4, 0, 120, 20))
                for name, least in (("ttft", 200), ("tpot", 25), ("itl", 25), ("e2el", 400)):
                    # Sleeps never end early; how late they end is the machine's affair, and the tests beside this one.  A first
                    # token that is seen late makes the gaps of 50 ms after it shorter.
                    self.assertTrue(least <= x[f"p50_{name}_ms"] < least + 2000 * SLOW, (name, x))
            two = b["vs"]["results"][1]
            self.assertEqual(two["decoding"], 2)
            self.assertTrue(40 / (1 + 40 * SLOW) < two["decode_throughput"] <= 80, two)
            for ours, theirs, r in zip(b["results"], b["vs"]["results"], b["ratios"]):
                self.assertAlmostEqual(r["output_throughput"], ours["output_throughput"] / theirs["output_throughput"], 6)
                self.assertAlmostEqual(r["p99_ttft_ms"], ours["p99_ttft_ms"] / theirs["p99_ttft_ms"], 6)
                low, high = r["output_throughput_rounds"]
                self.assertTrue(0 < low <= high)
            self.assertEqual(set(stub.keys), {"Bearer secret"})
            prompts = [tuple(x["prompt"]) for x in stub.bodies]
            self.assertEqual((len(prompts), len(set(prompts))), (1 + 8, 9))  # a warm-up, and none twice
            self.assertTrue(all(len(p) == 30 and set(p) <= set(range(100, 140)) for p in prompts))

    def test_servers_that_say_less(self):
        with StubOpenAI(tokenize=False, usage=False, first_s=0.01, gap_s=0.01) as stub:
            b, err = self.bench("-c", "1", "--num-prompts", "2", "--rounds", "1", "--prompt-len", "7", "--output-len", "3",
                              "--vs", stub.url, "--vs-model", "some/name")
            x = b["vs"]["results"][0]
            self.assertEqual((x["completed"], x["total_output_tokens"]), (2, 6))
            self.assertEqual({y["model"] for y in stub.bodies}, {"some/name"})
            self.assertEqual([len(y["prompt"].split()) for y in stub.bodies], [20, 7, 7, 7])  # asked once how it counts
            self.assertIn(f"berth: {stub.url} does not say how many tokens its prompts had\n", err)
        self.refused(1, f"{re.escape(stub.url)}|127.0.0.1", "bench", "stories", "--no-limits", "--vs", stub.url)

    def test_words_that_come_to_the_length_asked_for(self):
        """A tokenizer that makes two and a half tokens of a word, and one more of every text."""
        with StubOpenAI(tokenize=False, per_word=2.5, first_s=0.001, gap_s=0.001) as stub:
            b, err = self.bench("-c", "1", "--num-prompts", "2", "--rounds", "1", "--prompt-len", "101", "--output-len", "3",
                                "--vs", stub.url)
            self.assertEqual((b["vs"]["results"][0]["total_input_tokens"], err), (202, err))
            self.assertEqual([len(y["prompt"].split()) for y in stub.bodies], [20, 60, 40, 40, 40])
            self.assertNotIn("asked for", err)

    def test_other_lengths_are_told(self):
        with StubOpenAI(tokenize=False, per_word=30, answer_len=2, first_s=0.001, gap_s=0.001) as stub:
            _, err = self.bench("-c", "1", "--num-prompts", "2", "--rounds", "1", "--prompt-len", "20", "--output-len", "9", "--vs", stub.url)
            self.assertIn(f"berth: {stub.url}: prompts had 31.0 tokens on average, not the 20 asked for\n", err)
            self.assertIn(f"berth: {stub.url}: answers had 2.0 tokens on average, not the 9 asked for\n", err)
            self.assertNotIn("berth: berth:", err)

    def test_failures_are_counted(self):
        with StubOpenAI(fail_from=3, first_s=0.01, gap_s=0.001) as stub:
            b, err = self.bench("-c", "1", "--num-prompts", "9", "--rounds", "1", "--output-len", "2", "--vs", stub.url, status=1)
            x = b["vs"]["results"][0]
            self.assertEqual((x["completed"], x["failed"], x["first_failure"]), (2, 3, "the stub has had enough"))
            self.assertRegex(err, f"(?m)^berth: 3 of 5 requests failed at concurrency 1 of {re.escape(stub.url)}: the stub has had enough")
        with StubOpenAI(first_s=30) as stub:
            b, err = self.bench("-c", "1", "--num-prompts", "1", "--rounds", "1", "--warmup", "0", "--timeout", "1", "--vs", stub.url,
                                status=1)
            self.assertEqual(b["vs"]["results"][0]["first_failure"], "no answer within 1 s")
        self.refused(1, "warming up: .*context", "bench", "stories", "-c", "1", "--no-limits", "--prompt-len", "100000")

    def test_arrivals_by_chance_that_repeat(self):
        def spacing(seed):
            with StubOpenAI(first_s=0.01, gap_s=0.001) as stub:
                b, _ = self.bench("--request-rate", "40", "--num-prompts", "12", "--rounds", "1", "--warmup", "0", "--output-len",
                                  "2", "--seed", seed, "--vs", stub.url)
                self.assertEqual((b["request_rate"], b["results"][0]["max_concurrency"]), (40, 256))
                return stub.at[-1] - stub.at[0], sorted(tuple(x["prompt"]) for x in stub.bodies)
        a, b, c = spacing("7"), spacing("7"), spacing("8")
        self.assertEqual(a[1], b[1])
        self.assertNotEqual(a[1], c[1])
        # 11 gaps of 25 ms on average; requests leave never early, and late where the machine is busy
        self.assertTrue(0.05 < a[0] < 5 * SLOW, a[0])
        for _ in range(8):
            if abs(a[0] - b[0]) < 0.15 * SLOW:
                break
            a, b = b, spacing("7")
        else:
            self.fail(f"of nine runs with one seed no two in a row took as long: {a[0]} and {b[0]} s")

    def test_prefix_in_common(self):
        b, _ = self.bench("-c", "1", "--num-prompts", "3", "--prompt-len", "80", "--prefix-len", "64", "--output-len", "2")
        self.assertGreaterEqual(b["results"][0]["total_cached_tokens"], 3 * 48)

    def test_live_view_on_a_terminal(self):
        self.ok("run", "stories", "Once", "-n", "1")  # a daemon: what it says is not of the view
        with StubOpenAI(first_s=0.2, gap_s=0.1) as stub:
            try:
                t = Terminal([BERTH, "bench", "stories", "--no-limits", "-c", "2", "--num-prompts", "6", "--rounds", "1", "--output-len", "5",
                              "--vs", stub.url], self.env, self.home, columns=120)
            except OSError as e:
                self.skipTest(f"no pseudo-terminal: {e}")
            try:
                t.until(f"{stub.url}, 2 at once  [")
                t.until(" of 6  ")
                self.assertRegex(t.until(" under way").decode(), r"[▁-█]+ +\d+ tokens/s, [012]$")
                t.until("\r\033[K")  # erased before the tables
                t.until("berth divided by the other")
                self.assertEqual(t.wait(), 0)
            finally:
                t.close()

    def test_plot(self):
        path = os.path.join(self.home, "plot.svg")
        with StubOpenAI(first_s=0.01, gap_s=0.001) as stub:
            self.bench("-c", "1,2", "--num-prompts", "2", "--rounds", "1", "--output-len", "4", "--vs", stub.url, "--plot", path)
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual((os.stat(path).st_mode & 0o777, os.path.exists(path + ".part")), (0o666 & ~mask, False))
        svg = xml.etree.ElementTree.parse(path).getroot()
        ticks = [x.text for x in svg.findall(".//*[@class='tick']")]
        self.assertTrue(ticks and all(re.fullmatch(r"[\d.]+", x) for x in ticks), ticks)
        points = svg.findall(".//{http://www.w3.org/2000/svg}circle")
        self.assertEqual(len(points), 2 * (1 + 2 * 2))  # legend, two levels in two panels, for each server

    def test_a_plot_that_cannot_be_written_is_said_before_the_load(self):
        with StubOpenAI() as stub:
            self.refused(1, "the plot: .*nowhere", "bench", "stories", "--vs", stub.url, "--plot", "nowhere/x.svg")
            self.assertEqual(stub.bodies, [])

    def test_refusals(self):
        for args, why in ((("-c", "0"), "--concurrency"), (("--prefix-len", "200"), "longer than the prompt, 128"),
                          (("--vs-model", "x"), "belong to --vs"), (("--request-rate", "0"), "--request-rate")):
            self.refused(2, why, "bench", "stories", *args)
        self.refused(1, "no http:// or https:// address", "bench", "stories", "--no-limits", "--vs", "localhost:1")


if __name__ == "__main__":
    unittest.main()
