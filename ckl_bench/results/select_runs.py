"""Which finished runs are meant: by a stack's name, by settings (`lora@lr=1e-3`), or by a run id's beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ckl_bench.benchmarks.format import find_benchmark
from ckl_bench.errors import Unknown, UserError, unknown
from ckl_bench.records import Record
from ckl_bench.results.differences import SHORT, differences, is_hash, settings_of, shown
from ckl_bench.spec import Spec
from ckl_bench.stacks.stack import make_stack
from ckl_bench.storage.files import read_sealed
from ckl_bench.storage.json import sha256_json

_LISTED = 5  # candidates that an error names one by one


def find_runs(records: Sequence[Record], wanted: str, methods_dir: Path | None = None) -> list[Record]:
    """Finished runs of one stack and one set of settings, a run a seed.

    `wanted` is a stack's name or label (taalm, taalm+lora, lora(r=8)), as tables show it too (oracle+lora*), or the
    beginning of a run id (four hex digits or more). It may go on with `@setting=value[,setting=value...]`: a field of
    the spec, `seed`, or `method.field`, which then finds the stack under every label. So does a name alone where no
    run has the stack's defaults. Numbers are compared as numbers, hashes by their beginning. UserError where no run is
    meant, or runs that differ in more than their seed; it lists what tells them apart.
    """
    wanted = wanted.strip().rstrip("*†")
    done = [record for record in records if record.status == "done"]
    name, given = _split(wanted, {r.spec.method for r in done})
    try:
        label = make_stack(name, methods_dir=methods_dir).label
    except UserError:
        label = name  # a run id, or a label with hyperparameters
    parts = any("." in setting and not is_hash(setting) for setting, _ in given)
    chosen = [r for r in done if r.spec.method in (name, label)]
    if parts or not chosen:
        chosen = [r for r in done if {r.spec.method, "+".join(r.spec.hyperparameters)} & {name, label}]
    if not chosen and re.fullmatch("[0-9a-f]{4,16}", name):
        chosen = [r for r in done if r.run_id.startswith(name)]
    if not chosen:
        raise unknown("stack or run", name, {r.spec.method for r in done}, "Run it first.")
    for setting, text in given:
        chosen = _with_setting(chosen, name, setting, text)
    return _of_one_kind(chosen, wanted)


def runs_on(records: Iterable[Record], benchmark: str, model: str) -> list[Record]:
    """Those of the records that are of a benchmark and model; UserError where none is, which says what there are."""
    every = list(records)
    found = [r for r in every if (r.spec.benchmark, r.spec.model) == (Path(benchmark).name, Path(model).name)]
    if not found:
        others = [f"--benchmark {r.spec.benchmark} --model {r.spec.model}" for r in every if r.status == "done"]
        listed = "; ".join(list(dict.fromkeys(others))[:_LISTED])
        there = f"there are for {listed}" if others else "run one first, or give its --output"
        raise Unknown(f"there are no runs of {Path(model).name} on {Path(benchmark).name}; {there}")
    return found


def find_current(
    records: Sequence[Record], wanted: str, benchmark: str, methods_dir: Path | None = None
) -> list[Record]:
    """As `find_runs`; where several are meant, those on the benchmark as it is now, if there are any."""
    try:
        return find_runs(records, wanted, methods_dir)
    except UserError:
        try:
            now = sha256_json(read_sealed(find_benchmark(benchmark) / "manifest.json"))
        except UserError:
            now = ""
        current = [record for record in records if record.spec.benchmark_hash == now]
        if not current:
            raise
        return find_runs(current, wanted, methods_dir)


def names_of(specs: Sequence[Spec]) -> list[str]:
    """What `find_runs` finds each of these specs by: its label, with the settings in which they differ."""
    short = {long: name for name, long in SHORT.items()}
    suffixes: list[list[str]] = [[] for _ in specs]
    for name, values in differences(specs).items():
        for suffix, value in zip(suffixes, shown(name, values), strict=True):
            suffix.append(f"{short.get(name, name)}={value}")
    return ["@".join(filter(None, (s.method, ",".join(own)))) for s, own in zip(specs, suffixes, strict=True)]


def _split(wanted: str, labels: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """`NAME@setting=value,...` -> its name and its settings, by their full names."""
    whole = [label for label in labels if wanted == label or wanted.startswith(f"{label}@")]  # a label may hold an @
    name = max(whole, key=len, default=wanted.partition("@")[0])
    found = []
    for item in re.split(r",(?=[^,=]+=)", wanted[len(name) + 1 :]) if name != wanted else []:  # a value may hold commas
        setting, equals, value = (part.strip() for part in item.partition("="))
        if not (setting and equals and value):
            raise UserError(f"'{wanted}': expected NAME@setting=value[,setting=value...], as in lora@lr=1e-3,epochs=8")
        plain = setting if {".", ":"} & set(setting) else setting.replace("-", "_")
        found.append((SHORT.get(plain, plain), value))
    return name, found


def _with_setting(runs: Sequence[Record], name: str, setting: str, text: str) -> list[Record]:
    """The runs that have a setting; UserError where there is no such setting, or none has that value."""
    every = [{**settings_of(run.spec), "seed": run.spec.seed} for run in runs]
    known = {key for own in every for key in own}
    if f"inputs.{setting}" in known:  # as a table has it
        setting = f"inputs.{setting}"
    if setting not in known:
        raise unknown("setting", setting, known | SHORT.keys(), f"These are the settings of {name}.")
    values = [own.get(setting) for own in every]
    found = [run for run, value in zip(runs, values, strict=True) if _equal(value, text)]
    if not found and is_hash(setting):
        found = [run for run, value in zip(runs, values, strict=True) if value and value.startswith(text)]
    if not found:
        there = ", ".join(dict.fromkeys(shown(setting, values)))
        raise UserError(f"no run of '{name}' has {setting}={text}; among those that are meant it is {there}")
    return found


def _equal(value: object, text: str) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(text) == value
        except ValueError:
            return False
    return str(value) == text or ((value is None or isinstance(value, bool)) and str(value).lower() == text.lower())


def _of_one_kind(runs: list[Record], wanted: str) -> list[Record]:
    """The runs, where they differ in nothing but their seed."""
    kinds = list({run.spec.settings: run for run in reversed(runs)}.values())[::-1]
    if len(kinds) == 1:
        return runs
    named = names_of([run.spec for run in kinds])
    ways = [
        f"{name} or {run.run_id[:8]}" if named.count(name) == 1 else run.run_id[:8]
        for name, run in zip(named, kinds, strict=True)
    ]
    more = f"; and {len(ways) - _LISTED} more" if len(ways) > _LISTED else ""
    raise UserError(f"'{wanted}' was run with several settings; name one: {'; '.join(ways[:_LISTED])}{more}")
