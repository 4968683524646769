"""The exact gradient of a task's loss with respect to token weights, without a second-order graph (paper, equation 4).

The learner takes k plain AdamW steps on the weighted loss of a document and then one step that is differentiated:
θ' = θ_k - step(g), g = ∇θ Σ w_i nll_i / Σ w_i. The weights w enter g linearly, so for the task's loss L_T(θ')

    u = ∇L_T(θ'),  c = u ⊙ ∂θ'/∂g  (elementwise),  d_i = directional derivative of nll_i at θ_k along c
    dL_T/dw_i = (d_i - Σ_j w_j d_j / S) / S,  S = Σ w_j

d_i is ∂nll_i/∂h_i, which g needed anyway, times the derivative along c of h_i, the state that the head reads: no head
is applied for it. That derivative needs one forward-mode pass, in which the frozen weights meet the tangents alone,
since what they made of the document at θ_k is still there; or two plain passes for a central difference, which works
with any kernel. The released code differentiates through the update instead, which needs a patched torch and eager
attention.

Documents go through it side by side, each with its own θ: see `learners.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ckl_bench.errors import UserError
from ckl_bench.models.head import nll_and_slopes, nll_of

from .learners import Kept, Learners
from .texts import Texts

Form = Literal["forward", "central"]
# Relative length of the central difference's step. In float32 it is long, since thirty layers' rounding stands against
# it: on a 135M Llama 3e-2 errs by 1e-3, 1e-2 by 2e-3, 1e-3 by 3e-2, over NF4 alike. In bfloat16 no step is good: 1e-1
# errs by 0.8 and more, 4e-1 by 0.6, where forward mode errs by 0.4 to 0.7. In float64 short, but not so short that
# norms and rotary embeddings, which Llama models compute in float32 whatever the weights' precision, drown it.
# `step_error.py` of tests/perf measures each.
STEP = {torch.float32: 2e-2, torch.float64: 1e-4, torch.bfloat16: 1e-1, torch.float16: 5e-2}
PIECE = 1 << 16  # numbers that an elementwise rule takes at once, so that what it makes on the way stays small


@dataclass(frozen=True, kw_only=True)
class Adam:
    """The learner's AdamW step (no weight decay): learning rate α and its constants."""

    lr: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class MetaGradient:
    """What one document's meta-step gives: dL_T/dw (n-1,), and the task's loss after learning, nats."""

    gradient: Tensor
    task_loss: float


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Rows of learners on their way: numbers, AdamW's first and second moments, each (B, P), and steps taken."""

    numbers: Tensor
    first: Tensor
    second: Tensor
    steps: int = 0


def slope(
    learners: Learners, numbers: Tensor, texts: Texts, scales: Tensor, kept: Kept | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """NLL (N,) of the targets, the gradient (B, P) of Σ scales * NLL, and ∂nll_i/∂h_i (N, D); `scales` (N,).

    UserError for a model whose layers pass no gradient on to the adapters.
    """
    parts = [part.detach().requires_grad_() for part in learners.views(numbers)]
    with learners.read(parts, texts.ids, kept) as hidden:
        states = hidden.states.flatten(0, 1)[texts.rows]
        if not states.requires_grad:
            raise UserError("no gradient reaches the learner's adapters: the model's layers pass none on")
        nll, slopes = nll_and_slopes(hidden, states.detach(), texts.targets)
        gradient = numbers.new_zeros(numbers.shape)
        for part, place in zip(parts, learners.views(gradient), strict=True):
            part.register_post_accumulate_grad_hook(partial(_hand_over, place))  # type: ignore[no-untyped-call]
        into = slopes * (scales[:, None] * learners.magnified).to(slopes.dtype)
        torch.autograd.backward(states, into, inputs=parts)
    return nll, gradient if learners.magnified == 1 else gradient.div_(learners.magnified), slopes


def _hand_over(place: Tensor, part: Tensor) -> None:
    """A part's gradient goes where it belongs as soon as it is there, so that all of them never stand twice."""
    assert part.grad is not None
    place.copy_(part.grad)
    part.grad = None


def learn(learners: Learners, texts: Texts, weights: Sequence[Tensor], *, steps: int, adam: Adam) -> Learning:
    """`steps` plain AdamW steps on each document's weighted loss."""
    numbers = learners.start.expand(len(weights), -1)
    scales = _scales(weights)
    for t in range(1, steps + 1):
        gradient = slope(learners, numbers, texts, scales)[1]
        if t == 1:
            first, second, numbers = torch.zeros_like(gradient), torch.zeros_like(gradient), numbers.clone()
        for m, v, g, p in _pieces(first, second, gradient, numbers):
            m.lerp_(g, 1 - adam.beta1)
            v.mul_(adam.beta2).addcmul_(g, g, value=1 - adam.beta2)
            scale = (v / (1 - adam.beta2**t)).sqrt_().add_(adam.eps)
            p.addcdiv_(m, scale, value=-adam.lr / (1 - adam.beta1**t))
    if not steps:
        first, second = numbers.new_zeros(numbers.shape), numbers.new_zeros(numbers.shape)
    return Learning(numbers=numbers, first=first, second=second, steps=steps)


def _scales(weights: Sequence[Tensor]) -> Tensor:
    """(N,): each token's weight over the sum of its document's; where all are 0, nothing is learned."""
    return torch.cat([w / w.sum().clamp_min(torch.finfo(w.dtype).tiny) for w in weights])


def _pieces(*each: Tensor) -> zip[tuple[Tensor, ...]]:
    return zip(*(torch.split(whole, PIECE, 1) for whole in each), strict=True)


def _differentiated(learned: Learning, gradient: Tensor, adam: Adam) -> tuple[Tensor, Tensor]:
    """θ' (B, P) after one more AdamW step, and ∂θ'/∂g, elementwise as AdamW is; they take the moments' memory."""
    t = learned.steps + 1
    correct1, correct2 = 1 - adam.beta1**t, 1 - adam.beta2**t
    for m, v, g, p in _pieces(learned.first, learned.second, gradient, learned.numbers):
        mean = torch.lerp(m, g, 1 - adam.beta1) / correct1
        root = ((v * adam.beta2).addcmul_(g, g, value=1 - adam.beta2) / correct2).sqrt_()
        scale = root + adam.eps
        # d(mean/scale)/dg = mean'/scale - mean root'/scale², root' = (1-β2) g / (correct2 root). Where g and both
        # moments are 0, root is 0 and its term vanishes (g/root stays bounded).
        bend = torch.where(root > 0, mean * ((1 - adam.beta2) / correct2) * g / root, torch.zeros_like(g)) / scale**2
        torch.sub(p, adam.lr * mean / scale, out=m)
        v.copy_(((1 - adam.beta1) / correct1 / scale).sub_(bend).mul_(-adam.lr))
    return learned.first, learned.second


@torch.no_grad()
def directional_derivative(
    learners: Learners,
    numbers: Tensor,
    texts: Texts,
    slopes: Tensor,
    direction: Tensor,
    form: Form,
    *,
    kept: Kept | None = None,
    step: float | None = None,
) -> Tensor:
    """(N,): derivative of every target's NLL at `numbers` (B, P) along each row's `direction` (B, P), which is scaled.

    `slopes` (N, D) are those that `slope` gives. `forward`: one forward-mode pass, exact; `kept` is what `slope` kept.
    `central`: two plain passes at θ ± e·direction; `step` is the length of e·direction relative to θ's, by default
    where rounding and curvature balance (see `STEP`).
    """
    norm = direction.norm(dim=1)
    # As long as θ, so that no small number drowns on its way; where nothing changes, nothing is divided.
    longer = torch.where(norm > 0, numbers.norm(dim=1) / norm, torch.zeros_like(norm))
    direction.mul_(longer[:, None])
    if form == "forward":
        change = learners.tangent(numbers, direction, texts.ids, kept).flatten(0, 1)[texts.rows]
    else:
        e = STEP[learners.dtype] if step is None else step
        ends = [numbers + e * direction, numbers - e * direction]
        if learners.together:
            ends = [torch.cat(ends)]
        states = []
        for end in ends:
            ids = texts.ids.repeat(len(end) // len(numbers), 1)
            with learners.read(learners.views(end), ids) as hidden:
                states += [found.flatten(0, 1)[texts.rows] for found in torch.split(hidden.states, len(numbers))]
        change = (states[0] - states[1]) / (2 * e)
    wide = slopes.dtype if slopes.dtype.itemsize >= 4 else torch.float32
    found = (change.to(wide) * slopes.to(wide)).sum(1)
    back = torch.where(longer > 0, 1 / longer, torch.zeros_like(longer))
    counts = torch.tensor(texts.counts, device=found.device)
    return found * torch.repeat_interleave(back, counts, output_size=len(found)).to(found.dtype)


@torch.no_grad()
def task_losses(learners: Learners, numbers: Tensor, asked: Texts) -> list[float]:
    """Each row's task loss, nats: the mean NLL of the object's tokens in its prompt."""
    with learners.read(learners.views(numbers), asked.ids) as hidden:
        return asked.mean(nll_of(hidden, asked.rows, asked.targets)).tolist()  # type: ignore[no-any-return]


def meta_gradients(
    learners: Learners,
    texts: Texts,
    weights: Sequence[Tensor],
    asked: Texts,
    *,
    form: Form,
    dummy_steps: int = 1,
    adam: Adam | None = None,
    step: float | None = None,
) -> list[MetaGradient]:
    """dL_T(θ')/dw of each document: `texts` and what is `asked` of them, their `weights` (n-1,) positive."""
    adam = adam or Adam()
    weights = [w.detach() for w in weights]
    learned = learn(learners, texts, weights, steps=dummy_steps, adam=adam)
    kept: Kept | None = [] if form == "forward" and learners.keeps else None
    _, gradient, slopes = slope(learners, learned.numbers, texts, _scales(weights), kept)
    after, direction = _differentiated(learned, gradient, adam)
    del gradient
    nll, u, _ = slope(learners, after, asked, asked.even())
    direction.mul_(u)
    del u
    d = directional_derivative(learners, learned.numbers, texts, slopes, direction, form, kept=kept, step=step)
    losses, found = asked.mean(nll).tolist(), []
    for w, own, loss in zip(weights, torch.split(d, texts.counts), losses, strict=True):
        total = w.sum()
        found.append(MetaGradient(gradient=(own - (w * own).sum() / total) / total, task_loss=loss))
    return found
