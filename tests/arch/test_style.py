# SPDX-License-Identifier: Apache-2.0
"""What every file of the tree keeps to: sizes, names, openings, functions that are not called, and documents that name what is there."""
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import source_tree as tree  # noqa: E402

FILE_LINES, FUNCTION_LINES, COLUMNS, FOLDER_FILES = 1200, 100, 120, 30

# Functions that C source may not call, and the files that may.
BANNED = {
    ("malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc"): {"src/lib/base/mem.c"},
    ("strdup", "strndup", "asprintf", "vasprintf", "sprintf", "vsprintf", "strcpy", "strcat", "strncpy", "strncat",
     "stpcpy", "strtok", "gets", "atoi", "atol", "atoll", "atof", "system", "popen", "alloca", "tmpnam",
     "mktemp", "rand", "srand"): set(),
    # options, and what a service manager says, which no option is
    ("getenv", "secure_getenv", "setenv", "putenv"): {"src/lib/sys/config.c", "src/lib/sys/sd.c"},
}
# Nothing in the libraries, the daemon or the worker ends the process or writes to standard output behind its caller's back.
ENDS = ("abort", "exit", "_exit", "_Exit", "quick_exit", "printf", "puts", "putchar", "perror", "assert")
MAY_END = {"src/lib/base/err.c", "src/lib/base/mem.c", "src/lib/sys/spawn.c",  # BUG_ON; out of memory; a forked child
           "src/daemon/serve.c",                                               # says on standard output where it listens
           "src/worker/serve/worker.c", "src/worker/serve/reader.c"}           # the role's own end
# Bodies that x86 files include once per instruction set, after naming its vector types: no headers, no guard of their own.
TEMPLATES = re.compile(r"src/worker/kernel/\w+/(\w+/)?\w+_(impl|common)\.h")


def calls(code, name):
    """Line numbers where name is called (not defined as a member, not part of a longer name)."""
    for m in re.finditer(r"(?<![\w.>])" + name + r"\s*\(", code):
        yield code.count("\n", 0, m.start()) + 1


class Style(unittest.TestCase):
    maxDiff = None

    def none(self, wrong):
        self.assertEqual("\n".join(wrong), "")

    def sources(self):
        return tree.files(".c", ".h", under="src") + tree.files(".c", ".h", under="tests")

    def test_files_open_with_licence_and_purpose(self):
        wrong = []
        for path in self.sources():
            lines = tree.read(path).split("\n")
            if lines[0] != "/* SPDX-License-Identifier: Apache-2.0 */":
                wrong.append(f"{path}: the first line is not the SPDX line")
            elif not lines[1].startswith("/* "):
                wrong.append(f"{path}: no opening comment after the SPDX line")
        for path in tree.files(".py", ".mk") + tree.files(under="dev"):
            if "SPDX-License-Identifier: Apache-2.0" not in tree.read(path)[:300] and not path.endswith((".txt", ".mk")):
                wrong.append(f"{path}: no SPDX line")
        self.none(wrong)

    def test_sizes(self):
        wrong = []
        for path in self.sources():
            text = tree.read(path)
            n = text.count("\n")
            if n > FILE_LINES:
                wrong.append(f"{path}: {n} lines, more than {FILE_LINES}")
            for name, line, count in tree.functions(tree.bare_c(text)):
                if count > FUNCTION_LINES and path.startswith("src/"):
                    wrong.append(f"{path}:{line}: {name} has {count} lines, more than {FUNCTION_LINES}")
        for folder in {os.path.dirname(p) for p in tree.files(".c", ".h", under="src")}:
            n = len([f for f in os.listdir(os.path.join(tree.ROOT, folder)) if f.endswith((".c", ".h", ".def"))])
            if n > FOLDER_FILES:
                wrong.append(f"{folder}: {n} files, more than {FOLDER_FILES}")
        self.none(wrong)

    def test_lines(self):
        wrong = []
        for path in self.sources():
            text = tree.read(path)
            for i, line in enumerate(text.split("\n"), 1):
                if len(line) > COLUMNS:
                    wrong.append(f"{path}:{i}: {len(line)} columns, more than {COLUMNS}")
                if "\t" in line or line != line.rstrip():
                    wrong.append(f"{path}:{i}: a tab, or white space at the end")
            if not text.endswith("\n") or text.endswith("\n\n"):
                wrong.append(f"{path}: does not end in one newline")
        self.none(wrong)

    def test_header_guards(self):
        wrong = []
        for path in tree.files(".h", under="src"):
            if TEMPLATES.fullmatch(path):
                continue
            guard = re.sub(r"\W", "_", path[len("src/"):]).upper()
            if f"#ifndef {guard}\n#define {guard}\n" not in tree.read(path):
                wrong.append(f"{path}: the guard is not {guard}")
        self.none(wrong)

    def test_banned_functions(self):
        wrong = []
        for path in tree.files(".c", ".h", under="src"):
            code = tree.bare_c(tree.read(path))
            for names, allowed in BANNED.items():
                for name in names if path not in allowed else ():
                    wrong += [f"{path}:{line}: {name}()" for line in calls(code, name)]
            if path.startswith(("src/lib", "src/daemon", "src/worker")) and path not in MAY_END:
                for name in ENDS:
                    wrong += [f"{path}:{line}: {name}()" for line in calls(code, name)]
        self.none(wrong)

    def test_no_typedef_of_structs(self):
        wrong = []
        for path in tree.files(".c", ".h", under="src"):
            if path.startswith(("src/worker/kernel/x86/", "src/worker/kernel/arm/")):
                continue  # vector types, which are values
            for m in re.finditer(r"typedef\s+(struct|enum|union)\b(?![^;]*\(\*)", tree.bare_c(tree.read(path))):
                wrong.append(f"{path}: {m.group(0)}")
        self.none(wrong)

    def test_no_path_of_a_machine(self):
        """Nothing may depend on, or tell, where somebody's copy lies."""
        places = re.compile("|".join(("/work" + "/", "/tmp" + "/w/", "/home" + r"/\w", "/root" + "/", r"\.\./" + "shared")))
        wrong = []
        for path in tree.files():
            try:
                text = tree.read(path)
            except UnicodeDecodeError:
                continue
            for m in places.finditer(text):
                line = text.count("\n", 0, m.start()) + 1
                wrong.append(f"{path}:{line}: {text[m.start():m.start() + 40]!r}")
        self.none(wrong)


class Documents(unittest.TestCase):
    """`path` and `path:function` in a document exist; so do the headings that links point at."""

    TOP = ("src/", "tests/", "dev/", "docs/", "models/", ".ci/")
    UNDER_SRC = ("lib/", "daemon/", "worker/", "cli/")

    def find(self, name):
        """The path that a document means, or None when it means none."""
        if name.startswith(self.UNDER_SRC):
            name = "src/" + name
        if not name.startswith(self.TOP) or re.search(r"[*<>{}$ ]|NAME|\.\.\.|…", name):
            return None
        return name.rstrip("/")

    def test_named_files_and_functions_exist(self):
        wrong = []
        for doc in ["README.md", "CHANGELOG.md"] + tree.files(".md", under="docs") + tree.files(".md", under="tests"):
            text = tree.read(doc)
            for span in re.findall(r"`([^`\n]+)`", text):
                name, _, member = span.partition(":")
                path = self.find(name)
                if path is None:
                    continue
                if not os.path.exists(os.path.join(tree.ROOT, path)):
                    wrong.append(f"{doc}: {name} does not exist")
                elif re.fullmatch(r"\w+", member) and not re.search(rf"\b{member}\b", tree.read(path)):
                    wrong.append(f"{doc}: {name} has no {member}")
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
                if "://" not in target and not os.path.exists(os.path.join(tree.ROOT, os.path.dirname(doc), target)):
                    wrong.append(f"{doc}: link to {target}, which does not exist")
        self.assertEqual("\n".join(wrong), "")


if __name__ == "__main__":
    unittest.main()
