"""The exact gradient of a task's loss with respect to token weights, without a second-order graph (paper, equation 4).

The learner takes k plain AdamW steps on the weighted loss of a document and then one step that is differentiated:
θ' = θ_k - step(g), g = ∇θ Σ w_i nll_i / Σ w_i. The weights w enter g linearly, so for the task's loss L_T(θ')

    u = ∇L_T(θ'),  c = u ⊙ ∂θ'/∂g  (elementwise),  d_i = directional derivative of nll_i at θ_k along c
    dL_T/dw_i = (d_i - Σ_j w_j d_j / S) / S,  S = Σ w_j

d needs one forward-mode pass, or two plain forward passes for a central difference, which works with any kernel.
The released code differentiates through the update instead, which needs a patched torch and eager attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jvp

from ckl_bench.models.head import takes

Parameters = Mapping[str, Tensor]
Form = Literal["forward", "central"]
# Relative length of the central difference's step. In float32 it is long, since thirty layers' rounding stands against
# it: on a 135M Llama 3e-2 errs by 1e-3, 1e-2 by 2e-3, 1e-3 by 3e-2. In float64 short, but not so short that norms and
# rotary embeddings, which Llama models compute in float32 whatever the weights' precision, drown it.
STEP = {torch.float32: 2e-2, torch.float64: 1e-4}


@dataclass(frozen=True, kw_only=True)
class Adam:
    """The learner's AdamW step (no weight decay): learning rate α and its constants."""

    lr: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class Task:
    """A prompt about the document's fact: `ids` (T,), and the positions of the object's tokens in it."""

    ids: Tensor
    objects: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class MetaGradient:
    """What one document's meta-step gives: dL_T/dw (n-1,), and the task's loss after learning, nats."""

    gradient: Tensor
    task_loss: float


@dataclass(frozen=True, kw_only=True)
class Moments:
    """AdamW's carried state: first and second moment per parameter, and steps taken."""

    first: dict[str, Tensor]
    second: dict[str, Tensor]
    steps: int = 0


def document_nll(model: nn.Module, theta: Parameters, ids: Tensor) -> Tensor:
    """(n-1,) nats: NLL of every token of the document `ids` (n,) but the first, at parameters θ."""
    # The last token predicts nothing, so it need not be read.
    logits = functional_call(model, dict(theta), (), {"input_ids": ids[None, :-1], "use_cache": False}).logits[0]
    return F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, ids[1:], reduction="none")


def task_loss(model: nn.Module, theta: Parameters, task: Task) -> Tensor:
    """Scalar, nats: mean NLL of the object's tokens in the task's prompt, at parameters θ."""
    at = torch.tensor([position - 1 for position in task.objects], device=task.ids.device)
    ids = task.ids[: task.objects[-1]]  # nothing after the object is computed
    options = {"logits_to_keep": at} if takes(model, "logits_to_keep") else {}
    logits = functional_call(model, dict(theta), (), {"input_ids": ids[None], "use_cache": False, **options}).logits[0]
    logits = logits[at] if len(logits) == len(ids) else logits  # a model may take the option and not heed it
    return F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, task.ids[list(task.objects)])


def fresh_moments(theta: Parameters) -> Moments:
    """AdamW's state before its first step."""
    return Moments(
        first={n: torch.zeros_like(p) for n, p in theta.items()},
        second={n: torch.zeros_like(p) for n, p in theta.items()},
    )


def _weighted_gradient(model: nn.Module, theta: Parameters, ids: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
    leaves = {n: p.detach().requires_grad_() for n, p in theta.items()}
    loss = (weights * document_nll(model, leaves, ids)).sum() / weights.sum()
    return _gradients(loss, leaves)


def _gradients(loss: Tensor, leaves: Parameters) -> tuple[Tensor, ...]:
    """Gradients of all leaves; 0 for one that the model holds and does not use."""
    return torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)


def plain_step(
    model: nn.Module, theta: Parameters, moments: Moments, ids: Tensor, weights: Tensor, adam: Adam
) -> tuple[dict[str, Tensor], Moments]:
    """One AdamW step on the document's weighted loss; new parameters and state, the old ones untouched."""
    gradients = _weighted_gradient(model, theta, ids, weights)
    t = moments.steps + 1
    new, first, second = {}, {}, {}
    for (name, p), g in zip(theta.items(), gradients, strict=True):
        first[name] = torch.lerp(moments.first[name], g, 1 - adam.beta1)
        second[name] = (moments.second[name] * adam.beta2).addcmul_(g, g, value=1 - adam.beta2)
        scale = (second[name] / (1 - adam.beta2**t)).sqrt_().add_(adam.eps)
        new[name] = p - adam.lr / (1 - adam.beta1**t) * first[name] / scale
    return new, Moments(first=first, second=second, steps=t)


def _differentiated_step(
    model: nn.Module, theta: Parameters, moments: Moments, ids: Tensor, weights: Tensor, adam: Adam
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """θ' after one AdamW step, and ∂θ'/∂g, which is elementwise because AdamW is."""
    gradients = _weighted_gradient(model, theta, ids, weights)
    t = moments.steps + 1
    correct1, correct2 = 1 - adam.beta1**t, 1 - adam.beta2**t
    new, slope = {}, {}
    for (name, p), g in zip(theta.items(), gradients, strict=True):
        mean = torch.lerp(moments.first[name], g, 1 - adam.beta1) / correct1
        root = ((moments.second[name] * adam.beta2).addcmul_(g, g, value=1 - adam.beta2) / correct2).sqrt_()
        scale = root + adam.eps
        new[name] = p - adam.lr * mean / scale
        # d(mean/scale)/dg = mean'/scale - mean root'/scale², root' = (1-β2) g / (correct2 root). Where g and both
        # moments are 0, root is 0 and its term vanishes (g/root stays bounded).
        bend = torch.where(root > 0, mean * ((1 - adam.beta2) / correct2) * g / root, torch.zeros_like(g)) / scale**2
        slope[name] = -adam.lr * ((1 - adam.beta1) / correct1 / scale - bend)
    return new, slope


def directional_derivative(
    model: nn.Module, theta: Parameters, ids: Tensor, direction: Parameters, form: Form, step: float | None = None
) -> Tensor:
    """(n-1,) derivative of every token's NLL at θ along `direction`.

    `forward`: one forward-mode pass, exact. `central`: two plain passes at θ ± e·direction; `step` is the length of
    e·direction relative to θ's, by default where rounding and curvature balance (see `STEP`).
    """
    if form == "forward":
        tangents = {n: direction[n] for n in theta}
        return jvp(lambda t: document_nll(model, t, ids), (dict(theta),), (tangents,))[1]  # type: ignore[no-any-return]
    norm = torch.stack([d.norm() for d in direction.values()]).norm()
    if norm == 0:
        return torch.zeros(len(ids) - 1, device=ids.device, dtype=norm.dtype)
    size = torch.stack([p.norm() for p in theta.values()]).norm()
    if step is None:
        step = STEP.get(norm.dtype, STEP[torch.float32])
    e = float(step * size / norm)
    plus = document_nll(model, {n: p + e * direction[n] for n, p in theta.items()}, ids)
    minus = document_nll(model, {n: p - e * direction[n] for n, p in theta.items()}, ids)
    return (plus - minus) / (2 * e)


def supported_form(model: nn.Module, theta: Parameters, ids: Tensor) -> Form:
    """`forward` where every kernel of the model has a forward-mode derivative, else `central`."""
    if not all(p.is_floating_point() for p in model.parameters()):
        return "central"  # kernels of quantised layers may drop a tangent without a word
    zero = {n: torch.zeros_like(p) for n, p in theta.items()}
    try:
        with torch.no_grad():
            directional_derivative(model, theta, ids[:4], zero, "forward")
    except (NotImplementedError, RuntimeError):
        return "central"
    return "forward"


def learn(
    model: nn.Module, theta: Parameters, ids: Tensor, weights: Tensor, *, steps: int, adam: Adam
) -> tuple[dict[str, Tensor], Moments]:
    """`steps` plain AdamW steps from θ on the weighted loss of one document."""
    current, moments = dict(theta), fresh_moments(theta)
    for _ in range(steps):
        current, moments = plain_step(model, current, moments, ids, weights, adam)
    return current, moments


def meta_gradient(
    model: nn.Module,
    theta: Parameters,
    ids: Tensor,
    weights: Tensor,
    task: Task,
    *,
    form: Form,
    dummy_steps: int = 1,
    adam: Adam | None = None,
    step: float | None = None,
) -> MetaGradient:
    """dL_T(θ')/dw for one document: `ids` (n,), `weights` (n-1,) positive; θ and the model stay as they are.

    `theta` maps the names of the parameters that learn to their values; the rest of the model is frozen.
    """
    adam = adam or Adam()
    weights = weights.detach()
    start, moments = learn(model, theta, ids, weights, steps=dummy_steps, adam=adam)
    after, slope = _differentiated_step(model, start, moments, ids, weights, adam)
    del moments
    leaves = {n: p.requires_grad_() for n, p in after.items()}
    loss = task_loss(model, leaves, task)
    u = _gradients(loss, leaves)
    direction = {n: slope[n].mul_(g) for n, g in zip(leaves, u, strict=True)}  # c, in the slope's memory
    del after, leaves, u
    with torch.no_grad():
        d = directional_derivative(model, start, ids, direction, form, step)
        total = weights.sum()
        gradient = (d - (weights * d).sum() / total) / total
    return MetaGradient(gradient=gradient, task_loss=loss.item())
