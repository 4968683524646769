"""Train-attention φ: a causal language model whose head is one linear map, giving each token a weight in (0, 1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, FiniteFloat
from torch import Tensor, nn

from ckl_bench.storage.prepared import Kind

from ..lora.low_rank import low_rank

FILES = Kind(
    schema=1,
    name="train-attention",
    command="ckl-bench train-attention",
    folder="attention",
    setting="taalm.attention",
    file="phi.safetensors",
)
Scale = Literal["max", "plain"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How φ is made from a base model."""

    r: Annotated[int, Field(gt=0, le=4096)] = 8  # rank of φ's LoRA on all linear layers
    alpha: FiniteFloat = 16.0
    bias: FiniteFloat = 0.0  # the head's initial bias; the released code starts at 4, in sigmoid's flat part
    scale: Scale = "max"  # weights divided by the document's largest, or left as sigmoid gives them


class TrainAttention(nn.Module):
    """φ over a base model's trunk: w_i = sigmoid(h_i · v + b), h_i the last hidden state at token i.

    φ has read x_i when it weighs the loss of predicting x_i. Only the LoRA and the head train; the trunk is frozen and
    may be shared with the learner. The weighted loss divides by Σ w, so nothing fixes the scale of w and plain weights
    drift to 0; `scale="max"` divides them by the document's largest.
    """

    def __init__(self, base: nn.Module, shape: Shape, seed: int) -> None:
        from peft import inject_adapter_in_model

        super().__init__()
        self.shape = shape
        config = low_rank(base, r=shape.r, alpha=shape.alpha)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: Any = inject_adapter_in_model(config, base)
            # The trunk alone: the vocabulary head is never needed.
            self.trunk: nn.Module = _below_the_head(model)
            hidden = model.config.get_text_config().hidden_size
            self.head = nn.Linear(hidden, 1)
            nn.init.normal_(self.head.weight, std=0.02)
            nn.init.constant_(self.head.bias, shape.bias)
        self.requires_grad_(False)
        for parameter in self.trained().values():
            if parameter.dtype.itemsize < 4:  # AdamW's steps would be lost in 16 bits
                parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        self.head.to(next(base.parameters()).device)
        self.eval()  # without dropout, whatever the trunk has: the same document always gets the same weights

    def trained(self) -> dict[str, nn.Parameter]:
        """φ's own parameters: LoRA and head."""
        return {n: p for n, p in self.named_parameters() if "lora_" in n or n.startswith("head.")}

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T-1) weights of the tokens of `ids` (B, T) but the first; 0 on padding."""
        hidden = self.trunk(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        weights = torch.sigmoid(self.head(hidden.to(self.head.weight.dtype)).squeeze(-1))[:, 1:] * mask[:, 1:]
        if self.shape.scale == "max":
            weights = weights / weights.amax(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return weights  # type: ignore[no-any-return]


def _below_the_head(model: Any) -> nn.Module:
    from transformers import PreTrainedModel

    named: nn.Module | None = getattr(model, model.base_model_prefix, None)
    if named is not None:
        return named
    # Llama 4's text model has the prefix of what it is a part of elsewhere.
    inner: nn.Module = next(child for child in model.children() if isinstance(child, PreTrainedModel))
    return inner


def load_attention(path: Path, base: nn.Module) -> TrainAttention:
    """φ from its file, over the trunk of `base`, frozen and in evaluation mode.

    Raises UserError where the file does not fit the base model's shape.
    """
    shape, tensors = FILES.load(path, Shape)
    phi = TrainAttention(base, shape, seed=0)
    FILES.fill(phi.trained(), path, tensors)
    return phi.requires_grad_(False).eval()
