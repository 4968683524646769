"""Damage what is read in every way that hypothesis thinks of: it is refused in one line, or gives the same result.

python tests/fuzz.py [--examples 12000] [--seed 0] [--reader NAME]
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, Verbosity, assume, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, HypothesisWarning

from ckl_bench.errors import CklError, printable
from ckl_bench.files import canonical_json

Files = dict[str, bytes | str | None]  # content; the target of a link; None for a folder in its place
CPU_SECONDS = 10
WALL_SECONDS = 120  # waiting for other processes is no fault
MEMORY = 2 << 30  # bytes above what the process has before it reads
KINDS = ("refused", "same", "other", "wrong")
LONGEST_ERROR = 500
MOST_PRINTED = 5000
SHRINK_SECONDS = 10
OUTSIDE = "../outside/rows.jsonl"  # lies beside what is read
SECRET = b'{"id": "secret", "text": "secret", "prompt": "secret", "object": "secret"}\n'


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader, its input, and its promise."""

    name: str
    make: Callable[[Path], object]  # makes valid input in an empty folder
    read: Callable[[Path, Path], object]  # (folder, place to write) -> what can be compared, as JSON
    strict: bool = True  # checksums protect it: what is changed is refused
    restore: Callable[[Files], None] | None = None  # makes the checksums right again, as a forger would
    share: float = 1.0  # of the inputs, against other readers


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


@dataclass(frozen=True)
class Damaged:
    """A folder that is not as it was; and whether its checksums were made right again."""

    files: Files = field(repr=False)  # megabytes
    restored: bool


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


class Outcome(NamedTuple):
    """What reading gave: `result` with its JSON, `refused` with the error's line, `wrong` with what happened where."""

    kind: str
    text: str


class Bench:
    """A reader with its valid input; every reading happens in a process of its own, in a fresh folder."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader, self._folder = reader, folder
        made = folder / "made" / "input"
        made.mkdir(parents=True)
        outcome = _apart(lambda: reader.make(made) and None, made.parent)
        assert outcome.kind == "result", outcome
        self.valid = {p.relative_to(made).as_posix(): p.read_bytes() for p in sorted(made.rglob("*")) if p.is_file()}
        self.expected = self.read(dict(self.valid))

    def read(self, files: Files) -> Outcome:
        """What the reader makes of a folder."""
        place = self._folder / "try"
        shutil.rmtree(place, ignore_errors=True)
        for folder in ("input", "outside", "target"):
            (place / folder).mkdir(parents=True)
        for name, content in (files | {OUTSIDE: SECRET}).items():
            path = place / "input" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir()
            elif isinstance(content, str):
                path.symlink_to(content)
            else:
                path.write_bytes(content)
        before = _listed(place)
        found = _apart(lambda: self.reader.read(place / "input", place / "target"), place / "outside")
        return found if _listed(place) == before else Outcome("wrong", "wrote outside of its target")

    def judge(self, damage: Damaged) -> Outcome:
        """Refused, the same result, another one (where no checksum stands against it), or wrong."""
        found = self.read(damage.files)
        if found.kind != "result" or found == self.expected:
            return Outcome(found.kind.replace("result", "same"), found.text)
        believed = self.reader.strict and not damage.restored
        return Outcome("wrong", "believed: the result is another one") if believed else Outcome("other", "")


def _listed(place: Path) -> list[Any]:
    """All that is in a folder, but for what is in the place to write."""
    found = [path for path in place.rglob("*") if "target" not in path.parts]
    return sorted((str(p), p.lstat().st_mode, p.lstat().st_mtime_ns, p.lstat().st_size) for p in found)


def _apart(work: Callable[[], object], folder: Path) -> Outcome:
    """What a process of its own does, with little time and memory."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as printed:
        child = os.fork()
        if not child:
            try:
                _confine(folder, printed.fileno())
                os.write(answer.fileno(), "\0".join(_outcome(work)).encode())
                sys.stdout.flush()
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        words = os.pread(printed.fileno(), MOST_PRINTED + 1, 0)
        said = os.pread(answer.fileno(), 1 << 30, 0).decode()
    if status or not said:
        return Outcome("wrong", f"the process ended by signal {os.WTERMSIG(status)}: {words[:300]!r}")
    return Outcome("wrong", "prints pages") if len(words) > MOST_PRINTED else Outcome(*said.split("\0", 1))


def _confine(folder: Path, printed: int) -> None:
    faulthandler.disable()  # pytest's would tell of a death that is counted here
    for stream in (1, 2):
        os.dup2(printed, stream)
    sys.stdout = sys.stderr = os.fdopen(os.dup(printed), "w")
    os.chdir(folder)
    os.environ["CKL_BENCH_CACHE"] = tempfile.tempdir = str(folder.parent / "target")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, limit in ((resource.RLIMIT_AS, used + MEMORY), (resource.RLIMIT_CPU, CPU_SECONDS)):
        resource.setrlimit(what, (limit, resource.getrlimit(what)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _outcome(work: Callable[[], object]) -> Outcome:
    try:
        return Outcome("result", canonical_json(work()).encode().decode())
    except CklError as error:
        line = printable(" ".join(str(error).split()))
        if 0 < len(line) <= LONGEST_ERROR:
            return Outcome("refused", line)
        return Outcome("wrong", f"an error of {len(line)} characters at {_where(error)}")
    except BaseException as error:
        return Outcome("wrong", f"{type(error).__name__} at {_where(error)}: {ascii(str(error))[:200]}")


def _where(error: BaseException) -> str:
    """The innermost line of the product, or of the reader's own checks."""
    files = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(path, line) for path, line in files if path.is_file() and not {"lib", "site-packages"} & {*path.parts}]
    return f"{own[-1][0].name}:{own[-1][1]}" if own else "?"


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
    from fuzz_readers import READERS

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
