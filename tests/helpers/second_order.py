"""The meta-gradient by its definition: differentiated through the update, with a second-order graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ckl_bench_methods.taalm.meta_gradient import Adam
from ckl_bench_methods.taalm.texts import Task

Parameters = Mapping[str, Tensor]


def document_nll(model: nn.Module, theta: Parameters, ids: Tensor) -> Tensor:
    """(n-1,) nats: NLL of every token of the document `ids` (n,) but the first, at parameters θ."""
    logits = functional_call(model, dict(theta), (), {"input_ids": ids[None, :-1], "use_cache": False}).logits[0]
    return F.cross_entropy(logits, ids[1:], reduction="none")


def task_loss(model: nn.Module, theta: Parameters, task: Task) -> Tensor:
    """Scalar, nats: mean NLL of the object's tokens in the task's prompt, at parameters θ."""
    places = torch.tensor(task.objects)
    logits = functional_call(model, dict(theta), (), {"input_ids": task.ids[None], "use_cache": False}).logits[0]
    return F.cross_entropy(logits[places - 1], task.ids[places])


def learn(
    model: nn.Module, theta: Parameters, ids: Tensor, weights: Tensor, steps: int, adam: Adam
) -> tuple[dict[str, Tensor], torch.optim.Optimizer]:
    """Parameters after so many steps of torch's AdamW on one document's weighted loss, and the optimizer."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in theta.items()}
    optimizer = torch.optim.AdamW(
        leaves.values(), lr=adam.lr, betas=(adam.beta1, adam.beta2), eps=adam.eps, weight_decay=0.0
    )
    for _ in range(steps):
        optimizer.zero_grad()
        ((weights * document_nll(model, leaves, ids)).sum() / weights.sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return leaves, optimizer


def updated(
    model: nn.Module, theta: Parameters, ids: Tensor, weights: Tensor, dummy: int, adam: Adam
) -> dict[str, Tensor]:
    """θ' after `dummy` plain steps and one more, written from its definition, whose graph reaches the weights."""
    leaves, optimizer = learn(model, theta, ids, weights.detach(), dummy, adam)
    inner = (weights * document_nll(model, leaves, ids)).sum() / weights.sum()
    gradients = torch.autograd.grad(inner, list(leaves.values()), create_graph=True, materialize_grads=True)
    t = dummy + 1
    new = {}
    for (name, p), g in zip(leaves.items(), gradients, strict=True):
        state = optimizer.state[p]
        first, second = state.get("exp_avg", 0.0), state.get("exp_avg_sq", 0.0)
        m = adam.beta1 * first + (1 - adam.beta1) * g
        v = adam.beta2 * second + (1 - adam.beta2) * g * g
        new[name] = p - adam.lr * (m / (1 - adam.beta1**t)) / ((v / (1 - adam.beta2**t)).sqrt() + adam.eps)
    return new


def through_the_update(
    model: nn.Module, theta: Parameters, ids: Tensor, weights: Tensor, task: Task, dummy: int
) -> tuple[Tensor, Tensor]:
    """(dL/dw, L) by a second-order graph through an AdamW step written from its definition."""
    w = weights.clone().requires_grad_()
    loss = task_loss(model, updated(model, theta, ids, w, dummy, Adam()), task)
    return torch.autograd.grad(loss, w)[0], loss.detach()
