"""Fault injection: every call of a command that makes or changes a file fails once, and nothing may be lost by it.

python -m harness.faults [--only run] [--most 100]
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.torture import PATIENCE, flaw, outcome, wrong_end
from helpers.children import start

KINDS = ("open", "mkdir", "write", "short", "fsync", "rename", "truncate", "close")  # as in faults.c


@dataclass(frozen=True)
class Fault:
    """What happens to a call: an error, once or, as on a full disk, in all later calls too that need space."""

    kind: str
    error: int
    full: bool = False

    def __str__(self) -> str:
        what = errno.errorcode.get(self.error, "")
        return f"{self.kind} {what}{', then a full disk' if self.full else ''}".strip()


FAULTS = (
    *(Fault(kind, errno.ENOSPC, full=True) for kind in ("open", "mkdir", "write", "short")),
    Fault("write", errno.EIO),
    Fault("short", 0),  # half of it is written, and no error follows: the rest has to be written too
    Fault("fsync", errno.EIO),
    Fault("rename", errno.EDQUOT),
    Fault("truncate", errno.ENOSPC),
    Fault("close", errno.EIO),
)

GOLDEN = 0.618034  # multiples of it, without their whole part, spread evenly

# Calls that may fail without the command failing, by kind and path.
HARMLESS = (
    *((kind, name) for kind in ("write", "truncate") for name in ("*.lock", "*/.*.making")),  # says who holds it
    ("close", "*"),  # what a file holds was brought to the disk before; that it did is compared
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, run in a copy of the folder `given`."""

    arguments: Sequence[object]
    given: Path
    exact: bool = True  # no times in what it writes: all of it is compared byte by byte
    kept: str = ""  # what may stay behind for the same command to go on from, beside its final files
    cold: bool = False  # nothing is cached when it starts
    once: bool = False  # what it has made whole, it refuses to make again
    before: Callable[[], Any] | None = None


@dataclass
class Tally:
    """How a command fared under one kind of fault."""

    failed: int = 0
    passed: int = 0
    wrong: list[str] = field(default_factory=list)


def arm(folder: Path, cache: Path, counter: Path, fault: Fault | None, k: int, patch: Callable[[], Any] | None) -> None:
    """In the child, before the command: let the `k`-th call under `folder` fail; without a fault, only count."""
    os.environ["CKL_BENCH_CACHE"] = str(cache)
    if patch:
        patch()
    kind, error, full = (fault.kind, fault.error, fault.full) if fault else ("", 0, False)
    texts = (os.fsencode(text) for text in (folder.resolve(), kind, counter))
    where, name, shared = map(ctypes.c_char_p, texts)
    if ctypes.CDLL(None).faults_arm(where, name, ctypes.c_long(k), error, int(full), shared):
        raise RuntimeError("the shim could not be armed")


def seen(counter: Path) -> tuple[dict[str, int], int, str]:
    """What the shim has counted: calls by kind, calls that failed, and the path of the first of these."""
    content = counter.read_bytes()
    size = struct.calcsize("@l") * (len(KINDS) + 1)
    *calls, failed = struct.unpack(f"@{len(KINDS) + 1}l", content[:size])
    return dict(zip(KINDS, calls, strict=True)), failed, os.fsdecode(content[size:].split(b"\0")[0])


def texts(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, by its relative name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Injection:
    """One command, what it does undisturbed, and how often it calls what may fail."""

    def __init__(self, command: Command, work: Path) -> None:
        self.command, self.work, self.number = command, work, 0
        self.cache = work / "cache"
        self.cache.mkdir(parents=True)
        plain = self.fresh()
        code, errors = self.once(plain)
        assert code == 0, errors
        self.expected = outcome(plain / "here", exact=command.exact)
        if not command.cold:
            shutil.copytree(plain / "cache", self.cache, dirs_exist_ok=True)
        counting = self.fresh()
        self.once(counting)
        self.calls, _, _ = seen(counting / "counter")
        found = wrong_end(counting / "here", self.expected, exact=command.exact)
        assert found is None, f"without any fault: {found}"

    def fresh(self) -> Path:
        """A copy of what the command is given, and of what is cached."""
        self.number += 1
        folder = self.work / f"case-{self.number}"
        shutil.copytree(self.command.given, folder / "here")
        shutil.copytree(self.cache, folder / "cache")
        return folder

    def once(self, folder: Path, fault: Fault | None = None, k: int = 0) -> tuple[int | None, str]:
        """Run the command to its end: its exit code and what it has written to stderr."""
        self.work.joinpath("logs").mkdir(exist_ok=True)
        counter = folder / "counter"
        counter.unlink(missing_ok=True)
        before = partial(arm, folder, folder / "cache", counter, fault, k, self.command.before)
        child = start(self.command.arguments, folder / "here", self.work / "logs", before=before)
        code = child.wait(PATIENCE)
        child.send(9)  # where it hangs
        return code, child.err.read_text()

    def cases(self, most: int | None = None, begin: int = 0) -> list[tuple[Fault, int]]:
        """Every fault at every call, or so many of them: every fault in turn, at places that are spread evenly.

        Where commands begin one behind another's end, few faults of each are together all of them.
        """
        called = [fault for fault in FAULTS if self.calls[fault.kind]]
        every = [(fault, k) for fault in called for k in range(1, self.calls[fault.kind] + 1)]
        if most is None or most >= len(every):
            return every
        turns = [(called[i % len(called)], i * GOLDEN % 1) for i in range(begin, begin + most)]
        return [(fault, 1 + int(share * self.calls[fault.kind])) for fault, share in turns]

    def wrong(self, fault: Fault, k: int) -> str | None:
        """What is not as it should be where the `k`-th call fails, in one line; None where nothing is."""
        folder = self.fresh()
        code, errors = self.once(folder, fault, k)
        _, failed, path = seen(folder / "counter")
        where = f"{fault.kind} {k} failed at {Path(path).relative_to(folder.resolve())}" if failed else "nothing failed"
        here, given = folder / "here", self.command.given
        found = ending(code, errors, must=must(fault, path, failed))
        found = found or (changed(here, given, self.expected, self.command) if code else None)
        found = found or (wrong_end(here, self.expected, exact=self.command.exact) if code == 0 else None)
        whole = self.command.once and wrong_end(here, self.expected, exact=self.command.exact) is None
        if code != 0 and not found and not whole:
            again, errors = self.once(folder)
            found = ending(again, errors, must=0) or wrong_end(here, self.expected, exact=self.command.exact)
            found = found and f"given again: {found}"
        if found is None:
            shutil.rmtree(folder)
        return found and f"{where}: {found} ({folder})"


def must(fault: Fault, path: str, failed: int) -> int | None:
    """1 where the command must fail, 0 where it must not, None where it may."""
    if not failed or (fault.kind == "short" and not fault.full):
        return 0
    kind = "write" if fault.kind == "short" else fault.kind
    return None if any(kind == name and fnmatch(path, pattern) for name, pattern in HARMLESS) else 1


def ending(code: int | None, errors: str, *, must: int | None) -> str | None:
    """What is wrong with how a command ended: an exit code other than 1 or 2, or not one line to say why."""
    reasons = [line for line in errors.splitlines() if line.startswith("error: ")]
    told = len(reasons) == (code != 0) and "Traceback" not in errors
    if told and code in {None: (0, 1, 2), 0: (0,), 1: (1, 2)}[must]:
        return None
    last = " ".join(reasons or errors.splitlines()[-1:])[:300]
    return f"exit code {code}{', a traceback' * ('Traceback' in errors)}, {len(reasons)} error lines: {last!r}"


def changed(here: Path, given: Path, expected: Mapping[str, str], command: Command) -> str | None:
    """What a failed command has lost, half-written or left: files are as they were, or as it writes them."""
    from ckl_bench.records import read_records
    from ckl_bench.results.tables import tables

    now, before = texts(here), texts(given)
    states = outcome(here, exact=command.exact)
    for name in before.keys() - now.keys():
        return f"{name} is lost"
    for name, content in now.items():
        kept = bool(command.kept) and any(fnmatch(part, command.kept) for part in Path(name).parts)
        if name.endswith((".tmp", ".lock")) or (not kept and any(part.startswith(".") for part in Path(name).parts)):
            return f"{name} is left"
        if kept or content == before.get(name):
            continue
        new = states[name] == expected.get(name)
        if new and not command.exact and name.endswith((".csv", ".md")):
            folder = (here / name).parent
            records = list(
                read_records(folder)
            )  # of some that were there, if it was not the last one's tables that failed
            sets = [part for size in range(len(records) + 1) for part in combinations(records, size)]
            new = any(content.decode() == tables(part, folder).get(Path(name).name) for part in sets)
        if not new:
            return f"{name} is neither as it was nor as it should become"
    return flaw(here)


def inject(
    injection: Injection, most: int | None = None, say: Callable[[str], Any] | None = None, begin: int = 0
) -> dict[str, Tally]:
    """All faults of a command (or so many of them, evenly spread, as in `cases`), with what went wrong."""
    tallies: dict[str, Tally] = {}
    for fault, k in injection.cases(most, begin):
        tally = tallies.setdefault(str(fault), Tally())
        found = injection.wrong(fault, k)
        tally.failed += 1
        tally.passed += found is None
        tally.wrong += [found] if found else []
        if found and say:
            say(found)
    return tallies


def save_always() -> None:
    """Every step is saved, whatever it costs."""
    from ckl_bench.storage import checkpoint

    checkpoint.SHARE = float("inf")


def without_processes() -> None:
    """The builder's workers, which write nothing, as threads: processes take seconds to start."""
    from ckl_bench.benchmarks.temporalwiki import engines

    assert "workers" in vars(engines)
    vars(engines)["workers"] = partial(ThreadPoolExecutor, 2)


def main() -> None:
    """Inject every fault into every command, and print how each fared."""
    from harness.commands import commands

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="Commands whose names begin so, several after one another by |.")
    parser.add_argument("--most", type=int, help="Faults a command, evenly spread [all].")
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="faults-"))
    chosen = {name: c for name, c in commands(work / "inputs").items() if name.startswith(tuple(given.only.split("|")))}
    print(f"{'command':24} {'fault':32} {'failed':>6} {'passed':>6}", flush=True)
    fine = True
    for name, command in chosen.items():
        for fault, tally in inject(Injection(command, work / name.replace(" ", "-")), given.most).items():
            print(f"{name:24} {fault:32} {tally.failed:6} {tally.passed:6}", flush=True)
            for found in tally.wrong:
                print(f"  {found}", flush=True)
            fine &= not tally.wrong
    if not fine:
        raise SystemExit(1)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
