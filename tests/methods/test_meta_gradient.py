"""The meta-gradient against differentiating through the update (`create_graph=True`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as dual
from torch import Tensor, nn

from ckl_bench.learning.sizes import precision
from ckl_bench_methods.taalm.learners import Learners
from ckl_bench_methods.taalm.meta_gradient import (
    Adam,
    Form,
    MetaGradient,
    learn,
    meta_gradients,
)
from ckl_bench_methods.taalm.meta_train import make_learners
from ckl_bench_methods.taalm.texts import Task, documents, questions
from ckl_bench_methods.taalm.tried import side_by_side, supported_form
from conftest import Command
from helpers import second_order
from helpers.architectures import make
from helpers.families import make_family
from helpers.second_order import through_the_update

CPU = torch.device("cpu")


def setup(shape: str, dtype: torch.dtype, **options: Any) -> tuple[Learners, Tensor, Tensor, Task]:
    """Learners away from LoRA's start, where B = 0 and A's gradient with it; a document, its weights and its task."""
    learners = make_learners(make(shape, attn_implementation="eager", **options).to(dtype), r=4, alpha=8.0, seed=0)
    draw = torch.Generator().manual_seed(1)
    learners.start = learners.scattered(1, draw)[0]
    ids = torch.randint(3, 250, (24,), generator=draw)
    weights = torch.rand(23, generator=draw, dtype=dtype) + 0.05
    return learners, ids, weights, Task(ids=torch.randint(3, 250, (9,), generator=draw), objects=(5, 6))


def found(
    learners: Learners,
    ids: Sequence[Tensor],
    weights: Sequence[Tensor],
    tasks: Sequence[Task],
    form: Form = "forward",
    **options: Any,
) -> list[MetaGradient]:
    texts = documents([each.tolist() for each in ids], CPU)
    results: list[MetaGradient] = meta_gradients(learners, texts, weights, questions(tasks, CPU), form=form, **options)
    return results


# Llama computes norms and rotary embeddings in float32 whatever the weights' precision, which bounds its agreement.
BOUNDS: dict[tuple[str, Form], float] = {
    ("gpt2", "forward"): 1e-12,
    ("gpt2", "central"): 1e-6,
    ("llama", "forward"): 1e-6,
    ("llama", "central"): 2e-3,
}


@pytest.mark.parametrize(("shape", "form"), BOUNDS)
@pytest.mark.parametrize("dummy", [1, 3])
def test_both_forms_agree_with_a_second_order_graph(shape: str, form: Form, dummy: int) -> None:
    learners, ids, weights, task = setup(shape, torch.float64)
    before = learners.start.clone()
    own = {n: p.clone() for n, p in learners.model.named_parameters()}
    theta = learners.named(learners.start)
    expected, loss = through_the_update(learners.model, theta, ids, weights, task, dummy)
    (one,) = found(learners, [ids], [weights], [task], form, dummy_steps=dummy)
    assert (one.gradient - expected).norm() <= BOUNDS[shape, form] * expected.norm()
    assert one.task_loss == pytest.approx(loss.item(), rel=1e-7 if shape == "llama" else 1e-12)
    assert torch.equal(learners.start, before)
    assert all(torch.equal(p, own[n]) for n, p in learners.model.named_parameters())
    assert all(p.grad is None for p in learners.model.parameters())


@pytest.mark.parametrize("shape", ["llama", "gpt2", "qwen3", "gemma3", "opt"])
def test_both_forms_agree_in_single_precision_on_every_architecture(shape: str) -> None:
    learners, ids, weights, task = setup(shape, torch.float32)
    (exact,) = found(learners, [ids], [weights], [task])
    (central,) = found(learners, [ids], [weights], [task], "central")
    learners.keeps = False
    (again,) = found(learners, [ids], [weights], [task])
    torch.testing.assert_close(again.gradient, exact.gradient, rtol=1e-5, atol=1e-7)
    # OPT's ReLU has kinks, and a difference of finite length steps over some of them.
    assert (central.gradient - exact.gradient).norm() <= (5e-2 if shape == "opt" else 1e-2) * exact.gradient.norm()


@pytest.mark.parametrize(("shape", "form"), [("gpt2", "forward"), ("gpt2", "central"), ("gemma3", "forward")])
def test_documents_side_by_side_get_what_each_gets_alone(shape: str, form: Form) -> None:
    learners, _, _, _ = setup(shape, torch.float64)
    draw = torch.Generator().manual_seed(2)
    texts = [torch.randint(3, 250, (n,), generator=draw) for n in (9, 24, 17)]
    weights = [torch.rand(len(ids) - 1, generator=draw, dtype=torch.float64) + 0.05 for ids in texts]
    places = ((5, 6), (3,), (7,))
    tasks = [Task(ids=torch.randint(3, 250, (9,), generator=draw), objects=objects) for objects in places]
    together = found(learners, texts, weights, tasks, form)
    alone = [found(learners, [a], [b], [c], form)[0] for a, b, c in zip(texts, weights, tasks, strict=True)]
    near = 1e-4 if shape == "gemma3" else 1e-6  # its norms are of float32 whatever the weights are
    for one, other in zip(together, alone, strict=True):
        assert (one.gradient - other.gradient).norm() <= near * other.gradient.norm()
        assert one.task_loss == pytest.approx(other.task_loss, abs=1e-6)


@pytest.mark.parametrize(("family", "can"), [("llama", True), ("opt", True), ("mixtral", True), ("mamba", True)])
def test_which_models_take_documents_side_by_side_is_tried(family: str, can: bool) -> None:
    learners = make_learners(make_family(family), r=4, alpha=8.0, seed=0)
    texts = [list(range(3, 30)), list(range(40, 70)), list(range(7, 33))]
    assert side_by_side(learners, texts, CPU) == can


def test_a_model_whose_rows_notice_each_other_reads_one_document_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    learners = make_learners(make("llama"), r=4, alpha=8.0, seed=0)
    texts = [list(range(3, 30)), list(range(40, 70)), list(range(7, 33))]
    assert side_by_side(learners, texts, CPU)
    linear = next(m for m in learners.model.modules() if isinstance(m, nn.Linear))
    plain = linear.forward
    monkeypatch.setattr(linear, "forward", lambda x: plain(x) + x.abs().mean())
    assert not side_by_side(learners, texts, CPU)
    monkeypatch.setattr(linear, "forward", lambda x: plain(x.flatten(0, 1)).view(*x.shape[:-1], -1))
    assert side_by_side(learners, texts, CPU)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_form_follows_what_the_kernels_support(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learners, ids, _, _ = setup("llama", torch.float32)

    def form_of(learners: Learners) -> Form:
        with precision("cpu", dtype):
            form: Form = supported_form(learners, ids.tolist(), CPU)
        return form

    assert form_of(learners) == "forward"
    fused = make_learners(make("llama"), r=4, alpha=8.0, seed=0)  # whose attention is left when it has to be
    assert form_of(fused) == "forward"

    class NoForwardMode(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, g: Tensor) -> Tensor:
            return g

    norms = [m for m in learners.model.modules() if "RMSNorm" in type(m).__name__]
    plain = norms[-1].forward
    with monkeypatch.context() as patched:
        patched.setattr(norms[-1], "forward", lambda x: NoForwardMode.apply(plain(x)))  # type: ignore[no-untyped-call]
        assert form_of(learners) == "central"
    for norm in (norms[0], norms[2], norms[-1]):  # a tangent is dropped without a word, of one branch or of all
        plain = norm.forward
        with monkeypatch.context() as patched:
            primal = lambda x, plain=plain: dual.unpack_dual(plain(x)).primal  # type: ignore[no-untyped-call]  # noqa: E731
            patched.setattr(norm, "forward", primal)
            expected = "forward" if norm is norms[0] else "central"  # before which no adapter has been
            assert form_of(learners) == expected


def test_scaling_the_weights_changes_nothing_so_the_gradient_is_orthogonal_to_them() -> None:
    learners, ids, weights, task = setup("gpt2", torch.float64)
    (one,) = found(learners, [ids], [weights], [task])
    (two,) = found(learners, [ids], [2 * weights], [task])
    assert two.task_loss == pytest.approx(one.task_loss, rel=1e-12)
    torch.testing.assert_close(two.gradient, one.gradient / 2, rtol=1e-9, atol=1e-12)
    assert (weights * one.gradient).sum().abs() <= 1e-12 * weights.norm() * one.gradient.norm()


def test_plain_steps_are_torchs_adamw() -> None:
    learners, ids, weights, _ = setup("gpt2", torch.float64)
    expected, _ = second_order.learn(learners.model, learners.named(learners.start), ids, weights, 3, Adam())
    texts = documents([ids.tolist()], CPU)
    learned = learn(learners, texts, [weights], steps=3, adam=Adam())
    assert learned.steps == 3
    for name, p in learners.named(learned.numbers[0]).items():
        torch.testing.assert_close(p, expected[name].detach(), rtol=1e-10, atol=1e-12)
    one = learn(learners, texts, [weights], steps=1, adam=Adam())
    assert all((one.numbers[0] != learners.start).view(-1, 1).tolist())


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_training_in_bfloat16_says_how_far_off_its_gradient_was(dtype: str, command: Command, small: Path) -> None:
    sets = [word for field in ("steps=1", "batch_size=1", "held_out=1", "limit=3") for word in ("--set", field)]
    train = ("train-attention", "--benchmark", small, "--model", "tiny", "--out", "phi.safetensors", *sets)
    result = command(*train, "--dtype", dtype)
    assert result.code == 0, result.err
    said = " ".join(result.err.split())
    assert ("note: in bfloat16 the gradient of φ" in said) == (dtype == "bfloat16")
