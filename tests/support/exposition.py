# SPDX-License-Identifier: Apache-2.0
"""A strict reader of Prometheus's text format 0.0.4: everything that the format asks for, and how metrics are to be named.

Format: prometheus.io/docs/instrumenting/exposition_formats; names: prometheus.io/docs/practices/naming."""
import math
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
SUFFIXES = ("_bucket", "_sum", "_count")


class Family:
    def __init__(self, name, kind, text):
        self.name, self.kind, self.text = name, kind, text
        self.samples = {}  # (full name, ((label, value), ...)) -> value


def parse_labels(text, where):
    """((name, value), ...) sorted, and what follows the closing brace."""
    found, i = [], 1
    while text[i] != "}":
        m = LABEL.match(text, i)
        assert m and text.startswith('="', m.end()), f"{where}: no label at column {i}"
        name, value, i = m.group(), "", m.end() + 2
        while text[i] != '"':
            if text[i] == "\\":
                assert text[i + 1] in '\\"n', f"{where}: escape \\{text[i + 1]}"
                value += "\n" if text[i + 1] == "n" else text[i + 1]
                i += 2
            else:
                value += text[i]
                i += 1
        found.append((name, value))
        i += 1
        assert text[i] in ",}", f"{where}: {text[i]!r} after a label"
        i += text[i] == ","
    names = [n for n, _ in found]
    assert len(set(names)) == len(names), f"{where}: a label twice"
    assert not any(n.startswith("__") for n in names), f"{where}: a reserved label"
    return tuple(sorted(found)), text[i + 1:]


def parse_value(text, where):
    assert re.fullmatch(r"[+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf|NaN)", text), f"{where}: value {text!r}"
    return float(text.replace("Inf", "inf"))


def parse(data):
    """{name: Family} of an answer's bytes; AssertionError names the line that breaks a rule."""
    text = data.decode("utf-8", "strict")
    assert text.endswith("\n"), "the last line does not end"
    families, now = {}, None
    helps = {}
    for number, line in enumerate(text[:-1].split("\n"), 1):
        where = f"line {number}, {line!r}"
        if line.startswith("# HELP "):
            name, _, about = line[7:].partition(" ")
            assert NAME.fullmatch(name) and about, where
            assert name not in helps, f"{where}: HELP twice"
            helps[name], now = about, None
        elif line.startswith("# TYPE "):
            name, kind = line[7:].split(" ")
            assert kind in ("counter", "gauge", "histogram"), where
            assert name not in families, f"{where}: TYPE twice"
            assert list(helps)[-1:] == [name], f"{where}: HELP is not the line before"
            now = families[name] = Family(name, kind, helps[name])
        else:
            m = NAME.match(line)
            assert m, where
            full, rest = m.group(), line[m.end():]
            labels = ()
            if rest.startswith("{"):
                labels, rest = parse_labels(rest, where)
            assert rest.startswith(" "), where
            base = full
            if now and now.kind == "histogram":
                base = next((full[:-len(s)] for s in SUFFIXES if full.endswith(s)), full)
            assert now and base == now.name, f"{where}: not among the lines of its family"
            assert (full, labels) not in now.samples, f"{where}: twice"
            now.samples[full, labels] = parse_value(rest[1:], where)
    for family in families.values():
        check_family(family)
    return families


def check_family(f):
    values = f.samples.values()
    assert all(math.isfinite(v) for v in values), f.name
    keys = {tuple(n for n, _ in labels if n != "le") for _, labels in f.samples}
    assert len(keys) <= 1, f"{f.name}: series with different labels: {keys}"
    if f.kind == "counter":
        assert f.name.endswith("_total"), f"{f.name}: a counter's name ends in _total"
        assert all(v >= 0 for v in values), f.name
    else:
        assert not f.name.endswith(("_total",) + SUFFIXES), f.name
    assert not re.search(r"(_ms|_milliseconds|_kb|_mb|_percent|_minutes)(_|$)", f.name), f"{f.name}: not a base unit"
    if f.kind == "histogram":
        check_histogram(f)


def check_histogram(f):
    series = {}
    for (full, labels), value in f.samples.items():
        own = tuple(x for x in labels if x[0] != "le")
        part = series.setdefault(own, {"buckets": []})
        if full.endswith("_bucket"):
            le = dict(labels)["le"]
            part["buckets"].append((float(le.replace("Inf", "inf")), value))
        else:
            assert "le" not in dict(labels), full
            part[full[len(f.name):]] = value
    for own, part in series.items():
        bounds, counts = [b for b, _ in part["buckets"]], [n for _, n in part["buckets"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == math.inf, f"{f.name} {own}: bounds {bounds}"
        assert counts == sorted(counts), f"{f.name} {own}: buckets are to be cumulative"
        assert counts[-1] == part["_count"], f"{f.name} {own}: +Inf is not the count"
        n, total = part["_count"], part["_sum"]
        # Every value lies above the bound before its bucket and at most at its own.
        least = sum((hi - lo) * b for hi, lo, b in zip(counts, [0] + counts[:-1], [0.0] + bounds[:-1]))
        assert total >= least * (1 - 1e-9) and (n > 0 or total == 0), f"{f.name} {own}: the sum {total}"
        if n and counts[-2] == n:
            most = sum((hi - lo) * b for hi, lo, b in zip(counts[:-1], [0] + counts[:-2], bounds[:-1]))
            assert total <= most * (1 + 1e-9), f"{f.name} {own}: the sum {total}"


def value(families, full, **labels):
    """One sample, or None."""
    name = full if full in families else next(full[:-len(s)] for s in SUFFIXES if full.endswith(s))
    return families[name].samples.get((full, tuple(sorted(labels.items()))))


def total(families, name, **labels):
    """The sum of a family's samples that have these labels."""
    want = set(labels.items())
    return sum(v for (full, have), v in families[name].samples.items() if full == name and want <= set(have))


def assert_monotonic(before, after):
    """No counter and no part of a histogram went down or away."""
    for name, family in before.items():
        if family.kind == "gauge":
            continue
        for (full, labels), v in family.samples.items():
            now = after[name].samples.get((full, labels))
            assert now is not None and now >= v, f"{full}{labels}: {v} became {now}"
