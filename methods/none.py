"""None: nothing is learned; the base model as it is, which every other row has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class Nothing(Method):
    """The untrained base model, scored once: of LAMA-ckl's facts it has learned none and kept all, a total of 1."""

    trains: ClassVar[bool] = False

    def build(self, load: Callable[..., nn.Module]) -> nn.Module:
        return load().requires_grad_(False)
