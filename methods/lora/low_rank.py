"""Where low-rank adapters go: linear layers of the language model, and weights of experts that are kept together."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd


def _language_model(model: Any) -> str:
    """The name of the decoder within a model that has other towers too, with a dot behind it; empty where it is all."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    return next((f"{name}." for name, module in model.named_modules() if module is decoder and name), "")


def linear_targets(model: Any) -> list[str]:
    """Names of the linear layers that take adapters: the language model's, without the head.

    A vision or audio tower sees nothing of a text. peft refuses `out_proj` of Mamba's layers, whose fused kernels read
    its weight past the adapter, and takes some names for those of experts (`_taken_for_experts`).
    """
    from transformers.pytorch_utils import Conv1D

    within = _language_model(model)
    head = model.get_output_embeddings()
    mamba = getattr(model.config, "model_type", "") in {"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"}
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and name.startswith(within)
        and not (mamba and _leaf(name) == "out_proj")
        and not _computes_more(module)
    ]
    taken = _taken_for_experts(model, {_leaf(name) for name in found})
    return [name for name in found if _leaf(name) not in taken]


def _leaf(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _computes_more(module: nn.Module) -> bool:
    """Whether a model's own class of linear layer gives something else than a product, as routers of experts do."""
    own = type(module).__module__.startswith(("transformers.models.", "transformers_modules."))
    return own and isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward


def _taken_for_experts(model: Any, leaves: Collection[str]) -> set[str]:
    """Those names of layers that peft takes for experts' of a model of this kind, from before these were kept together.

    It drops such a layer, wherever it stands, and adapts the experts at several times the rank in its place: without a
    word, and again whenever the adapter is loaded. Shared experts and dense layers have these names too.
    """
    try:
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
    except ImportError:  # an older peft leaves names as they are
        return set()
    taken = set()
    for leaf in leaves:
        asked = LoraConfig(target_modules=[leaf])
        try:
            convert_peft_config_for_transformers(asked, model, None)
        except ValueError:  # one of several that were kept together
            taken.add(leaf)
        if leaf not in (asked.target_modules or ()):
            taken.add(leaf)
    return taken


def _fused(model: Any) -> Iterator[str]:
    within = _language_model(model)
    for prefix, module in model.named_modules():
        if "expert" in prefix and prefix.startswith(within) and not isinstance(module, _ConvNd):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim == 3:
                    yield f"{prefix}.{name}"


def fused_experts(model: Any) -> list[str]:
    """Names of weights that hold a matrix for each expert, (experts, rows, columns): no layers of their own."""
    return list(_fused(model))


def low_rank(model: nn.Module, *, r: int, alpha: float, dropout: float = 0.0, experts: bool = False) -> Any:
    """peft's configuration of adapters of rank `r` for this model; with `experts` on fused experts' weights too."""
    from peft import LoraConfig

    return LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=linear_targets(model),
        target_parameters=(fused_experts(model) or None) if experts else None,
        bias="none",
    )
