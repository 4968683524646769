"""Kill commands at random moments, start them again until they end, and compare with what they give undisturbed.

python -m harness.torture [--kills 200] [--seed 0] [--only "run, months"]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.errors import UserError
from ckl_bench.storage.files import data_dir
from helpers.children import Child, start
from helpers.runs import TINY_RECORD

STOPS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
ROUND = 6  # kills at most before a command is let to end, so that one that never gets further ends too
PATIENCE = 60.0  # seconds until a command that neither ends nor stops counts as hanging
LINGER = 5.0  # seconds that the workers of a killed command may take to end
TIMED = {"checksum", "environment", "seconds", "train_tokens_per_second", "peak_memory_bytes"}  # not compared


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A command, run in an empty folder; `given` is copied there first."""

    arguments: Sequence[object]
    given: Path | None = None
    exact: bool = False  # no times in what it writes: all of it is compared byte by byte
    kept: str = ""  # finds what a killed command goes on from, where it does not say so itself


@dataclass
class Tally:
    """How a command fared."""

    kills: int = 0
    survived: int = 0
    starts: int = 0
    resumed: int = 0
    seconds: float = 0.0  # undisturbed
    wrong: str | None = None  # the first thing that went wrong


def scenarios(inputs: Path, scale: float = 1.0) -> dict[str, Scenario]:
    """Every command that is tortured, on inputs made in `inputs`; at scale 1 each takes some 2 to 10 seconds."""
    from ckl_bench.benchmarks.lama_ckl import build_from_lama
    from ckl_bench.records import read_record, write_record
    from conftest import knows_first_capitals, write_lama

    def times(number: int) -> int:
        return max(3, int(number * scale))

    few, many = write_lama(inputs / "few"), write_lama(inputs / "many", times(1500))
    models: Any = {"known": ("test", knows_first_capitals)}
    defaults = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3}
    build_from_lama(few, inputs / "small", models=models, to_learn=5, not_to_forget=5, defaults=defaults)
    capitals = many / "TREx" / "P36.jsonl"  # the tiny model answers ~ when it is asked for one
    capitals.write_text(re.sub(r"ObjectP36x\d+", "~", capitals.read_text()))
    record = read_record(TINY_RECORD)
    for number in range(times(400)):
        spec = record.spec.model_copy(update={"seed": number % 3, "learning_rate": 1e-4 * (number // 3 + 1)})
        write_record(inputs / "board" / "out", record.model_copy(update={"spec": spec, "run_id": spec.run_id}))
    snapshots, small = data_dir() / "snapshots", ("--benchmark", inputs / "small")
    dumps = [sorted(snapshots.glob(names)) for names in ("wiki-*-multistream.xml.bz2", "wikidata-*.json.gz")]
    run = ("run", "--model", "tiny", "--method", "recadam+mixreview", "--output", "out", "--epochs")
    quick = (f"steps={times(60)}", "batch_size=2", "validate_every=5", "held_out=1", "inner_r=2", "r=2")
    train = ("train-attention", "--model", "tiny", *small, "--out", "phi.safetensors")
    lama = ("build", "lama-ckl", "--lama", many, "--to-learn", 2, "--not-to-forget", 2, "--pretest-model", "tiny")
    wiki = ("build", "temporalwiki", "--wikipedia", *dumps[0], "--wikidata", *dumps[1], "--max-relation-share", 0.1)
    out = ("--out", "benchmark")
    return {
        "run, lama-ckl": Scenario(arguments=[*run, times(100), *small]),
        "run, months": Scenario(arguments=[*run, times(40), "--benchmark", "temporalwiki-mini", "--limit", 6]),
        "run, seeds": Scenario(arguments=[*run, times(40), *small, "--seed", 0, "--seed", 1, "--seed", 2]),
        "train-attention": Scenario(arguments=[*train, *(word for field in quick for word in ("--set", field))]),
        "build lama-ckl": Scenario(arguments=[*lama, *out], exact=True),
        "build temporalwiki": Scenario(arguments=[*wiki, *out], exact=True, kept="*.work/*/*/done"),
        "leaderboard": Scenario(arguments=["leaderboard", "--output", "out"], given=inputs / "board", exact=True),
    }


def outcome(folder: Path, *, exact: bool = False) -> dict[str, str]:
    """Every file and folder under `folder`, with what must be the same each time: unless `exact`, all but times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        text = path.read_bytes().decode(errors="backslashreplace") if path.is_file() else ""
        about_phi = path.suffix == ".json" and path.with_suffix(".safetensors").is_file()
        if not exact and (path.parent.name == "records" or about_phi):
            timeless = json.loads(text, object_hook=lambda o: {k: v for k, v in o.items() if k not in TIMED})
            text = json.dumps(timeless, ensure_ascii=False)
        elif not exact and path.suffix in (".csv", ".md"):
            text = ""  # with times in it; it is compared with the records that it is made of
        found[path.relative_to(folder).as_posix()] = text
    return found


def difference(expected: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The first file that is not as expected, in one line."""
    for name in sorted({*expected, *found}):
        if name not in found or name not in expected:
            return f"{name} is {'too much' if name in found else 'missing'}"
        want, have = expected[name], found[name]
        if want != have:
            place = next((i for i, (a, b) in enumerate(zip(want, have, strict=False)) if a != b), len(min(want, have)))
            shown = [repr(text[max(0, place - 20) : place + 20]) for text in (have, want)]
            return f"{name} differs at character {place}: {shown[0]}, undisturbed {shown[1]}"
    return None


def _passing(name: str) -> bool:
    """Whether a file or folder of this name is there only as long as its command has not ended."""
    return name.startswith(".") or name == "checkpoints" or name.endswith((".lock", ".tmp", ".work"))


def flaw(folder: Path) -> str | None:
    """A file or folder that has its final name without being whole, whatever moment this is."""
    for path in sorted(folder.rglob("*")):
        if not any(map(_passing, path.relative_to(folder).parts)):
            try:
                _read(path)
            except (UserError, ValueError, SafetensorError) as error:
                return f"{path.relative_to(folder)} is not whole: {error}"
    return None


def _read(path: Path) -> None:
    """Read a file as its readers do; UserError, ValueError or SafetensorError where it is damaged."""
    from ckl_bench.records import read_record
    from ckl_bench_methods.taalm.attention import FILES

    if path.is_dir() and path.name == "benchmark":
        load_benchmark(str(path))
    elif path.parent.name == "records":
        read_record(path)
    elif path.suffix == ".safetensors":
        deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        if path.with_suffix(".json").exists():
            FILES.about(path)
    elif path.suffix in (".csv", ".md"):
        text = path.read_text()
        widths = {len(row) for row in csv.reader(text.splitlines())} if path.suffix == ".csv" else {1}
        if not text.endswith("\n") or len(widths) != 1:
            raise ValueError("a row of it is cut short")


def wrong_end(folder: Path, expected: Mapping[str, str], *, exact: bool = False) -> str | None:
    """What is not as it should be where a command has ended: damage, leftovers, another outcome, other tables."""
    from ckl_bench.records import read_records
    from ckl_bench.results.tables import first_difference

    left = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if _passing(path.name)]
    found = flaw(folder) or (f"{left[0]} is left over" if left else difference(expected, outcome(folder, exact=exact)))
    tables = (first_difference(path.parent, read_records(path.parent)) for path in folder.rglob("records"))
    return found or next(filter(None, tables), None)


def complaint(code: int | None, stop: int | None, errors: str) -> str | None:
    """What is wrong with how a command ended that got the signal `stop`; None where nothing is."""
    sent = f"behind {signal.Signals(stop).name}" if stop else "undisturbed"
    allowed = {0} if stop is None else {0, -stop} if stop == signal.SIGKILL else {0, 130}
    reasons = [line for line in errors.splitlines() if line.startswith("error:")]
    last = " ".join(reasons or errors.splitlines()[-1:])[:300]
    told = len(reasons) == 1 and reasons[0].startswith("error: interrupted") if code == 130 else not reasons
    if code in allowed and told and "Traceback" not in errors:
        return None
    ended = f"it still runs after {PATIENCE:.0f} s" if code is None else f"its exit code is {code}"
    return f"{sent}, {ended}{', with a traceback' * ('Traceback' in errors)}; its last words: {last!r}"


def orphans(session: int) -> str | None:
    """What still runs of a command that has ended (its workers, and what they started) after `LINGER`; it is ended."""
    for _ in range(int(LINGER / 0.05)):
        left: list[int] = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
                left += [int(path.parent.name)] if int(own) == session and state != "Z" else []
        if not left:
            return None
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return f"{len(left)} of its processes still run {LINGER:.0f} s after it has ended"


def _begin(marker: Path, cache: Path) -> None:
    """In the child, before the command: a session and a cache of its own."""
    os.setsid()
    os.environ["CKL_BENCH_CACHE"] = str(cache)
    marker.touch()


def _once(scenario: Scenario, folder: Path, tally: Tally, draw: random.Random | None) -> tuple[bool, str | None]:
    """Start the command, and kill it where moments are drawn: whether it has ended by itself, and what is wrong."""
    here, marker = folder / "here", folder / f"begun-{tally.starts}"
    resumed = bool(scenario.kept) and any(here.glob(scenario.kept))
    before = partial(_begin, marker, folder / "cache")
    child = start(scenario.arguments, here, folder / "logs", before=before)
    while child.running and not marker.exists():
        time.sleep(0.001)
    begun = time.monotonic()
    stop = _kill(child, here, tally.seconds, draw) if draw else None
    code = child.wait(PATIENCE)
    tally.seconds = tally.seconds or time.monotonic() - begun
    child.send(signal.SIGKILL)  # where it hangs
    errors, left = child.err.read_text(), orphans(child.process.pid or 0)
    tally.kills, tally.starts = tally.kills + (stop is not None), tally.starts + 1
    tally.resumed += resumed or "going on" in errors
    return code == 0, complaint(code, stop, errors) or left or flaw(here)


def _changes(folder: Path) -> dict[Path, int]:
    with suppress(OSError):
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    return {}  # one of them went away just now


def _kill(child: Child, folder: Path, seconds: float, draw: random.Random) -> int | None:
    """Send a signal at a random moment, every other time just behind the next change on disk; None where it ended."""
    until, stop = time.monotonic() + draw.uniform(0, seconds), draw.choice(STOPS)
    while child.running and time.monotonic() < until:
        time.sleep(0.002)
    if draw.random() < 0.5:
        seen = _changes(folder)
        while child.running and _changes(folder) == seen:
            time.sleep(0.001)
        time.sleep(draw.choice([0, draw.uniform(0, 0.03)]))
    if not child.running:
        return None
    child.send(stop)
    return stop


def torment(scenario: Scenario, kills: int, draw: random.Random, work: Path, name: str = "") -> Tally:
    """Run a command undisturbed, then kill it so many times, in rounds that each end with a comparison."""
    (empty := work / "empty").mkdir(parents=True)
    tally, plain = Tally(), work / "plain"
    shutil.copytree(scenario.given or empty, plain / "here")
    _, tally.wrong = _once(scenario, plain, tally, None)
    tally.starts, expected = 0, outcome(plain / "here", exact=scenario.exact)
    tally.wrong = tally.wrong or wrong_end(plain / "here", expected, exact=scenario.exact)
    while tally.kills < kills and not (tally.wrong and tally.starts == 0):
        folder, before = work / f"from-{tally.starts}", tally.kills
        shutil.copytree(scenario.given or empty, folder / "here")
        most = min(kills, before + draw.randint(1, ROUND))
        ended, wrong = False, None
        while not (ended or wrong):
            ended, wrong = _once(scenario, folder, tally, draw if tally.kills < most else None)
        wrong = wrong or wrong_end(folder / "here", expected, exact=scenario.exact)
        tally.survived += 0 if wrong else tally.kills - before
        tally.wrong = tally.wrong or (wrong and f"{wrong} ({folder})")
        print(f"{name}: {tally.kills} of {kills} kills, {tally.starts} starts, {tally.resumed} resumed", flush=True)
    return tally


def main() -> None:
    """Share the kills out between the scenarios, and print how each fared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="Scenarios whose names begin so.")
    given = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="torture-"))
    chosen = {name: s for name, s in scenarios(work / "inputs").items() if name.startswith(given.only)}
    tallies: dict[str, Tally] = {}
    for number, (name, scenario) in enumerate(chosen.items()):
        kills, draw = (given.kills + number) // len(chosen), random.Random(f"{given.seed} {name}")
        tallies[name] = torment(scenario, kills, draw, work / name, name)
        print(f"{name}: {tallies[name].wrong or 'as undisturbed'}", flush=True)
    print(f"\n{'scenario':20} {'survived':>12} {'starts':>7} {'resumed':>8} {'undisturbed':>12}  result")
    for name, t in tallies.items():
        numbers = f"{t.survived:5} of {t.kills:3} {t.starts:8} {t.resumed:8} {t.seconds:10.1f} s"
        print(f"{name:20} {numbers}  {'differs' if t.wrong else 'equal'}")
    if any(tally.wrong for tally in tallies.values()):
        raise SystemExit(1)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
