"""What the line on the terminal says of a run: which seed, which stage and epoch, and what was measured last."""

from __future__ import annotations

from ckl_bench.learning.standing import Standing
from ckl_bench.progress import GAP, shortened
from ckl_bench.scoring.sets import Scores

STAGE = 12  # columns of a stage's name at most


def where(place: str, stage: str, epochs: int, now: Standing, doing: str = "") -> str:
    """`seed 2/3  epoch 4/8  loss 1.23  learn 0.21 keep 0.83`, as far as it is known.

    `stage` is empty where there is but one; of stages that are read once no epoch is counted. `doing` is what goes on
    outside of learning.
    """
    scores = measured(now.results[-1].sets) if now.results else ""
    epoch = f"epoch {now.epoch if now.results else 0}/{epochs}" if epochs > 1 or not stage else ""
    what = [doing] if doing else [_loss(now), scores]
    return GAP.join(filter(None, [place, shortened(stage, STAGE), epoch, *what]))


def measured(scores: Scores) -> str:
    """Accuracy on what is to be learned and kept; of a month, as in tables, the NLL of changed/unchanged facts."""
    if "to_learn" in scores:
        return f"learn {scores['to_learn'].accuracy:.2f} keep {scores['not_to_forget'].accuracy:.2f}"
    return "NLL " + "/".join(f"{scores[name].nll:.2f}" for name in sorted(scores))


def _loss(now: Standing) -> str:
    """The mean loss of the epoch under way, else of the one before."""
    last = now.results[-1].train_loss if now.results else None
    loss = now.progress.loss if now.progress.steps else last
    return "" if loss is None else f"loss {loss:.2f}" if abs(loss) < 1000 else f"loss {loss:.0e}"
