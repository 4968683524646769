"""Control: no token of a document trains; what other parts of the stack add to the loss is all that teaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ckl_bench.encode import Batch, Tokenizer
from ckl_bench.method import Extent, Method, Needs, StageContext, Weigh


@dataclass(frozen=True, kw_only=True)
class NoTokens(Method):
    """Weight 0 on every token. Documents do not go through the model, unless a penalty looks at what it makes of them.

    Beside `restate` it tells what a document's statements teach from what the document itself does.
    """

    reads_nll: ClassVar[bool] = False
    weighs_tokens: ClassVar[bool] = False

    def weigh(self, model: nn.Module, tokenizer: Tokenizer, stage: StageContext) -> Weigh:
        def weights(batch: Batch, nll: Tensor) -> Tensor:
            return nll.new_zeros(nll.shape)

        return weights

    def needs(self, extent: Extent) -> Needs:
        return Needs(documents=0.0)
