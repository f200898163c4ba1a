#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares berth's Jinja with Jinja2, set up as transformers sets it up for chat templates.

usage: dev/jinja_diff.py [--part snippets|templates] [--cases FILE.jsonl] [--write FILE] [--show N] RENDERER

RENDERER is the program of dev/jinja_lines.c.  Cases: the snippets of dev/jinja_snippets.py and every template below
tests/data/templates under the conversations of dev/jinja_snippets.py, or the lines of FILE ({"template", "context"}).
Needs python3-jinja2 (Debian 12: 3.1.2).  --write keeps Jinja2's own answers for tests/golden: of snippets as JSON lines, of templates the FNV-1a hash of each
output (E: an error), one line a template, beside the conversations in conversations.json.
"""
import argparse
import datetime
import functools
import glob
import json
import os
import subprocess
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1752148800  # 2025-07-10 12:00 UTC


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.utcfromtimestamp(NOW).strftime(f)
    return env


ENV = environment()


@functools.lru_cache(maxsize=4)
def compiled(text):
    return ENV.from_string(text)


def reference(case):
    try:
        # a fresh copy: a template may pop from the context's lists
        out = compiled(case["template"]).render(**json.loads(json.dumps(case["context"])))
        out.encode()
        return {"output": out}
    except Exception as e:  # whatever Python raises is "an error"
        return {"error": f"{type(e).__name__}: {e}"}


def renderings(program, cases):
    lines = "".join(json.dumps({**c, "now": NOW}) + "\n" for c in cases)
    p = subprocess.run([program], input=lines.encode(), stdout=subprocess.PIPE)
    out = [json.loads(x) for x in p.stdout.decode().split("\n") if x]
    if p.returncode or len(out) != len(cases):
        at = cases[len(out)] if len(out) < len(cases) else None
        sys.exit(f"{program} ended with {p.returncode} after {len(out)} of {len(cases)} cases; at {at}")
    return out


def all_cases(part):
    sys.path.insert(0, os.path.dirname(__file__))
    import jinja_snippets
    for t in jinja_snippets.SNIPPETS if part != "templates" else []:
        yield {"template": t, "context": jinja_snippets.CONTEXT}
    for path in sorted(glob.glob("tests/data/templates/*.jinja*")) if part != "snippets" else []:
        with open(path, newline="") as f:
            text = f.read()
        for c in jinja_snippets.conversations():
            yield {"template": text, "context": c, "name": os.path.basename(path)}


def fnv1a(data):
    h = 0xcbf29ce484222325
    for b in data:
        h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return f"{h:016x}"


def write(path, part, cases, want, skip):
    if part == "templates":
        lines = {}
        for c, w in zip(cases, want):
            lines.setdefault(c["name"], []).append(fnv1a(w["output"].encode()) if "output" in w else "E")
        with open(path, "w") as f:
            f.writelines(f"{name} {' '.join(v)}\n" for name, v in lines.items())
        import jinja_snippets
        with open(os.path.join(os.path.dirname(path), "conversations.json"), "w") as f:
            json.dump(list(jinja_snippets.conversations()), f, ensure_ascii=False, separators=(",", ":"))
        return
    import jinja_snippets
    with open(path, "w") as f:
        f.write(json.dumps(jinja_snippets.CONTEXT, ensure_ascii=False) + "\n")
        for c, w in zip(cases, want):
            if id(c) not in skip:
                f.write(json.dumps({"template": c["template"], **w}, ensure_ascii=False) + "\n")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--cases")
    a.add_argument("--write")
    a.add_argument("--part", choices=["snippets", "templates", "all"], default="all")
    a.add_argument("--show", type=int, default=20)
    a.add_argument("renderer")
    a = a.parse_args()
    cases = [json.loads(x) for x in open(a.cases)] if a.cases else list(all_cases(a.part))
    want = [reference(c) for c in cases]
    got = renderings(a.renderer, cases)
    bad = [(c, w, g) for c, w, g in zip(cases, want, got)
           if ("error" in w) != ("error" in g) or w.get("output") != g.get("output")]
    n_err = sum("error" in w for w in want)
    for c, w, g in bad[:a.show]:
        print("---", c.get("name", c["template"][:300]))
        x, y = w.get("output"), g.get("output")
        if x is not None and y is not None and max(len(x), len(y)) > 300:
            i = next((i for i in range(min(len(x), len(y))) if x[i] != y[i]), min(len(x), len(y)))
            x, y = x[max(0, i - 80):i + 80], y[max(0, i - 80):i + 80]
        print("  jinja2:", repr(x) if x is not None else w)
        print("  berth: ", repr(y) if y is not None else g)
    print(f"{len(cases)} cases ({n_err} of them errors in Jinja2), {len(bad)} differ")
    if a.write:
        write(a.write, a.part, cases, want, {id(c) for c, w, g in bad})
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
