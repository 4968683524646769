"""How far a meta-step's gradient is off, by the precision of its products and by what its derivative is made with.

SmolLM2-135M and documents of tokens drawn from its vocabulary, each with a question drawn alike: the gradient that φ is
trained by, beside the same of the same weights with the forward-mode derivative in float32. Prints each document's
relative error, and its cosine with the exact one, for the forward-mode derivative and for the central difference at
every step, beside which `STEP` in `meta_gradient.py` is to be held.

    PYTHONPATH=tests python tests/perf/step_error.py [float32 bfloat16 float16 nf4]
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

import torch
from torch import Tensor

from ckl_bench.learning.sizes import loss_scale, precision
from ckl_bench.models.find import find_model
from ckl_bench_methods.qlora import load_nf4
from ckl_bench_methods.taalm.learners import Learners
from ckl_bench_methods.taalm.meta_gradient import Form, meta_gradients
from ckl_bench_methods.taalm.meta_train import make_learners
from ckl_bench_methods.taalm.texts import Task, documents, questions

STEPS = (3e-3, 1e-2, 2e-2, 5e-2, 1e-1, 2e-1, 4e-1)
DOCUMENTS, TOKENS = 4, 96


def _gradient(learners: Learners, row: list[int], w: Tensor, task: Task, form: Form, step: float | None) -> Tensor:
    """(n-1,): what φ is trained by."""
    cpu = torch.device("cpu")
    texts, asked = documents([row], cpu), questions([task], cpu)
    found: Tensor = meta_gradients(learners, texts, [w], asked, form=form, step=step)[0].gradient.float()
    return found


def main() -> None:
    """Measure each kind and print a line a step."""
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(10, 49000, (TOKENS,), generator=draw).tolist() for _ in range(DOCUMENTS)]
    weights = [torch.rand(TOKENS - 1, generator=draw) + 0.1 for _ in ids]
    for kind in sys.argv[1:] or ("float32", "bfloat16", "float16", "nf4"):
        base = find_model("smollm2-135m")
        load = load_nf4(base.load) if kind == "nf4" else base.load()
        dtype = "float32" if kind == "nf4" else kind
        exact = make_learners(load, r=16, alpha=16.0, seed=0)
        rough = Learners(exact.model, magnified=loss_scale(dtype))
        rough.start = exact.start
        ways: list[tuple[Form, float | None]] = [("forward", None), *(("central", step) for step in STEPS)]
        errors: dict[tuple[Form, float | None], list[str]] = {way: [] for way in ways}
        for row, w in zip(ids, weights, strict=True):
            task = Task(ids=torch.randint(10, 49000, (12,), generator=draw), objects=(10, 11))
            truth = _gradient(exact, row, w, task, "forward", None)
            for way in ways:
                with precision("cpu", dtype) if dtype != "float32" else nullcontext():
                    found = _gradient(rough, row, w, task, *way)
                off, cosine = (found - truth).norm() / truth.norm(), torch.cosine_similarity(found, truth, dim=0)
                errors[way].append(f"{off:.4f} ({cosine:+.3f})")
        for (form, step), each in errors.items():
            print(f"{kind:9} {form} {'' if step is None else f'{step:.0e}':6} " + "  ".join(each), flush=True)


if __name__ == "__main__":
    main()
