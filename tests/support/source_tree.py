# SPDX-License-Identifier: Apache-2.0
"""The repository's files for tests that read source text: which there are, and C without comments and strings."""
import os
import re
import subprocess

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SKIP_DIRS = {".git", "peers", "__pycache__", "corpus", "data"}


def files(*suffixes, under="."):
    """Paths from the root, sorted; build folders and test data are left out."""
    found = []
    for base, dirs, names in os.walk(os.path.join(ROOT, under)):
        dirs[:] = [d for d in dirs if d not in SKIP_DIRS and not d.startswith("build")]
        for name in names:
            if name == ".git":
                continue  # a linked work tree's
            path = os.path.relpath(os.path.join(base, name), ROOT)
            if not suffixes or name.endswith(suffixes):
                found.append(path)
    return sorted(found)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def bare_c(text):
    """The code alone: comments become spaces, strings lose their contents, line numbers stay."""
    def blank(m):
        s = m.group(0)
        if s[0] in "\"'":
            return s[0] + s[0]
        return re.sub(r"[^\n]", " ", s)
    return _TOKEN.sub(blank, text)


def functions(text):
    """(name, first line, number of lines) of every function whose braces stand in column 0."""
    lines = text.split("\n")
    found, start, name = [], None, None
    for i, line in enumerate(lines):
        if line == "{" and start is None:
            head, j = "", i - 1
            while j >= 0 and lines[j] and lines[j][0] not in "}#/*":
                head = lines[j] + " " + head
                if not lines[j][0].isspace():
                    break
                j -= 1
            m = re.search(r"(\w+)\s*\(", head)
            start, name = i, m.group(1) if m else "?"
        elif line.startswith("}") and start is not None:
            found.append((name, start + 1, i - start + 1))
            start = None
    return found


def make_value(name):
    """What `make print-NAME` says: CC, BASE, LIBS … of the build under test."""
    build = os.path.basename(os.environ.get("BUILD", "build"))
    out = subprocess.run(["make", "-s", "--no-print-directory", f"print-{name}", f"BUILD={build}"], cwd=ROOT,
                         stdout=subprocess.PIPE, check=True, env={**os.environ, "MAKEFLAGS": ""})
    return out.stdout.decode().split()
