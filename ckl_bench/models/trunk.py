"""A learning model -> the base model in its memory: a second model over the same frozen weights."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def share_trunk(model: nn.Module) -> nn.Module | None:
    """A second model over the same frozen weights, without what was added to them: the base model, in its memory.

    Knows peft's adapters, and models that have a `frozen_base()`. None where any base weight trains, since then the
    base model is no longer in there.
    """
    added: Any = model
    if hasattr(added, "frozen_base"):
        twin, whole = added.frozen_base(), False
    elif hasattr(added, "unload"):
        twin, whole = model, True
    else:
        return None
    if any(p.requires_grad for n, p in twin.named_parameters() if "lora_" not in n):
        return None
    shared = {id(t): t for t in [*twin.parameters(), *twin.buffers()]}
    twin = copy.deepcopy(twin, memo=dict(shared))
    base: nn.Module = twin.unload() if whole else twin
    return base.eval()
