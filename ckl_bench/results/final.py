"""What the model that a run leaves behind scores: every probe set of every stage, before anything and at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ckl_bench.benchmarks.parts import probe_splits
from ckl_bench.errors import UserError
from ckl_bench.records import Record, SetScores


@dataclass(frozen=True, kw_only=True)
class FinalScores:
    """A probe set's scores by the base model and by the model as the run left it, or kept it."""

    stage: str
    name: str
    split: str  # what the set is called where the benchmark is read as a data set
    probes: Sequence[str]
    before: SetScores
    after: SetScores


def final_scores(record: Record, epoch: int | None = None) -> list[FinalScores]:
    """The scores of a finished run's last model; of earlier stages, as they were measured after the last one.

    Of a run of one stage, `epoch` takes the model as it was after that one.
    UserError for a failed run, and for a record from before earlier stages were scored again.
    """
    if record.status != "done":
        raise UserError(f"run {record.run_id} failed ({record.error}), so it has no scores to export; run it again")
    splits = probe_splits([(stage.name, list(stage.probe_ids)) for stage in record.stages])
    found, last = [], record.stages[-1]
    for number, stage in enumerate(record.stages):
        try:
            before = stage.epochs[0].sets if number == 0 else record.before[stage.name]
            after = last.epochs[-1 if epoch is None else epoch].sets if stage is last else last.earlier[stage.name]
        except KeyError as error:
            raise UserError(
                f"run {record.run_id} does not say what stage '{stage.name}' scores after the last one; run it again"
            ) from error
        found += [
            FinalScores(
                stage=stage.name,
                name=name,
                split=splits[stage.name, name],
                probes=probes,
                before=before[name],
                after=after[name],
            )
            for name, probes in stage.probe_ids.items()
        ]
    return found


def started(record: Record) -> str | None:
    """When the run began, in ISO 8601 with its offset; None where the record does not say so in that form."""
    try:
        when = datetime.fromisoformat(record.environment.started)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).isoformat(timespec="seconds")
