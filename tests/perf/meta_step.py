"""One meta-step on smollm2-135m, 4 documents of 128 tokens: ours against differentiating through the update.

Each side runs in a process of its own and takes the same step: per document one plain AdamW step, one differentiated
one, the task's loss, and the gradient into φ. Prints peak memory and time of both and their ratios, and how far apart
the two gradients with respect to the weights are.

    PYTHONPATH=tests python tests/perf/meta_step.py
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

    from helpers.second_order import task_loss, updated

    w = phi(ids[None], torch.ones_like(ids[None]))[0]
    w.retain_grad()
    (task_loss(learner, updated(learner, theta, ids, w, 1, adam), task) / documents).backward()  # type: ignore[no-untyped-call]
    assert w.grad is not None
    return w.grad * documents


def step(side: str) -> dict[str, Any]:
    """Run one side; peak resident memory in bytes, seconds, and the gradients."""
    import torch

    from ckl_bench.models.find import find_model
    from ckl_bench.models.trunk import share_trunk
    from ckl_bench_methods.taalm.attention import Shape, TrainAttention
    from ckl_bench_methods.taalm.meta_gradient import Adam, meta_gradients
    from ckl_bench_methods.taalm.meta_train import make_learners
    from ckl_bench_methods.taalm.texts import Task, documents, questions
    from ckl_bench_methods.taalm.tried import supported_form

    base = find_model("smollm2-135m")
    # Fused attention has no double backward, so the other side needs the eager kind.
    options = {"attn_implementation": "eager"} if side == "create_graph" else {}
    learners = make_learners(base.load(**options), r=16, alpha=16.0, seed=0)
    trunk = share_trunk(learners.model)
    assert trunk is not None
    phi = TrainAttention(trunk, Shape(), seed=0)
    draw = torch.Generator().manual_seed(0)
    texts = torch.randint(10, 49000, (DOCUMENTS, TOKENS), generator=draw)
    tasks = [Task(ids=torch.randint(10, 49000, (12,), generator=draw), objects=(10, 11)) for _ in range(DOCUMENTS)]
    cpu, theta = torch.device("cpu"), learners.named(learners.start)
    form = supported_form(learners, texts[0].tolist(), cpu)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    adam, gradients = Adam(), []
    start = time.perf_counter()
    for ids, task in zip(texts, tasks, strict=True):
        mask = torch.ones_like(ids[None])
        if side == "ours":
            weights = phi(ids[None], mask)[0]
            read, asked = documents([ids.tolist()], cpu), questions([task], cpu)
            gradient = meta_gradients(learners, read, [weights], asked, form=form)[0].gradient
            weights.backward(gradient / DOCUMENTS)
        else:
            gradient = through_the_update(phi, learners.model, theta, ids, task, adam, DOCUMENTS)
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
