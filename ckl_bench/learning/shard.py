"""A frozen base model spread over the processes of a run (torch's FSDP), for one that no device holds alone.

Every layer lies in parts, one a process, and is put together while it computes. So that all need it at the same time,
the processes go in step (`ranks.in_step`): each learns and scores everything, and what is gained is memory.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from ckl_bench import ranks
from ckl_bench.errors import UserError


def asked() -> bool:
    """Whether `accelerate launch` was told to spread the model, by its configuration file."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true", "yes")


def require_several() -> None:
    """UserError where one process was started: there is nobody to share a model with."""
    if ranks.started()[1] == 1:
        raise UserError(
            "--shard spreads the base model over the processes of a run, and one was started; put torchrun "
            "--nproc-per-node N in front (docs/several-processes.md)"
        )


def shard(model: nn.Module, device: str, label: str) -> None:
    """Leave each process its part of the layers of the frozen base model, and move the rest to `device`.

    Adapters, embeddings and head stay whole in every process. UserError for a model that is not a frozen base with
    peft's adapters, whose base is quantised, or whose layers are not found.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    own = {p for p in model.parameters() if p.requires_grad}
    frozen = [p for name, p in model.named_parameters() if "lora_" not in name]
    if not hasattr(model, "peft_config") or any(p.requires_grad for p in frozen):
        raise UserError(f"--shard spreads a frozen base model under LoRA, and {label} builds another; leave it out")
    if not all(p.is_floating_point() for p in frozen):
        raise UserError(f"--shard cannot spread the quantised base model of {label}; leave it out, or take lora")
    layers = _layers(model)
    if not layers:
        raise UserError("--shard does not find the layers of this model; leave it out")
    mesh = init_device_mesh(torch.device(device).type, (ranks.world(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params={p for p in layer.parameters() if p in own})
    spread = {id(t) for layer in layers for t in layer.parameters() if t not in own}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in spread:
            tensor.data = tensor.data.to(device)


def _layers(model: nn.Module) -> list[nn.Module]:
    """The layers, in the longest list of modules that the model has; of modules within layers there are no more."""
    lists = [list(module) for module in model.modules() if isinstance(module, nn.ModuleList)]
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = getattr(text, "num_hidden_layers", 0)
    return next((found for found in lists if count and len(found) == count), [])


class Below(nn.Module):
    """The base model under the adapters of a model that is spread: the same modules, asked without them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, **given: Any) -> Any:
        """What the base model makes of it."""
        with self.model.disable_adapter():
            return self.model(**given)


def held(tensor: Tensor) -> int:
    """How many of a tensor's numbers this process holds."""
    return tensor.to_local().numel() if hasattr(tensor, "to_local") else tensor.numel()
