"""Run a record's spec again, and say per number whether it agrees."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ckl_bench.errors import Unknown, UserError
from ckl_bench.learning.planned import Plan
from ckl_bench.learning.run import RunRequest, plan_run
from ckl_bench.models.hub import pinned
from ckl_bench.records import Record, SetScores, read_record
from ckl_bench.results.intervals import bootstrap_interval
from ckl_bench.results.reproduced import Mark
from ckl_bench.spec import Spec
from ckl_bench.stacks.settings import settings_over
from ckl_bench.storage.files import leaderboards_dir, sha256_file

SURROUNDINGS = ("python", "packages", "platform", "device", "threads", "processes")


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Line by line what was compared; whether all of it agrees; and that in a sentence."""

    lines: list[str]
    agrees: bool
    summary: str


def find_record(given: str, output: Path = Path("runs")) -> Record:
    """A record by its file or the beginning of its run's id; see `find_file`."""
    return read_record(find_file(given, output))


def find_file(given: str, output: Path = Path("runs")) -> Path:
    """A record's file by its path, or by the beginning of the id of a run that is committed or under `output`.

    The committed one where both are. Raises UserError where there is more than one, Unknown where there is none.
    """
    path = Path(given)
    if path.is_file():
        return path
    folders = (output, leaderboards_dir()) if given.isalnum() else ()
    found = {file.name: file for folder in folders for file in folder.glob(f"records/{given}*.json")}
    if len(found) != 1:
        error = UserError if found else Unknown
        raise error(f"'{given}' names {len(found)} records; give a record's file, or the beginning of one run's id")
    return next(iter(found.values()))


def request_of(spec: Spec, settings: Sequence[str] = ()) -> RunRequest:
    """The request that gives this spec: its parts, every hyperparameter, its benchmark and model by name.

    UserError for a model that was scored only, since nothing was run.
    """
    if spec.scored_only:
        raise UserError(
            f"{spec.run_id} is of a model that was scored only: there is no run to repeat; ckl-bench score --fresh "
            "with the options of the record's command scores it again"
        )
    own = [
        f"{part}.{name}={value}"
        for part, fields in spec.hyperparameters.items()
        for name, value in fields.items()
        if value is not None
    ]
    return RunRequest(
        method="+".join(spec.hyperparameters),
        benchmark=spec.benchmark,
        model=pinned(spec.model, spec.model_revision),
        seed=spec.seed,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        max_tokens=spec.max_tokens,
        limit=spec.limit,
        dtype=spec.dtype,
        settings=settings_over(own, settings),
    )


def plan_again(record: Record, request: RunRequest) -> Plan:
    """The plan of a record's spec, requested here; UserError where what is here now is not what was run then."""
    plan = plan_run(request)
    plan = replace(plan, spec=plan.spec.as_of(record.spec.schema_version))  # the run id that it had then
    then, now = record.spec.model_dump(), plan.spec.model_dump()
    for name, value in then.items():
        if now[name] != value:
            raise UserError(f"the record's {name} is {value}, here it is {now[name]}: the same run cannot be made here")
    return plan


def scored_sets(record: Record) -> Iterator[tuple[str, str, str, SetScores]]:
    """Every set scored in a run: its place in words, the stage and the probe set whose probes it has, its scores."""
    for stage in record.stages:
        for epoch in stage.epochs:
            for view, sets in {"": epoch.sets, **epoch.views}.items():
                for name, scores in sets.items():
                    place = " ".join(filter(None, (stage.name, f"epoch {epoch.epoch}", view, name)))
                    yield place, stage.name, name, scores
        for earlier, sets in stage.earlier.items():
            for name, scores in sets.items():
                yield f"{earlier} after {stage.name} {name}", earlier, name, scores
    for later, sets in record.before.items():
        for name, scores in sets.items():
            yield f"{later} before training {name}", later, name, scores


def surroundings(record: Record) -> dict[str, object]:
    """What must be equal for two runs of one spec to be equal to the last bit: machine, versions, how many computed."""
    return {name: getattr(record.environment, name) for name in SURROUNDINGS}


def agreement(then: Record, now: Record) -> Agreement:
    """Whether two runs of one spec agree.

    On the same machine, versions, threads, processes and code (git commit) every number must be equal to the last bit.
    Elsewhere rounding differs, and a mean must lie within the 95 % bootstrap interval over probes of the recorded one.
    Both must have been told the answers, or neither.
    """
    same = surroundings(then) == surroundings(now) and then.environment.commit == now.environment.commit
    lines, wrong = [], 0
    again = {place: scores for place, _, _, scores in scored_sets(now)}
    for place, _, _, scores in scored_sets(then):
        for measure in ("accuracy", "nll"):
            old, new = getattr(scores, measure), getattr(again[place], measure)
            low, high = bootstrap_interval(getattr(scores, f"probe_{measure}"))
            probes = [getattr(side, f"probe_{measure}") for side in (scores, again[place])]
            equal = old == new and probes[0] == probes[1]
            fits = equal if same else min(low, old) - 1e-9 <= new <= max(high, old) + 1e-9
            wrong += not fits
            verdict = "equal" if equal else f"within {low:.4f} to {high:.4f}" if fits else "DIFFERS"
            lines.append(f"{place} {measure}: {old:.6f} and {new:.6f}: {verdict}")
        if same and (scores.probe_guess != again[place].probe_guess or scores.exact != again[place].exact):
            wrong += 1
            lines.append(f"{place} guesses and whole answers: DIFFERS")
    if then.told is not None and then.told != now.told:  # a record from before it was noted says nothing
        wrong += 1
        lines.append(f"told the answers: {_yes(then.told)} and {_yes(now.told)}: DIFFERS")
    if same and then.weights_sha256 and now.weights_sha256:
        equal = then.weights_sha256 == now.weights_sha256
        wrong += not equal
        lines.append(f"trained weights: {'equal' if equal else 'DIFFERS'}")
    rule = (
        "to the last bit"
        if same
        else "within the interval over probes (another machine, commit, versions, threads or processes)"
    )
    if wrong:
        return Agreement(lines=lines, agrees=False, summary=f"{wrong} of {len(lines)} numbers do not agree {rule}")
    return Agreement(lines=lines, agrees=True, summary=f"all {len(lines)} numbers agree {rule}")


def _yes(value: bool | None) -> str:
    return "yes" if value else "no"


def mark_of(path: Path, again: Record, report: Agreement) -> Mark:
    """The mark that says that the record in `path` agrees with a repetition of its run."""
    made = again.environment
    equal = all(line.endswith(": equal") for line in report.lines)
    return Mark(
        run_id=again.run_id,
        record_sha256=sha256_file(path),
        who=_user(),
        platform=made.platform,
        device=made.device,
        when=made.started,
        ckl_bench=made.ckl_bench,
        commit=made.commit,
        agreed=f"{len(report.lines)} numbers, all equal to the last digit" if equal else report.summary,
    )


def _user() -> str:
    """Git's user name, or the account's."""
    try:
        asked = subprocess.run(
            ["git", "config", "user.name"], capture_output=True, text=True, check=False
        ).stdout.strip()
    except OSError:  # there is no git
        asked = ""
    try:
        return asked or getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in some containers
        return "unknown"
