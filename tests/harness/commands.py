"""The commands that faults are injected into, and what they are given."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from ckl_bench.benchmarks.format import load_benchmark
from ckl_bench.benchmarks.lama_ckl import build_from_lama
from ckl_bench.learning.run import RunRequest, execute, plan_run
from ckl_bench.models.find import find_model
from ckl_bench.records import read_record, write_record
from ckl_bench.results import tables as leaderboard
from ckl_bench.storage.files import data_dir
from ckl_bench_methods.taalm import Taalm
from conftest import knows_first_capitals, write_lama
from harness.faults import Command, save_always, without_processes
from helpers.runs import TINY_RECORD, short_run


def table_commands(inputs: Path) -> dict[str, Command]:
    """The commands over finished runs, and the one that writes a method: a fraction of a second each."""
    run, old = short_run(), read_record(TINY_RECORD)
    mine = write_record(inputs / "mine", run)
    board, stale, other = inputs / "board", inputs / "stale", inputs / "other"
    for folder in (board, stale):
        write_record(folder / "out", old)
        leaderboard.write_tables(folder / "out", [old])
        (folder / "out" / "report.html").write_text("an older one")
    write_record(stale / "out", run)
    other.mkdir()
    (other / "notes.txt").write_text("not to be lost")
    report = ("report", "--output", "out")
    return {
        "leaderboard": Command(arguments=["leaderboard", "--output", "out"], given=stale),
        "submit": Command(arguments=["submit", mine, "--output", "out"], given=board),
        "new-method": Command(arguments=["new-method", "mine"], given=other, once=True),
        "report": Command(arguments=report, given=board),
        "figures": Command(arguments=[*report, "--figures", "out"], given=board),
    }


def long_commands(inputs: Path) -> dict[str, Command]:
    """The commands that learn and build, each of about a second, and saved behind every step."""
    board, done, other, earlier = (inputs / name for name in ("runs", "done", "none", "attention"))
    lama, small = write_lama(inputs / "lama"), inputs / "small"
    models: Any = {"known": ("test", knows_first_capitals)}
    defaults = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-3}
    build_from_lama(lama, small, models=models, to_learn=5, not_to_forget=5, defaults=defaults)
    capitals = lama / "TREx" / "P36.jsonl"  # the tiny model answers ~ when it is asked for one
    capitals.write_text(re.sub(r"ObjectP36x\d+", "~", capitals.read_text()))
    old = read_record(TINY_RECORD)
    learned = execute(plan_run(RunRequest(method="lora", model="tiny", benchmark=str(small))))
    for folder, records in ((board, [old]), (done, [old, learned])):
        for record in records:
            write_record(folder / "out", record)
        leaderboard.write_tables(folder / "out", records)
    for folder in (earlier, other):
        folder.mkdir()
    (other / "notes.txt").write_text("not to be lost")
    quick = ("steps=3", "batch_size=2", "validate_every=2", "held_out=1", "inner_r=2", "r=2")
    about: Any = {"benchmark": load_benchmark(str(small)), "base": find_model("tiny"), "device": "cpu", "fresh": False}
    Taalm().prepare(settings=quick, out=earlier / "phi.safetensors", seed=1, **about)
    dumps = [sorted((data_dir() / "snapshots").glob(n))[:2] for n in ("wiki-*stream.xml.bz2", "wikidata-*.json.gz")]

    run = ("run", "--model", "tiny", "--method", "lora", "--benchmark", small, "--output", "out")
    running = partial(Command, exact=False, before=save_always)
    train = ("train-attention", "--model", "tiny", "--benchmark", small, "--out", "phi.safetensors")
    sets = [word for field in quick for word in ("--set", field)]
    built = ("build", "lama-ckl", "--lama", lama, "--to-learn", 2, "--not-to-forget", 2, "--pretest-model", "tiny")
    wiki = ("build", "temporalwiki", "--wikipedia", *dumps[0], "--wikidata", *dumps[1], "--out", "new")
    return {
        "run": running(arguments=run, given=board, kept="checkpoints"),
        "run, nothing cached": running(arguments=run, given=board, kept="checkpoints", cold=True),
        "run, fresh": running(arguments=[*run, "--fresh"], given=done, kept="checkpoints"),
        "run, two seeds": running(arguments=[*run, "--seed", 0, "--seed", 1], given=board, kept="checkpoints"),
        "train-attention": running(arguments=[*train, *sets], given=earlier, kept="*.checkpoint"),
        "build lama-ckl": Command(arguments=[*built, "--out", "new"], given=other, kept="*.work"),
        "build temporalwiki": Command(arguments=wiki, given=other, kept="*.work", before=without_processes),
    }


def commands(inputs: Path) -> dict[str, Command]:
    """Every command that faults are injected into, on inputs made in `inputs`."""
    return table_commands(inputs) | long_commands(inputs)
