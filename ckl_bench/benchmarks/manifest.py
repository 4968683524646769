"""What a benchmark's manifest must say, so that a run on it can be planned and its scores be tabled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ckl_bench.errors import UserError

# The probe sets that every stage of a kind has: what its measures are made of.
KINDS: Mapping[str, tuple[str, str]] = {
    "lama-ckl": ("to_learn", "not_to_forget"),
    "temporalwiki": ("unchanged", "changed"),
    "own": ("to_learn", "not_to_forget"),
}
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Count = Annotated[int, Field(ge=1, lt=2**31)]
_Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Defaults(_Open):
    epochs: _Count
    batch_size: _Count
    learning_rate: _Rate
    learning_rates: dict[str, _Rate] = {}


class _StageEntry(_Open):
    name: _Name
    folder: _Name
    probe_sets: Annotated[list[_Name], Field(min_length=1)]


class _Pretested(_Open):
    name: str = ""
    revision: str = ""


class _Manifest(_Open):
    name: _Name
    kind: str
    defaults: _Defaults
    stages: Annotated[list[_StageEntry], Field(min_length=1)]
    files: dict[str, str]
    pretest_models: list[_Pretested] = []


def check_manifest(manifest: Mapping[str, Any], where: str) -> None:
    """UserError that begins with `where` and names the first entry that is missing or of another kind."""
    try:
        found = _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: '{place}': {first['msg'].lower()}; build the benchmark again") from error
    needed = KINDS.get(found.kind)
    if needed is None:
        raise UserError(f"{where}: kind '{found.kind[:60]}' is none that is known ({', '.join(KINDS)}); build it again")
    for entry in found.stages:
        missing = [name for name in needed if name not in entry.probe_sets]
        if missing:
            raise UserError(
                f"{where}: stage '{entry.name}' has no probe set '{missing[0]}', which kind {found.kind} needs; "
                "build the benchmark again"
            )
    for what, names in (
        ("stages", [entry.name for entry in found.stages]),
        *((f"probe sets of stage '{entry.name}'", entry.probe_sets) for entry in found.stages),
    ):
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            raise UserError(f"{where}: two {what} are named '{twice}'; build the benchmark again")
    if found.kind == "lama-ckl" and len(found.stages) > 1:
        raise UserError(
            f"{where}: kind lama-ckl has one stage, this has {len(found.stages)}; build the benchmark again"
        )
