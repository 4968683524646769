"""Which adapters vLLM runs: LoRA of which it would leave nothing out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ckl_bench.errors import UserError, first_line
from ckl_bench.storage.files import read_json

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapters that vLLM makes room for

# What peft says of an adapter that vLLM reads too, or that says nothing of what the adapter does once it is learned.
_READ = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "target_modules"}
_SAYS_NOTHING = {
    *("auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version"),
    *("exclude_modules", "layers_to_transform", "layers_pattern", "lora_dropout", "fan_in_fan_out", "runtime_config"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "megatron_core", "qalora_group_size"),
}
# Of its start: True and False too. Others, as PiSSA's, change the base model's weights.
_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


def require_adapter(folder: Path) -> tuple[int, list[str]]:
    """The rank that vLLM has to make room for, and the names of the modules that are changed.

    Raises UserError for an adapter of which vLLM would leave anything out.
    """
    about: Any = read_json(folder / "adapter_config.json")
    hint = "--backend transformers scores it"
    if about.get("peft_type") != "LORA":
        raise UserError(f"{folder} is an adapter of type {about.get('peft_type')}, and vLLM runs LoRA alone; {hint}")
    beyond = next((name for name, value in about.items() if value and not _runs(name, value)), None)
    if beyond is not None:
        raise UserError(f"{folder} has {beyond}, which vLLM does not run; {hint}")
    tensors = _tensors(folder)
    dropped = [name for name in tensors if "lm_head" in name or "embed" in name]
    if dropped:
        raise UserError(f"{folder} changes {dropped[0]}, which vLLM would silently leave out; {hint}")
    rank = max([int(about.get("r", 8)), *map(int, (about.get("rank_pattern") or {}).values())])
    room = next((size for size in RANKS if size >= rank), None)
    if room is None:
        raise UserError(f"{folder} has rank {rank}, and vLLM runs at most {RANKS[-1]}; {hint}")
    return room, sorted({name.partition(".lora_")[0].rpartition(".")[2] for name in tensors})


def _runs(name: str, value: Any) -> bool:
    if name == "bias":
        return bool(value == "none")
    if name == "init_lora_weights":
        return not isinstance(value, str) or value.lower() in _STARTS
    return name in _READ or name in _SAYS_NOTHING


def _tensors(folder: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    path = folder / "adapter_model.safetensors"
    if not path.is_file():
        raise UserError(f"{folder} has no adapter_model.safetensors, and vLLM is given no pickled weights here")
    try:
        with safe_open(str(path), framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error
