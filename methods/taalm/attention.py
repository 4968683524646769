"""Train-attention φ: a causal language model whose head is one linear map, giving each token a weight in (0, 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError
from torch import Tensor, nn

from ckl_bench.errors import UserError
from ckl_bench.storage.files import read_sealed, sha256_bytes, sha256_file
from ckl_bench.storage.json import json_text, sealed
from ckl_bench.storage.writing import write_files

from ..lora.low_rank import low_rank

SCHEMA = 1
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
            self.trunk: nn.Module = getattr(model, model.base_model_prefix)
            hidden = model.config.get_text_config().hidden_size
            self.head = nn.Linear(hidden, 1)
            nn.init.normal_(self.head.weight, std=0.02)
            nn.init.constant_(self.head.bias, shape.bias)
        self.requires_grad_(False)
        for parameter in self.trained().values():
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


def save_attention(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write φ as safetensors (half precision, LoRA and head only) with a JSON of the same name beside it."""
    from safetensors.torch import save

    content = save({n: t.detach().to("cpu", torch.float16).contiguous() for n, t in tensors.items()})
    beside = sealed({"schema": SCHEMA, **about, "sha256": sha256_bytes(content)})
    write_files({path: content, path.with_suffix(".json"): json_text(beside).encode()})


def read_about(path: Path) -> dict[str, Any]:
    """The JSON beside a φ file; UserError where either is missing, damaged, or not a φ's."""
    if not path.is_file():
        raise UserError(f"no train-attention at {path}; make one with ckl-bench train-attention --out {path}")
    about = read_sealed(path.with_suffix(".json"))
    if about.get("schema") != SCHEMA or "tokenizer_hash" not in about:
        raise UserError(f"{path.with_suffix('.json')} does not describe a train-attention; train it again")
    if sha256_file(path) != about.get("sha256"):
        raise UserError(f"{path} does not match its {path.with_suffix('.json').name}; restore it or train it again")
    return about


def load_attention(path: Path, base: nn.Module) -> TrainAttention:
    """φ from its file, over the trunk of `base`, frozen and in evaluation mode.

    Raises UserError where the file does not fit the base model's shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    about = read_about(path)
    try:
        shape = TypeAdapter(Shape).validate_python(about.get("shape"))
        tensors = load_file(path)
    except (ValidationError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is no train-attention ({reason}); restore it or train it again") from error
    phi = TrainAttention(base, shape, seed=0)
    own = phi.trained()
    wrong = list(own.keys() ^ tensors.keys()) or [n for n in own if own[n].shape != tensors[n].shape]
    if wrong:
        raise UserError(f"{path} was made for another model shape (at {wrong[0]}); it names {about.get('model')!r}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
    return phi.requires_grad_(False).eval()
