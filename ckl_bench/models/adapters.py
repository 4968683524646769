"""A folder that holds an adapter: the base model it stands on, with the adapter merged into its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ckl_bench.errors import UserError, first_line, out_of_memory
from ckl_bench.models.hub import is_hub_id
from ckl_bench.storage.files import read_json

CONFIG = "adapter_config.json"
WEIGHTS = ("*.safetensors", "*.bin")


def is_adapter(folder: Path) -> bool:
    """Whether the folder is an adapter alone. UserError where it holds full weights too: one of them would be ignored,
    and which one differs from library to library."""
    if not (folder / CONFIG).is_file():
        return False
    full = [f.name for kind in WEIGHTS for f in folder.glob(kind) if not f.name.startswith("adapter_")]
    if full:
        raise UserError(
            f"{folder} holds a whole model ({min(full)}) and an adapter ({CONFIG}): which is meant cannot be told; "
            f"move {CONFIG} and adapter_model.* elsewhere, then give that folder for both or this one for the model"
        )
    return True


def base_of(folder: Path) -> str:
    """The name, folder or hub id (with its revision) of the model that an adapter stands on, which may be an adapter
    again; UserError where it does not say, or where one stands on itself in the end."""
    base = _base_of(folder)
    seen, place = [folder.resolve()], Path(base)
    while place.is_dir() and is_adapter(place):
        if place.resolve() in seen:
            raise UserError(f"{folder / CONFIG} names an adapter that stands on itself ({place}); name a whole model")
        seen.append(place.resolve())
        place = Path(_base_of(place))
    return base


def _base_of(folder: Path) -> str:
    about: Any = read_json(folder / CONFIG)
    base = about.get("base_model_name_or_path") if isinstance(about, dict) else None
    if not isinstance(base, str) or not base:
        raise UserError(f"{folder / CONFIG} does not say over which model (base_model_name_or_path); write it there")
    beside = folder / base
    if not Path(base).is_dir() and beside.is_dir():
        return str(beside)
    revision = about.get("revision")
    return f"{base}@{revision}" if isinstance(revision, str) and revision and is_hub_id(base) else base


def require_safe(folder: Path, allow_pickle: bool) -> None:
    """UserError for an adapter whose weights are missing, or pickled without leave."""
    if (folder / "adapter_model.safetensors").is_file():
        return
    if not (folder / "adapter_model.bin").is_file():
        raise UserError(f"{folder} holds no weights of its adapter; adapter_model.safetensors is expected")
    if not allow_pickle:
        raise UserError(f"{folder} holds pickled weights (adapter_model.bin), read only with --allow-pickle")


def merged(model: nn.Module, folder: Path) -> nn.Module:
    """The model with the adapter's changes in its own weights. UserError where the two do not fit, or cannot merge."""
    from peft import PeftModel

    try:
        both: Any = PeftModel.from_pretrained(model, str(folder))
        if not hasattr(both, "merge_and_unload"):
            kind = both.peft_config["default"].peft_type.value
            raise UserError(
                f"the adapter in {folder} ({kind}) adds to prompts and has no weights to merge; give a LoRA"
            )
        whole: nn.Module = both.merge_and_unload()
    except UserError:
        raise
    except Exception as error:  # what a stranger's files make the libraries raise
        if out_of_memory(error):
            raise
        raise UserError(f"the adapter in {folder} cannot be merged into its base model: {first_line(error)}") from error
    for parameter in whole.parameters():
        parameter.requires_grad_(True)
    return whole.eval()
