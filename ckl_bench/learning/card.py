"""The card of a kept model, made from the record of its run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ckl_bench.models.catalogue import MODELS
from ckl_bench.records import EpochScores, Record, StageScores
from ckl_bench.storage.json import json_text
from ckl_bench.storage.weights import ADAPTER, TRAINED

_ASKED = """prompt = tokenizer("The capital of France is", return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=8, do_sample=False)[0]))"""
# What a method builds need not generate: all that is known of it is that it gives logits.
_BY_ITS_METHOD = """import torch

from ckl_bench.learning.subject import Loading, find_subject

kept = find_subject("this folder", None, Loading())
model, tokenizer = kept.load(), kept.base.tokenizer
ids = tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
with torch.no_grad():
    for _ in range(8):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
print(tokenizer.decode(ids[0]))"""


def model_card(record: Record, folder: Path, epoch: int, held: str = "", licences: Sequence[str] = ()) -> str:
    """README.md of a kept model, in Markdown: what it is, how it was made, what it scored, how to load it.

    It is the model of that epoch, which of several stages can only be the last one; `held` is what its method holds the
    base model's weights in, where that is not what they were, and `licences` are those of the benchmark's sources.
    """
    spec, last = record.spec, record.stages[-1].epochs[-1].epoch
    if epoch == last:
        when = after = "its last epoch"
    else:
        when = f"epoch {epoch} of {last}, the one with the best total of accuracies (to learn + not to forget)"
        after = f"epoch {epoch}"
    given = f" ({', '.join(licences)})" if licences else ""
    scores = "\n".join(row for stage in record.stages for row in _rows(stage, stage.epochs[epoch - last - 1]))
    return f"""{_front(record, folder)}
# {spec.model}, having learned {spec.benchmark} by {spec.method}

A model of a run of ckl-bench (`{record.run_id}`), as it was scored after {when}.

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

Before is the stage's epoch 0, after is {after}.

## How to load it

{_loading(folder, spec.model, spec.model_revision, held)}

## Settings

```json
{json_text(spec.hyperparameters).strip()}
```

## Licence

What holds for the base model and for the benchmark's texts{given} holds for this model too; see theirs.
"""


def _front(record: Record, folder: Path) -> str:
    """What a hub reads of a card: what loads the model, and from which it was made where that is a hub's."""
    library = "peft" if (folder / ADAPTER).is_file() else "transformers"
    base = record.spec.model
    named = f"base_model: {base}\n" if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists() else ""
    tags = "tags:\n- ckl-bench\n- continual-learning\n"
    return f"---\nlibrary_name: {library}\npipeline_tag: text-generation\n{named}{tags}---\n"


def _rows(stage: StageScores, kept: EpochScores) -> list[str]:
    first, after = stage.epochs[0].sets, kept.sets
    return [
        f"| {stage.name} | {name} | {first[name].accuracy:.4f} | {after[name].accuracy:.4f} | {first[name].exact:.4f} "
        f"| {after[name].exact:.4f} | {first[name].nll:.4f} | {after[name].nll:.4f} |"
        for name in after
    ]


def _base(name: str, revision: str) -> str:
    """Lines of Python that load the base model: of a name, of a hub's commit, else of wherever it lies."""
    if name in MODELS:
        return f'from ckl_bench.models.find import find_model\n\nbase = find_model("{name}").load()'
    place = (
        f'"{name}", revision="{revision.removeprefix("hub:")}"' if revision.startswith("hub:") else f'"path of {name}"'
    )
    return f"base = AutoModelForCausalLM.from_pretrained({place})"


def _loading(folder: Path, base: str, revision: str, held: str) -> str:
    """What the folder holds, and a whole program that loads it and asks it something."""
    adapter = (folder / ADAPTER).is_file()
    if adapter and not held:
        what = f"A PEFT adapter over {base}"
        lines = f"""from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
{_base(base, revision)}
model, tokenizer = PeftModel.from_pretrained(base, "this folder"), AutoTokenizer.from_pretrained("this folder")
{_ASKED}"""
    elif adapter or (folder / TRAINED).is_file():
        what = (
            f"A PEFT adapter over {base}, which the run held in {held}, as these lines do (other tools load it over "
            "the model as it is, where it answers a little otherwise)"
            if adapter
            else f"Its trained parameters are in `{TRAINED}`, by the names that they have in the model that the method "
            f"builds over {base}; where that is a method of your own, `Loading(methods_dir=...)` says where it lies"
        )
        lines = _BY_ITS_METHOD
    else:
        what = "A whole transformers model"
        lines = f"""from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = (kind.from_pretrained("this folder") for kind in (AutoModelForCausalLM, AutoTokenizer))
{_ASKED}"""
    return f"{what}:\n\n```python\n{lines}\n```"
