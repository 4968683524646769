"""What a model has learned, in a folder and back: adapters as peft's, whole models as transformers', else a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError, first_line
from ckl_bench.storage.files import read_json
from ckl_bench.storage.writing import write_json

TRAINED = "trained.safetensors"
ADAPTER = "adapter_config.json"
KEPT = "ckl-bench.json"  # marks a folder of --save-model, and says what was run and which files are its own


def save_pretrained(part: Any, folder: str | Path) -> None:
    """A model or tokenizer as transformers saves it, by whichever process asks.

    Where several are joined (`ckl_bench.ranks`), transformers' own call writes a model in the first of them alone.
    """
    asked = "should_save_on_this_rank"
    if hasattr(part, asked):
        part.__dict__[asked] = lambda is_main_process: is_main_process
    try:
        part.save_pretrained(str(folder))
    finally:
        part.__dict__.pop(asked, None)


def save_weights(model: Any, folder: Path) -> None:
    """Write what a model has learned into a folder that exists.

    A peft model as an adapter folder, a transformers model as a whole one, any other as its parameters that train, by
    name (`trained.safetensors`). Equal weights give equal bytes.
    """
    from safetensors.torch import save_file
    from transformers import PreTrainedModel

    if hasattr(model, "peft_config"):
        model.save_pretrained(str(folder), save_embedding_layers=False)  # "auto" would ask the hub
        (folder / "README.md").unlink(missing_ok=True)
        about = read_json(folder / ADAPTER)
        for name, value in about.items():
            if isinstance(value, list):  # sets, whose order changes from process to process
                about[name] = sorted(value, key=json.dumps)
        write_json(folder / ADAPTER, about)
    elif isinstance(model, PreTrainedModel):
        save_pretrained(model, folder)
    else:
        trained = {n: p.detach().cpu().contiguous().clone() for n, p in model.named_parameters() if p.requires_grad}
        save_file(trained, str(folder / TRAINED))


def kept_epoch(folder: Path) -> int | None:
    """Which epoch's model a folder of --save-model has; None where it does not say, and it is the last one's."""
    if not (folder / KEPT).is_file():
        return None
    about: Any = read_json(folder / KEPT)
    epoch = about.get("epoch") if isinstance(about, dict) else None
    return epoch if isinstance(epoch, int) else None


def load_weights(model: Any, folder: Path) -> None:
    """Put what `save_weights` wrote into a model that was built the same way.

    Raises UserError where the folder holds nothing of the kind, or weights of other names or shapes.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if hasattr(model, "peft_config"):
            from peft import set_peft_model_state_dict

            found = load_file(str(folder / "adapter_model.safetensors"))
            put = set_peft_model_state_dict(model, found)
            absent = [name for name in put.missing_keys if "lora_" in name]
            if absent or put.unexpected_keys:
                raise ValueError(f"{[*absent, *put.unexpected_keys][0]} is not in both")
        elif (folder / TRAINED).is_file():
            found, own = load_file(str(folder / TRAINED)), dict(model.named_parameters())
            names = {name for name, p in own.items() if p.requires_grad}
            if found.keys() != names:
                raise ValueError(f"{min(found.keys() ^ names)} is not in both")
            with torch.no_grad():
                for name, tensor in found.items():
                    if own[name].shape != tensor.shape:
                        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}")
                    own[name].copy_(tensor)
        else:
            model.load_state_dict(type(model).from_pretrained(str(folder), dtype=model.dtype).state_dict())
    except (OSError, ValueError, RuntimeError, AttributeError, SafetensorError) as error:
        raise UserError(
            f"{folder} holds no weights of this model ({first_line(error)}); give a folder that "
            "ckl-bench run --save-model wrote, and the base model and settings that its README.md names"
        ) from error
