"""Damage what is read in every way that hypothesis thinks of: it is refused in one line, or gives the same result.

python -m harness.fuzz [--examples 12000] [--seed 0] [--reader NAME]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, HypothesisWarning

from harness.fuzz_bench import OUTSIDE, Bench, Damaged, Files, Reader

KINDS = ("refused", "same", "other", "wrong")
SHRINK_SECONDS = 10


SPLICES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\0", b"\n", b"\r\n", b"'", b"<", b">", b"&", b"|", b"(", b"="),
    *(b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b'"\\ud800"', b"\\udfff", b"\\u0000", b"\x1b[2J", b"{{"),
    *(b"NaN", b"-Infinity", b"1e999", b"-1", b"0", b"9" * 25, b"9" * 5000, b"1.5", b"null", b"true", b"inf", b"nan"),
    *(b"[" * 100_000, b'{"a":' * 50_000, b"<a>" * 30_000, b"{{" * 20_000, b"[[" * 20_000, b"-" * 100_000, b"(" * 300),
    *(b"x" * 1_000_000, b" " * 200_000, b"\n" * 50_000, b"''" * 5000, b"{|" * 5000, b"<ref>" * 5000, b"a=" * 9000),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"&#0;", b"&lt;", b"</page>", b"<page>", b"<?xml version='1.1'?>"),
    *(OUTSIDE.encode(), b"/etc/passwd", b"\\u202e", "\u2028".encode(), "\x85".encode(), b"1979-05-27", b"'''"),
    *(b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x40", b"\x7f" + b"\xff" * 7),
]
ODD: list[Any] = [None, True, -1, 0, 1, 1.5, -1e308, 10**25, 10**400, "", " ", "x", "nan", "inf", "x" * 5000, "\n"]
ODD_NUMBERS = [None, "nan", "inf", "1", -1, 0, 0.5, 10**6, 10**25, 10**400, -1e308]
ODD += ["\0", [], {}, [None], [[[]]], {"x": None}, ["x", 1], OUTSIDE, "../outside", "/etc/passwd", "\u2028", "\ud800"]


@st.composite
def damaged(draw: st.DrawFn, bench: Bench) -> Damaged:
    """The reader's folder, changed in one to three places."""
    files: Files = dict(bench.valid)
    restore = bench.reader.restore if draw(st.booleans()) else None
    for _ in range(draw(st.integers(1, 2 if restore else 3))):
        name = draw(st.sampled_from(sorted(files)))
        content = files.get(name)
        if not isinstance(content, bytes):
            continue
        is_json = name.endswith((".json", ".jsonl"))
        at, to = (draw(st.integers(0, min(len(content), 2000)) | st.integers(0, len(content))) for _ in range(2))
        far, few = draw(st.integers(0, len(content))), draw(st.integers(0, 8))
        way = draw(
            st.sampled_from(["flip", "edit", "cut", "copy", "place", *["forge"] * is_json * (20 if restore else 4)])
        )
        if way == "forge":
            files[name] = draw(_forged(content, name.endswith("l")))
        elif way == "flip":
            flipped = bytes(byte ^ 1 << few % 8 for byte in content[at : at + 1])
            files[name] = content[:at] + flipped + content[at + 1 :]
        elif way == "edit":
            put = draw(st.sampled_from(SPLICES) | st.binary(max_size=4))
            files[name] = content[:at] + put + content[at + few :]
        elif way == "cut":
            files[name] = content[:at] + content[at + far :]
        elif way == "copy":
            files[name] = content[:to] + content[at : at + far] + content[to:]
        else:
            files[name] = draw(
                st.sampled_from([None, OUTSIDE, "/dev/null", name, "nowhere", b"", *bench.valid.values()])
            )
    if restore:
        restore(files)
    return Damaged(files, restore is not None)


@st.composite
def _forged(draw: st.DrawFn, content: bytes, in_lines: bool) -> bytes:
    """One value or key of a JSON document made into something else."""
    lines = content.split(b"\n") if in_lines else [content]
    number = draw(st.integers(0, len(lines) - 1))
    try:
        root: Any = [json.loads(lines[number])]
    except (ValueError, RecursionError):
        return content
    holder, key = root, 0
    while isinstance(holder[key], dict | list) and holder[key] and draw(st.integers(0, 9)):
        holder = holder[key]
        key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
    value = draw(st.sampled_from(ODD_NUMBERS if isinstance(holder[key], int | float) else ODD))
    way = draw(st.sampled_from(["value", "value", "drop", "rename", "double"]))
    if way == "value":
        holder[key] = value
    elif way == "drop":
        del holder[key]
    elif isinstance(holder, list):
        holder.append(holder[key])
    elif way == "rename":
        holder[str(value)[:50]] = holder.pop(key)
    lines[number] = json.dumps(root[0] if root else None, indent=None if in_lines else 1).encode()
    if way == "double" and isinstance(holder, dict):
        lines[number] = b"{%s: %s, " % (json.dumps(key).encode(), json.dumps(value).encode()) + lines[number][1:]
    return b"\n".join(lines)


def changes(valid: Mapping[str, bytes], files: Files) -> str:
    """Where and how a folder differs from the valid one."""
    told = []
    for name, old in valid.items():
        new = files[name]
        if not isinstance(new, bytes):
            told.append(f"{name}: {new or 'a folder'} in its place")
        elif new != old:
            at = next((i for i, pair in enumerate(zip(old, new, strict=False)) if len({*pair}) > 1), len(old))
            told.append(f"{name} ({len(new)} bytes): {old[at : at + 40]!r} at byte {at} is {new[at : at + 40]!r}")
    return "; ".join(told)


def hunt(reader: Reader, examples: int, number: int, folder: Path) -> tuple[Counter[str], dict[str, str]]:
    """Read so many damaged inputs: counts by outcome, and every kind of finding with its smallest input.

    Each finding is made small once, and the hunt goes on for others.
    """
    bench, counts, findings = Bench(reader, folder), Counter[str](), dict[str, str]()
    if bench.expected.kind != "result":
        return Counter(wrong=1), {"valid": f"valid input is not read: {bench.expected.text}"}
    while (before := counts.total()) < examples:
        _until_new(bench, counts, findings, examples - before, number + before)
        if counts.total() == before:
            break  # there are no more inputs
    return counts, findings


def _until_new(bench: Bench, counts: Counter[str], findings: dict[str, str], examples: int, number: int) -> None:
    found: list[tuple[Damaged, str]] = []
    stop = 0.0

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    @given(damaged(bench))
    def one(drawn: Damaged) -> None:
        nonlocal stop
        assume(drawn.files != bench.valid)
        if found and time.monotonic() > stop and drawn != found[-1][0]:
            return  # made small for long enough
        outcome = bench.judge(drawn)
        kind = outcome.text.split(": ")[0]
        if not found:
            counts[outcome.kind] += 1
            stop = time.monotonic() + SHRINK_SECONDS
        if outcome.kind == "wrong" and (kind == found[-1][1] if found else kind not in findings):
            found.append((drawn, kind))
            findings[kind] = f"{outcome.text} | {changes(bench.valid, drawn.files)}"
            raise AssertionError(kind)

    with suppress(AssertionError, Flaky), warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)  # that what it drew is large is no news
        one()


def main() -> None:
    """Share the inputs over the readers, and say how each fared."""
    from harness.fuzz_readers import READERS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=READERS)
    asked = parser.parse_args()
    chosen = [READERS[asked.reader]] if asked.reader else list(READERS.values())
    each = asked.examples / sum(reader.share for reader in chosen)
    total: Counter[str] = Counter()
    print(f"{'reader':20}" + "".join(f"{word:>9}" for word in ("inputs", *KINDS)))
    for reader in chosen:
        with tempfile.TemporaryDirectory() as folder:
            counts, findings = hunt(reader, math.ceil(each * reader.share), asked.seed, Path(folder))
        print(_line(reader.name, counts), *(f"  FINDING {text}" for text in findings.values()), sep="\n", flush=True)
        total += counts
    print(_line("total", total))
    sys.exit(1 if total["wrong"] else 0)


def _line(name: str, counts: Counter[str]) -> str:
    return f"{name:20}" + "".join(f"{number:9}" for number in (counts.total(), *(counts[kind] for kind in KINDS)))


if __name__ == "__main__":
    main()
