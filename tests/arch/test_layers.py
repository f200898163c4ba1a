# SPDX-License-Identifier: Apache-2.0
"""The layer table holds for every #include, every header stands alone, and each role links without the other."""
import concurrent.futures
import glob
import importlib.machinery
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import source_tree as tree  # noqa: E402

BUILD = os.environ.get("BUILD") or os.path.join(tree.ROOT, "build")


def load_layers():
    path = os.path.join(tree.ROOT, "dev", "layers")
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_loader("layers", importlib.machinery.SourceFileLoader("layers", path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def objects(*folders):
    """Object files of the sources under these folders of src/, as the build made them."""
    found = []
    for folder in folders:
        pattern = os.path.join(BUILD, "src", folder, "**", "*.o")
        for path in glob.glob(pattern, recursive=True):
            source = os.path.relpath(path, BUILD)[:-2] + ".c"
            if os.path.exists(os.path.join(tree.ROOT, source)):
                found.append(path)
    return sorted(found)


class Layers(unittest.TestCase):
    def test_every_include_obeys_the_table(self):
        self.assertEqual(load_layers().check(), [])

    def test_the_table_keeps_daemon_and_worker_apart(self):
        layers = load_layers()
        table = layers.read_table()
        for folder in table:
            for other in ("daemon/runner/runner.h", "daemon/serve.h"):
                if folder.startswith(("worker", "lib", "cli")):
                    self.assertFalse(layers.may_include(table, folder, other), f"{folder} -> {other}")
            for other in ("worker/engine/engine.h", "worker/kernel/dtype.h"):
                if folder.startswith(("daemon", "lib", "cli")):
                    self.assertFalse(layers.may_include(table, folder, other), f"{folder} -> {other}")
            for other in ("lib/net/httpd.h", "lib/oci/reference.h"):
                if folder.startswith("worker"):
                    self.assertFalse(layers.may_include(table, folder, other), f"{folder} -> {other}")


class Headers(unittest.TestCase):
    def test_every_header_compiles_alone(self):
        cc, base = tree.make_value("CC"), tree.make_value("BASE")
        # The bodies of x86 kernels are templates: each is compiled by the files that include it.
        other = "arm" if tree.make_value("KERNDIR") == ["x86"] else "x86"
        skip = re.compile(rf"src/worker/kernel/({other}/.*|\w+/(\w+/)?\w+_(impl|common)\.h)")
        headers = [h for h in tree.files(".h", under="src") if not skip.fullmatch(h)]
        isa = {"_avx2.h": ["-mavx2", "-mfma", "-mf16c"],
               "_avx512.h": ["-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]}
        self.assertGreater(len(headers), 20)

        def compile_one(path):
            flags = [x for suffix, xs in isa.items() if path.endswith(suffix) for x in xs]
            p = subprocess.run(cc + base + flags + ["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c", "-"],
                               input=f'#include "{path[4:]}"\n'.encode(), cwd=tree.ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return path, p.returncode, p.stdout.decode("utf-8", "replace")

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, rc, out in pool.map(compile_one, headers):
                self.assertEqual(rc, 0, f"{path} alone:\n{out}")


class Links(unittest.TestCase):
    """Each role's objects, all of them, with the libraries of that role and a main of its own."""

    def link(self, objs, libs, main):
        with tempfile.TemporaryDirectory() as tmp:
            source = os.path.join(tmp, "main.c")
            with open(source, "w", encoding="utf-8") as f:
                f.write(main)
            p = subprocess.run(tree.make_value("CC") + tree.make_value("BASE") + [source] + objs + libs +
                               ["-o", os.path.join(tmp, "a.out")], cwd=tree.ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(p.returncode, 0, p.stdout.decode("utf-8", "replace")[-4000:])

    def test_daemon_alone(self):
        objs = objects("lib", "daemon")
        self.assertTrue(any("/daemon/" in o for o in objs))
        self.link(objs, tree.make_value("LIBS"),
                  '#include "daemon/serve.h"\nint main(void)\n{\n    struct daemon_config c;\n'
                  "    daemon_config_init(&c);\n    return daemon_main(&c);\n}\n")

    def test_worker_alone(self):
        outside = ("/lib/net/", "/lib/oci/", "/lib/codec/sha256.o")  # what a worker never does
        objs = [o for o in objects("lib", "worker") if not any(name in o for name in outside)]
        self.assertTrue(any("/worker/serve/" in o for o in objs))
        libs = [x for x in tree.make_value("LIBS") if x not in ("-lssl", "-lcrypto") and "curl" not in x]
        self.link(objs, libs,
                  '#include "worker/serve/worker.h"\nint main(int argc, char **argv)\n{\n'
                  "    return worker_main(argc, argv);\n}\n")

    def test_command_line_alone(self):
        objs = objects("lib", "cli")
        self.link(objs, tree.make_value("LIBS"),
                  '#include "cli/commands.h"\nint main(int argc, char **argv)\n{\n    struct cli_args a;\n'
                  "    int status;\n    return cli_parse(argc, argv, &a, &status);\n}\n")


if __name__ == "__main__":
    unittest.main()
