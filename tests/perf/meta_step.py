"""One meta-step on smollm2-135m, 4 documents of 128 tokens: ours against differentiating through the update.

Each side runs in a process of its own and takes the same step: per document one plain AdamW step, one differentiated
one, the task's loss, and the gradient into φ. Prints peak memory and time of both and their ratios, and how far apart
the two gradients with respect to the weights are.

    python tests/perf/meta_step.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

DOCUMENTS, TOKENS = 4, 128


def through_the_update(phi: Any, learner: Any, theta: Any, ids: Any, task: Any, adam: Any, documents: int) -> Any:
    """One document's gradient with respect to its weights, by one graph from φ through the update to the task's loss.

    φ's own gradient, over so many documents, is accumulated on the way.
    """
    import torch

    from ckl_bench_methods.taalm.meta_gradient import document_nll, learn, task_loss

    w = phi(ids[None], torch.ones_like(ids[None]))[0]
    w.retain_grad()
    at, moments = learn(learner, theta, ids, w.detach(), steps=1, adam=adam)
    leaves = {n: p.requires_grad_() for n, p in at.items()}
    inner = (w * document_nll(learner, leaves, ids)).sum() / w.sum()
    slopes = torch.autograd.grad(inner, list(leaves.values()), create_graph=True)
    new = {}
    for (name, p), g in zip(leaves.items(), slopes, strict=True):
        m = adam.beta1 * moments.first[name] + (1 - adam.beta1) * g
        v = adam.beta2 * moments.second[name] + (1 - adam.beta2) * g * g
        new[name] = p - adam.lr * (m / (1 - adam.beta1**2)) / ((v / (1 - adam.beta2**2)).sqrt() + adam.eps)
    (task_loss(learner, new, task) / documents).backward()
    assert w.grad is not None
    return w.grad * documents


def step(side: str) -> dict[str, Any]:
    """Run one side; peak resident memory in bytes, seconds, and the gradients."""
    import torch

    from ckl_bench.models.find import find_model
    from ckl_bench.models.trunk import share_trunk
    from ckl_bench_methods.taalm.attention import Shape, TrainAttention
    from ckl_bench_methods.taalm.meta_gradient import Adam, Task, meta_gradient, supported_form
    from ckl_bench_methods.taalm.meta_train import make_learner

    base = find_model("smollm2-135m")
    # Fused attention has no double backward, so the other side needs the eager kind.
    options = {"attn_implementation": "eager"} if side == "create_graph" else {}
    learner, theta = make_learner(base.load(**options), r=16, alpha=16.0, seed=0)
    trunk = share_trunk(learner)
    assert trunk is not None
    phi = TrainAttention(trunk, Shape(), seed=0)
    draw = torch.Generator().manual_seed(0)
    documents = torch.randint(10, 49000, (DOCUMENTS, TOKENS), generator=draw)
    tasks = [Task(ids=torch.randint(10, 49000, (12,), generator=draw), objects=(10, 11)) for _ in range(DOCUMENTS)]
    form = supported_form(learner, theta, documents[0])
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    adam, gradients = Adam(), []
    start = time.perf_counter()
    for ids, task in zip(documents, tasks, strict=True):
        mask = torch.ones_like(ids[None])
        if side == "ours":
            with torch.no_grad():
                weights = phi(ids[None], mask)[0]
            gradient = meta_gradient(learner, theta, ids, weights, task, form=form).gradient
            phi(ids[None], mask)[0].backward(gradient / DOCUMENTS)
        else:
            gradient = through_the_update(phi, learner, theta, ids, task, adam, DOCUMENTS)
        gradients.append(gradient.tolist())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "peak": peak,
        "above_model": peak - loaded,
        "seconds": time.perf_counter() - start,
        "gradients": gradients,
        "form": form,
    }


def main() -> None:
    """Both sides, one after the other, and their ratios."""
    import torch

    sides = {}
    for side in ("create_graph", "ours"):
        done = subprocess.run([sys.executable, __file__, side], capture_output=True, text=True, check=True)
        sides[side] = json.loads(done.stdout.splitlines()[-1])
        found = sides[side]
        print(
            f"{side:13s} peak memory {found['peak'] / 1e9:5.2f} GB, of which the step "
            f"{found['above_model'] / 1e9:5.2f} GB, {found['seconds']:6.1f} s"
        )
    ours, graph = sides["ours"], sides["create_graph"]
    a, b = torch.tensor(ours["gradients"]), torch.tensor(graph["gradients"])
    print(
        f"ratio         peak memory {ours['peak'] / graph['peak']:.3f}, of the step alone "
        f"{ours['above_model'] / graph['above_model']:.2f}, time {ours['seconds'] / graph['seconds']:.2f}"
        f" (form: {ours['form']}); relative difference of the gradients {((a - b).norm() / b.norm()).item():.1e}"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(step(sys.argv[1])))
    else:
        main()
