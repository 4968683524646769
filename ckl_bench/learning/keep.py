"""The learned model, kept: a folder that others' tools load, with a card made from the record."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ckl_bench.errors import UserError, first_line
from ckl_bench.learning.card import model_card
from ckl_bench.learning.planned import Plan
from ckl_bench.method import hooks_of
from ckl_bench.models.base import BaseModel, tokenizer_hash
from ckl_bench.models.catalogue import MODELS
from ckl_bench.records import Record, best_total
from ckl_bench.spec import Spec
from ckl_bench.stacks.plugins import load_method
from ckl_bench.stacks.stack import Stack, make_stack
from ckl_bench.storage.files import read_json
from ckl_bench.storage.weights import ADAPTER, KEPT, kept_epoch
from ckl_bench.storage.writing import unwritable, write_json, write_text

LAST, BEST_TOTAL = "last", "best-total"  # which epoch's model is kept


def require_epoch(keep: str, save_to: object) -> None:
    """UserError for a choice of epoch that is none, or that is made where no model is kept."""
    if keep not in (LAST, BEST_TOTAL):
        raise UserError(f"--keep {keep}: expected {LAST} or {BEST_TOTAL}")
    if keep != LAST and save_to is None:
        raise UserError(f"--keep {keep} says which epoch's model is kept, and none is; give --save-model DIR too")


def require_trained(stack: Stack) -> None:
    """UserError where a method learns nothing that could be kept."""
    if not stack.trains:
        raise UserError(f"{stack.label} learns nothing, so there is no model to keep; leave out --save-model")


def require_keepable(folder: Path, plan: Plan, keep: str = LAST) -> None:
    """UserError where a run's model cannot be kept in `folder`: nothing is learned, something else is there, or it
    learns stage after stage, where no epoch has a total that could be the best."""
    require_trained(plan.stack)
    benchmark = plan.benchmark
    if keep == BEST_TOTAL and (benchmark.kind == "temporalwiki" or len(benchmark.stages) > 1):
        raise UserError(
            f"--keep {keep}: {benchmark.name} is measured stage after stage, so that no epoch has the best total; "
            "leave out --keep, and the model is kept as its last stage leaves it"
        )
    _require_free(folder / plan.spec.run_id)


def _require_free(target: Path) -> None:
    if target.exists() and not (target / KEPT).is_file():
        raise UserError(f"{target} is there and was not written by --save-model; move it, or name another folder")


def save_model(model: nn.Module, plan: Plan, record: Record, folder: Path, epoch: int | None = None) -> Path:
    """Write the model of a plan's finished run to `folder/<run id>`, whole or not at all; returns that folder.

    The model is that of `epoch`, or of the last one. The owner of `build` writes the weights (`Method.save`), the
    tokenizer goes beside them, and a model card is made from the record. One that an earlier run of the same id has
    left there is replaced. Raises UserError where it cannot be written or the place holds something else.
    """
    target = folder / record.run_id
    _require_free(target)
    of = record.stages[-1].epochs[-1].epoch if epoch is None else epoch
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{record.run_id}-") as made:
            new = Path(made) / "model"
            new.mkdir()
            builder = plan.stack.owner("build")
            builder.save(model, new)
            _as_found(plan.base).save_pretrained(str(new))
            if (new / ADAPTER).is_file():
                _name_base(new / ADAPTER, plan.base.name)
            write_text(new / "README.md", model_card(record, new, of, builder.holds, plan.benchmark.licences))
            own = sorted(file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file())
            about = {"run_id": record.run_id, "epoch": of, "spec": record.spec.model_dump(), "files": [*own, KEPT]}
            write_json(new / KEPT, about)
            if target.exists():
                target.rename(Path(made) / "old")
            new.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    except SafetensorError as error:  # what a full disk makes it raise
        raise unwritable(target, OSError(str(error))) from error
    return target


def load_model(folder: Path, stack: Stack, base: BaseModel) -> nn.Module:
    """The model that `save_model` wrote, built by the same stack over the same base model, in evaluation mode.

    Raises UserError where the weights in the folder are not those of such a model.
    """
    return stack.owner("build").load(base.load, folder).eval()


def kept_spec(folder: Path) -> Spec | None:
    """What was run where a folder is one of `save_model`'s; None where it is not. UserError for a damaged one."""
    path = folder / KEPT
    if not path.is_file():
        return None
    about: Any = read_json(path)
    try:
        return Spec.model_validate(about["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not say what was run ({first_line(error)}); restore the folder") from error


def stack_of(spec: Spec, methods_dir: Path | None = None) -> Stack:
    """A stack that builds the model of such a spec's run: the owner of its `build` with its hyperparameters.

    UserError where that method is not here, or is not what it was.
    """
    absent = []
    for name, values in spec.hyperparameters.items():
        try:
            builds = "build" in hooks_of(load_method(name, methods_dir))
        except UserError:  # what else was in the stack need not be here
            absent.append(name)
            continue
        if builds:
            settings = [f"{name}.{field}={value}" for field, value in values.items() if value is not None]
            stack = make_stack(name, settings, methods_dir)
            if stack.plugins.get(f"method:{name}") != spec.inputs.get(f"method:{name}"):
                raise UserError(f"the method '{name}' is not the one that built this model; restore it as it was")
            return stack
    raise UserError(f"the method that builds this model is not here ({', '.join(absent)}); give --methods-dir")


def _as_found(base: BaseModel) -> Any:
    """The base model's tokenizer without the cutting and padding that the calls of a run have left switched on."""
    tokenizer: Any = copy.deepcopy(base.tokenizer)
    if tokenizer_hash(tokenizer) != base.tokenizer_hash:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def _name_base(path: Path, name: str) -> None:
    """Let an adapter name its base model as a user does, not by a folder of this machine's cache."""
    about: Any = read_json(path)
    here = about.get("base_model_name_or_path")
    if name == "tiny" or name in MODELS or not here:
        about["base_model_name_or_path"] = name
    elif Path(here).exists():
        about["base_model_name_or_path"] = str(Path(here).resolve())
    write_json(path, about)


def require_kept(folder: Path, record: Record, keep: str = LAST) -> None:
    """UserError where a run was finished before without this epoch's model being kept here."""
    target, epochs = folder / record.run_id, record.stages[-1].epochs
    if not (target / KEPT).is_file():
        raise UserError(f"run {record.run_id} is done, but its model is not in {target}; --fresh runs it again")
    wanted = (best_total(epochs) if keep == BEST_TOTAL else epochs[-1]).epoch
    there = kept_epoch(target)
    there = epochs[-1].epoch if there is None else there
    if there != wanted:
        raise UserError(
            f"run {record.run_id} is done, and {target} has its model of epoch {there}, not {wanted}; "
            "--fresh runs it again"
        )
