#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints docs/METRICS.md from src/daemon/watch/metrics.def: dev/metrics_doc.py > docs/METRICS.md

A test holds the document to the table.
"""
import os
import re
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
ROW = re.compile(r'^METRIC\((\w+), "([^"]+)", (\w+), (\w+), "([^"]*)", (\w+), "([^"]*)"\)$', re.M)


def rows():
    """One (id, name, set, type, labels, buckets, help) for each row of the table."""
    with open(os.path.join(ROOT, "src/daemon/watch/metrics.def"), encoding="utf-8") as f:
        text = f.read()
    found = ROW.findall(text)
    assert len(found) == len(re.findall(r"^METRIC\(", text, re.M)), "a row of metrics.def is not of the form that is read here"
    return found


def table(which):
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for _, name, group, kind, labels, _, text in rows():
        if group == which:
            shown = ", ".join(f"`{x}`" for x in labels.split(",") if x)
            lines.append(f"| `{name}` | {kind.lower()} | {shown} | {text} |")
    return "\n".join(lines)


def document():
    return f"""# Metrics

`GET /metrics` gives these figures in Prometheus's text format 0.0.4. This page is made from
`src/daemon/watch/metrics.def` by `dev/metrics_doc.py`, and a test holds it to the table. How to scrape them:
[OPERATIONS.md](OPERATIONS.md).

Labels are bounded: `model` is the name of a model that berth knows, `other` stands for whatever else a client wrote
and for models beyond the first 128. No label holds a prompt, a key, a key's name or an address.

Counters start at 0 with the daemon; those of a loaded model's worker, at its load. Histograms end in `_bucket`, `_sum`
and `_count` as usual.

{table("OWN")}

## Under vLLM's names

Dashboards and autoscalers made for vLLM's server find the names they know, beside all of the above, on
`GET /metrics/vllm`. They stand apart because Prometheus keeps colons for recording rules, and its own checker,
`promtool check metrics`, says so of every name that has one; `GET /metrics` passes that check without a word.

{table("VLLM")}
"""


if __name__ == "__main__":
    sys.stdout.write(document())
