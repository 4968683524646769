"""A method as a stranger writes one."""

PLUGIN = '''"""Half weights: every second token counts."""
from dataclasses import dataclass
import torch
from ckl_bench.method import Method

@dataclass(frozen=True, kw_only=True)
class Half(Method):
    start: int = 0
    share: float = 0.5
    on: bool = True

    def weigh(self, model, tokenizer, stage):
        def weights(batch, nll):
            marks = torch.zeros_like(nll)
            marks[:, self.start :: 2] = self.share
            return marks
        return weights
'''
