"""The meta-gradient by its definition: differentiated through the update, with a second-order graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ckl_bench_methods.taalm.meta_gradient import (
    Adam,
    Parameters,
    Task,
    document_nll,
    learn,
    task_loss,
)


def through_the_update(
    model: nn.Module, theta: Parameters, ids: Tensor, weights: Tensor, task: Task, dummy: int
) -> tuple[Tensor, Tensor]:
    """(dL/dw, L) by a second-order graph through an AdamW step written from its definition."""
    adam = Adam()
    start, moments = learn(model, theta, ids, weights, steps=dummy, adam=adam)
    w = weights.clone().requires_grad_()
    leaves = {n: p.clone().requires_grad_() for n, p in start.items()}
    inner = (w * document_nll(model, leaves, ids)).sum() / w.sum()
    gradients = torch.autograd.grad(inner, list(leaves.values()), create_graph=True)
    t = dummy + 1
    new = {}
    for (name, p), g in zip(leaves.items(), gradients, strict=True):
        m = adam.beta1 * moments.first[name] + (1 - adam.beta1) * g
        v = adam.beta2 * moments.second[name] + (1 - adam.beta2) * g * g
        new[name] = p - adam.lr * (m / (1 - adam.beta1**t)) / ((v / (1 - adam.beta2**t)).sqrt() + adam.eps)
    loss = task_loss(model, new, task)
    return torch.autograd.grad(loss, w)[0], loss.detach()
