"""The meta-gradient against differentiating through the update (`create_graph=True`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ckl_bench_methods.taalm.meta_gradient import (
    Adam,
    Form,
    Task,
    document_nll,
    learn,
    meta_gradient,
    plain_step,
    supported_form,
)
from ckl_bench_methods.taalm.meta_train import make_learner
from helpers.architectures import make
from helpers.second_order import through_the_update


def setup(shape: str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Tensor], Tensor, Tensor, Task]:
    base = make(shape, attn_implementation="eager").to(dtype)
    learner, theta = make_learner(base, r=4, alpha=8.0, seed=0)
    draw = torch.Generator().manual_seed(1)
    # Away from LoRA's start, where B = 0 and A's gradient with it.
    theta = {n: p.to(dtype) + 0.02 * torch.randn(p.shape, generator=draw, dtype=dtype) for n, p in theta.items()}
    ids = torch.randint(3, 250, (24,), generator=draw)
    weights = torch.rand(23, generator=draw, dtype=dtype) + 0.05
    return learner.to(dtype), theta, ids, weights, Task(ids=torch.randint(3, 250, (9,), generator=draw), objects=(5, 6))


# Llama computes norms and rotary embeddings in float32 whatever the weights' precision, which bounds its agreement.
BOUNDS: dict[tuple[str, Form], float] = {
    ("gpt2", "forward"): 1e-12,
    ("gpt2", "central"): 1e-6,
    ("llama", "forward"): 1e-7,
    ("llama", "central"): 2e-3,
}


@pytest.mark.parametrize(("shape", "form"), BOUNDS)
@pytest.mark.parametrize("dummy", [1, 3])
def test_both_forms_agree_with_a_second_order_graph(shape: str, form: Form, dummy: int) -> None:
    model, theta, ids, weights, task = setup(shape, torch.float64)
    before = {n: p.clone() for n, p in theta.items()}
    own = {n: p.clone() for n, p in model.named_parameters()}
    expected, loss = through_the_update(model, theta, ids, weights, task, dummy)
    found = meta_gradient(model, theta, ids, weights, task, form=form, dummy_steps=dummy)
    assert (found.gradient - expected).norm() <= BOUNDS[shape, form] * expected.norm()
    assert found.task_loss == pytest.approx(loss.item(), rel=1e-12)
    assert all(torch.equal(theta[n], before[n]) for n in before)
    assert all(torch.equal(p, own[n]) for n, p in model.named_parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("shape", ["llama", "gpt2", "qwen3", "gemma3", "opt"])
def test_both_forms_agree_in_single_precision_on_every_architecture(shape: str) -> None:
    model, theta, ids, weights, task = setup(shape, torch.float32)
    exact = meta_gradient(model, theta, ids, weights, task, form="forward").gradient
    central = meta_gradient(model, theta, ids, weights, task, form="central").gradient
    # OPT's ReLU has kinks, and a difference of finite length steps over some of them.
    assert (central - exact).norm() <= (5e-2 if shape == "opt" else 1e-2) * exact.norm()


def test_the_form_follows_what_the_kernels_support(monkeypatch: pytest.MonkeyPatch) -> None:
    model, theta, ids, _, _ = setup("llama", torch.float32)
    assert supported_form(model, theta, ids) == "forward"

    class NoForwardMode(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, g: Tensor) -> Tensor:
            return g

    linear = next(m for m in model.modules() if isinstance(m, nn.Linear))
    plain = linear.forward
    monkeypatch.setattr(linear, "forward", lambda x: NoForwardMode.apply(plain(x)))  # type: ignore[no-untyped-call]
    assert supported_form(model, theta, ids) == "central"


def test_scaling_the_weights_changes_nothing_so_the_gradient_is_orthogonal_to_them() -> None:
    model, theta, ids, weights, task = setup("gpt2", torch.float64)
    one = meta_gradient(model, theta, ids, weights, task, form="forward")
    two = meta_gradient(model, theta, ids, 2 * weights, task, form="forward")
    assert two.task_loss == pytest.approx(one.task_loss, rel=1e-12)
    torch.testing.assert_close(two.gradient, one.gradient / 2, rtol=1e-9, atol=1e-12)
    assert (weights * one.gradient).sum().abs() <= 1e-12 * weights.norm() * one.gradient.norm()


def test_plain_steps_are_torchs_adamw() -> None:
    model, theta, ids, weights, _ = setup("gpt2", torch.float64)
    leaves = {n: p.clone().requires_grad_() for n, p in theta.items()}
    optimizer = torch.optim.AdamW(leaves.values(), lr=2e-4, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        ((weights * document_nll(model, leaves, ids)).sum() / weights.sum()).backward()
        optimizer.step()
    after, moments = learn(model, theta, ids, weights, steps=3, adam=Adam())
    assert moments.steps == 3
    for name, p in leaves.items():
        torch.testing.assert_close(after[name], p.detach(), rtol=1e-10, atol=1e-12)
    one, _ = plain_step(model, theta, learn(model, theta, ids, weights, steps=0, adam=Adam())[1], ids, weights, Adam())
    assert all(not torch.equal(one[n], theta[n]) for n in theta)
