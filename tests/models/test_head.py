"""The head in chunks against all logits at once: values, gradients, what stands behind a head, memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as dual
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
)

from ckl_bench.models import head
from ckl_bench.models.head import forward, read, weighted_nll
from helpers.architectures import BUILDERS, SHAPE, make

SCALED: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {"final_logit_softcapping": 0.5}),
    "cohere": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.25}),
    "granite": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 4.0}),
}


class Tripled(nn.Module):
    """A model whose logits are three times its head's, which no configuration says."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_output_embeddings(self) -> nn.Module:
        return self.model.get_output_embeddings()  # type: ignore[operator,no-any-return]

    def forward(self, **given: Any) -> Any:
        found = self.model(**given)
        found.logits = 3 * found.logits
        return found


def a_model(name: str) -> nn.Module:
    if name in SCALED:
        model_class, config_class, more = SCALED[name]
        torch.manual_seed(0)
        model: nn.Module = model_class._from_config(config_class(**SHAPE | more)).eval()
    else:
        model = Tripled(make("llama")) if name == "tripled" else make(name)
    with torch.no_grad():  # logits as large as a trained model's, where a cap shows
        model.get_output_embeddings().weight.mul_(8)  # type: ignore[operator,union-attr]
    return model


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", [*BUILDERS, *SCALED, "tripled"])
def test_loss_and_gradients_are_those_of_all_logits(name: str, frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "CHUNK", 257 * 7)
    model, draw = a_model(name), torch.Generator().manual_seed(1)
    if frozen:
        model.get_output_embeddings().requires_grad_(False)  # type: ignore[operator,union-attr]
    ids = torch.randint(1, 257, (3, 20), generator=draw)
    mask, weights = torch.ones_like(ids), torch.rand(3, 19, generator=draw)
    weights[weights < 0.5] = 0.0
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(3, 19)
    expected = gradients(model, (nll * weights).sum())
    hidden = forward(model, ids, mask)
    assert (hidden.head is None) == (name == "tripled")
    row, place = weights.nonzero(as_tuple=True)
    loss = weighted_nll(hidden, row * 20 + place, ids[row, place + 1], weights[row, place])
    assert loss.item() == pytest.approx((nll * weights).sum().item(), rel=1e-5)
    found = gradients(model, loss)
    assert found.keys() == expected.keys()
    size = max(float(g.abs().max()) for g in expected.values())
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, atol=1e-5 * size, rtol=1e-4, msg=parameter)
    ours, guesses = read(hidden, row * 20 + place, ids[row, place + 1])
    torch.testing.assert_close(ours, nll[row, place].detach(), atol=1e-5, rtol=1e-5)
    assert guesses.tolist() == logits.argmax(-1)[row, place].tolist()


def test_the_head_itself_is_shown_one_position_of_one_row() -> None:
    model = make("llama")
    seen: list[Tensor] = []
    model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))  # type: ignore[operator,union-attr]
    ids, mask = torch.randint(0, 60, (4, 9)), torch.ones(4, 9, dtype=torch.long)
    forward(model, ids, mask)  # the first of a model is compared with what the model itself makes of its head
    seen.clear()
    forward(model, ids, mask)
    assert [tuple(one.shape) for one in seen] == [(1, 1, SHAPE["hidden_size"])]
    assert seen[0].stride() == (SHAPE["hidden_size"], SHAPE["hidden_size"], 1)  # else rows are multiplied one by one


def test_no_derivative_goes_through_the_head_itself() -> None:
    """In forward mode it would take zeros as large as the head's weights along."""
    model = make("llama")
    head_of, words = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    shown: list[Tensor] = []
    ids = torch.randint(0, 60, (4, 9))
    forward(model, ids, torch.ones_like(ids))  # the first of a model is compared with what it makes of its head
    head_of.register_forward_hook(lambda module, inputs, output: shown.append(inputs[0]))
    words.register_forward_hook(lambda module, inputs, output: dual.make_dual(output.detach(), torch.ones_like(output)))  # type: ignore[no-untyped-call]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), dual.dual_level():
        states = forward(model, ids, torch.ones_like(ids)).states
        assert dual.unpack_dual(states).tangent.abs().max() > 0  # type: ignore[no-untyped-call]
        assert [dual.unpack_dual(one).tangent for one in shown] == [None]  # type: ignore[no-untyped-call]


def test_memory_stays_far_below_that_of_all_logits() -> None:
    """At a vocabulary of 262,144 no tensor is made that holds a quarter of the logits."""
    from torch.utils._python_dispatch import TorchDispatchMode

    width, tokens, largest = 1 << 18, 512, 0

    class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            made = func(*args, **kwargs or {})
            if isinstance(made, Tensor) and made.shape != (width, 8):
                largest = max(largest, made.untyped_storage().nbytes())
            return made

    layer = nn.Linear(8, width, bias=False).requires_grad_(False)
    states = torch.randn(1, tokens, 8, requires_grad=True)
    hidden = head.Hidden(states=states, head=layer)
    rows = torch.arange(tokens)
    with Largest():  # type: ignore[no-untyped-call]
        weighted_nll(hidden, rows, rows, torch.ones(tokens)).backward()  # type: ignore[no-untyped-call]
    assert states.grad is not None
    assert 4 * largest <= tokens * width * 4 * 0.6  # a chunk, its copies and the workspace, of one full float32 copy
