"""LoRA's layers that add in place are peft's own: in what they give, in their gradients, merged and switched off."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn

from ckl_bench.models.find import find_model
from ckl_bench_methods.lora import Lora
from ckl_bench_methods.lora.in_place import InPlace
from ckl_bench_methods.lora.low_rank import low_rank

IDS = torch.randint(1, 200, (3, 17), generator=torch.Generator().manual_seed(0))


def both(alpha: float) -> tuple[Any, Any]:
    """Ours and peft's own, with the same weights, none of which is zero."""
    base = find_model("tiny")
    ours = Lora(r=16, alpha=alpha).build(base.load)
    bare = base.load()
    plain = get_peft_model(bare, low_rank(bare, r=16, alpha=alpha))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.02, generator=draw)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def learned(model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("alpha", "near"), [(16.0, 0.0), (24.0, 1e-6)])  # scaled by 1: to the bit
def test_loss_and_gradients_are_those_of_pefts_own_layers(alpha: float, near: float) -> None:
    ours, plain = both(alpha)
    assert any(getattr(m, "lora_variant", {}) for m in ours.modules())
    assert not any(getattr(m, "lora_variant", {}) for m in plain.modules())
    (loss, gradients), (theirs, of_theirs) = learned(ours), learned(plain)
    torch.testing.assert_close(loss, theirs, atol=near, rtol=near)
    assert len(gradients) == len(of_theirs) > 20
    for name, gradient in of_theirs.items():
        assert gradient.any()
        torch.testing.assert_close(gradients[name], gradient, atol=near, rtol=near)


@torch.no_grad()
def test_it_merges_and_is_switched_off_as_theirs_is() -> None:
    ours, plain = both(24.0)
    want = plain(input_ids=IDS).logits
    assert (want - find_model("tiny").load()(input_ids=IDS).logits).abs().max() > 1e-2
    for safe in (False, True):
        merged = copy.deepcopy(ours)
        merged.merge_adapter(safe_merge=safe)
        torch.testing.assert_close(merged(input_ids=IDS).logits, want, atol=1e-5, rtol=1e-5)
        merged.unmerge_adapter()
        torch.testing.assert_close(merged(input_ids=IDS).logits, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(copy.deepcopy(ours).merge_and_unload()(input_ids=IDS).logits, want, atol=1e-5, rtol=1e-5)
    with ours.disable_adapter(), plain.disable_adapter():
        assert torch.equal(ours(input_ids=IDS).logits, plain(input_ids=IDS).logits)
    assert torch.equal(pickle.loads(pickle.dumps(ours))(input_ids=IDS).logits, ours(input_ids=IDS).logits)


def test_layers_that_are_quantised_stay_as_peft_has_them() -> None:
    from ckl_bench_methods.qlora import QLora

    base = find_model("tiny")
    model = QLora().build(base.load)
    kinds = {type(m).__name__: getattr(m, "lora_variant", {}) for m in model.modules() if hasattr(m, "lora_A")}
    assert kinds == {"Linear4bit": {}}
    lora = Lora().build(base.load)
    assert all(isinstance(v, InPlace) for m in lora.modules() for v in getattr(m, "lora_variant", {}).values())
