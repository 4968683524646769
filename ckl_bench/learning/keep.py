"""The learned model, kept: a folder that others' tools load, with a card made from the record."""

from __future__ import annotations

import copy
import re
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ckl_bench.errors import UserError, first_line
from ckl_bench.method import hooks_of
from ckl_bench.models.base import BaseModel, tokenizer_hash
from ckl_bench.models.catalogue import MODELS
from ckl_bench.records import Record, StageScores
from ckl_bench.spec import Spec
from ckl_bench.stacks.plugins import load_method
from ckl_bench.stacks.stack import Stack, make_stack
from ckl_bench.storage.files import read_json
from ckl_bench.storage.json import json_text
from ckl_bench.storage.weights import ADAPTER, KEPT, TRAINED
from ckl_bench.storage.writing import unwritable, write_json, write_text


def require_keepable(folder: Path, stack: Stack, run_id: str) -> None:
    """UserError where a run's model could not be kept in `folder`: nothing is learned, or something else is there."""
    if not stack.trains:
        raise UserError(f"{stack.label} learns nothing, so there is no model to keep; leave out --save-model")
    target = folder / run_id
    if target.exists() and not (target / KEPT).is_file():
        raise UserError(f"{target} is there and was not written by --save-model; move it, or name another folder")


def save_model(model: nn.Module, stack: Stack, base: BaseModel, record: Record, folder: Path) -> Path:
    """Write the model of a finished run to `folder/<run id>`, whole or not at all; returns that folder.

    The owner of `build` writes the weights (`Method.save`), the tokenizer goes beside them, and a model card is made
    from the record. One that an earlier run of the same id has left there is replaced.
    Raises UserError where it cannot be written or the place holds something else.
    """
    require_keepable(folder, stack, record.run_id)
    target = folder / record.run_id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{record.run_id}-") as made:
            new = Path(made) / "model"
            new.mkdir()
            stack.owner("build").save(model, new)
            _as_found(base).save_pretrained(str(new))
            if (new / ADAPTER).is_file():
                _name_base(new / ADAPTER, base.name)
            write_text(new / "README.md", model_card(record, new))
            own = sorted(file.relative_to(new).as_posix() for file in new.rglob("*") if file.is_file())
            about = {"run_id": record.run_id, "spec": record.spec.model_dump(), "files": [*own, KEPT]}
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


def model_card(record: Record, folder: Path) -> str:
    """README.md of a kept model, in Markdown: what it is, how it was made, what it scored, how to load it."""
    spec = record.spec
    scores = "\n".join(row for stage in record.stages for row in _rows(stage))
    return f"""{_front(record, folder)}
# {spec.model}, having learned {spec.benchmark} by {spec.method}

A model of a run of ckl-bench (`{record.run_id}`), as it was scored after its last epoch.

| | |
|---|---|
| base model | {spec.model} (`{spec.model_revision}`) |
| method | {spec.method} |
| benchmark | {spec.benchmark} (`{spec.benchmark_hash}`){f", first {spec.limit}" if spec.limit else ""} |
| seed, epochs, batch size | {spec.seed}, {spec.epochs}, {spec.batch_size} |
| learning rate, tokens of a document | {spec.learning_rate:g}, {spec.max_tokens} |

## Scores

| stage | probes | accuracy before | after | exact before | after | NLL (nats) before | after |
|---|---|--:|--:|--:|--:|--:|--:|
{scores}

Before is the stage's epoch 0, after its last epoch.

## How to load it

{_loading(folder, spec.model)}

## Settings

```json
{json_text(spec.hyperparameters).strip()}
```

## Licence

What holds for the base model and for the benchmark's texts holds for this model too; see theirs.
"""


def _front(record: Record, folder: Path) -> str:
    """What a hub reads of a card: what loads the model, and from which it was made where that is a hub's."""
    library = "peft" if (folder / ADAPTER).is_file() else "transformers"
    base = record.spec.model
    named = f"base_model: {base}\n" if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists() else ""
    tags = "tags:\n- ckl-bench\n- continual-learning\n"
    return f"---\nlibrary_name: {library}\npipeline_tag: text-generation\n{named}{tags}---\n"


def _rows(stage: StageScores) -> list[str]:
    first, last = stage.epochs[0].sets, stage.epochs[-1].sets
    return [
        f"| {stage.name} | {name} | {first[name].accuracy:.4f} | {last[name].accuracy:.4f} | {first[name].exact:.4f} "
        f"| {last[name].exact:.4f} | {first[name].nll:.4f} | {last[name].nll:.4f} |"
        for name in last
    ]


def _loading(folder: Path, base: str) -> str:
    if (folder / ADAPTER).is_file():
        text = f"""A PEFT adapter over {base}:

```python
from peft import PeftModel

model = PeftModel.from_pretrained(base_model, "this folder")
```"""
    elif (folder / TRAINED).is_file():
        text = f"""Its trained parameters are in `{TRAINED}`, by the names that they have in the model that the method
builds over {base}:

```python
from pathlib import Path

from ckl_bench.learning.keep import load_model

model = load_model(Path("this folder"), stack, base)  # make_stack(...) with the settings below, find_model(...)
```"""
    else:
        text = """A whole transformers model:

```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("this folder")
```"""
    return text


def require_kept(folder: Path, record: Record) -> None:
    """UserError where a run was finished before without its model being kept here."""
    target = folder / record.run_id
    if not (target / KEPT).is_file():
        raise UserError(f"run {record.run_id} is done, but its model is not in {target}; --fresh runs it again")
