"""What `ckl-bench new-method` writes: for every hook a start that runs, as (imports, fields and hook)."""

from __future__ import annotations

METHOD = '''"""TITLE: one line that says what it does; `ckl-bench methods` shows it."""

IMPORTS


@dataclass(frozen=True, kw_only=True)
class CLASS(Method):
    """What it does, the source it comes from, and what differs from it."""

    # Hyperparameters: a type and a default each; `--set NAME.FIELD=...` sets one, and the record names it.
BODY'''

TEST = '''"""NAME keeps the contract of ckl-bench's methods; add tests of what is its own (a formula, an identity)."""

from pathlib import Path

from ckl_bench.testing import check_method


def test_conformance():
    checks = list(check_method(str(Path(__file__).with_name("FILE.py"))))
    assert all(check.passed for check in checks), checks
'''

_DATACLASS = "from dataclasses import dataclass\n"
_METHOD = "from ckl_bench.method import Method"

STARTS = {
    "weigh": (
        f"{_DATACLASS}\n{_METHOD}",
        '''    power: float = 1.0

    def weigh(self, model, tokenizer, stage):
        """Called once a stage; stage.documents are what will be learned, stage.base() is the untrained model."""

        def weights(batch, nll):
            # batch.documents[b].text, .ids, .offsets; nll (B, T-1) is each predicted token's loss, without gradient.
            # Return the same shape: entry [b, i] weighs token i + 1 of document b. Padding is masked for you.
            return nll**self.power

        return weights
''',
    ),
    "build": (
        f"{_DATACLASS}\n{_METHOD}",
        '''    most: int = 1  # parameters of so many dimensions at most train: norms and biases

    def build(self, load):
        """Called once a run; load() gives a new base model, its options go to transformers' `from_pretrained`."""
        model = load()
        for parameter in model.parameters():
            # What requires a gradient trains, the rest is frozen. Modules that you add learn too, if they require one.
            parameter.requires_grad_(parameter.ndim <= self.most)
        return model
''',
    ),
    "stream": (
        f"import random\n{_DATACLASS}\nfrom ckl_bench.encode import collate\n{_METHOD}",
        '''    replayed: int = 1  # documents that join each batch

    def stream(self, batches, stage, epoch):
        """Called every epoch, from 1; what it gives must depend on stage, seed and epoch alone."""
        draw = random.Random(f"{stage.seed}:{stage.index}:{epoch}")
        known = list(stage.rehearsal())  # the benchmark's documents to rehearse; it may have none
        for batch in batches:
            # batch.documents are the new ones, batch.ids and batch.mask (B, T) their tokens; collate makes a batch.
            more = draw.sample(known, min(self.replayed, len(known)))
            yield collate([*batch.documents, *more], batch.ids.device)
''',
    ),
    "penalty": (
        f"{_DATACLASS}\n{_METHOD}",
        '''    strength: float = 0.1

    def penalty(self, model, stage):
        """Called once a stage, before its first step; stage.rehearsal() are documents that the model should keep."""
        trained = [p for p in model.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in trained]

        def pull():
            # Called at every step; a scalar with gradient, added to the loss (nats). `pull(step)` instead would see
            # the documents, weights, losses and logits of the step: ckl_bench.method.Step.
            return self.strength * sum(((p - s) ** 2).sum() for p, s in zip(trained, start, strict=True))

        return pull
''',
    ),
    "optimizer": (
        f"{_DATACLASS}\nimport torch\n\n{_METHOD}",
        '''    decay: float = 0.01
    momentum: float = 0.9

    def optimizer(self, params, lr):
        """Called once a stage with the parameters that train; every step must scale with lr."""
        # A class of your own keeps all that it needs between steps in its state_dict: a stopped run goes on from there.
        return torch.optim.AdamW(params, lr=lr, betas=(self.momentum, 0.999), weight_decay=self.decay)
''',
    ),
    "scoring": (
        "from contextlib import contextmanager, nullcontext\n"
        f"{_DATACLASS}\nimport torch\n\nfrom ckl_bench.method import Method, Scoring",
        '''    share: float = 0.5  # of the way from the first weights (0) to the learned ones (1)

    def scoring(self, model):
        """Called once a run, before anything is learned; each view is entered around a scoring pass."""
        trained = [p for p in model.parameters() if p.requires_grad]
        start = [p.detach().clone() for p in trained]

        @contextmanager
        def between():
            learned = [p.detach().clone() for p in trained]
            put(torch.lerp(s, p, self.share) for s, p in zip(start, learned, strict=True))
            try:
                yield
            finally:  # a view leaves the model as it found it
                put(learned)

        @torch.no_grad()
        def put(values):
            for p, value in zip(trained, values, strict=True):
                p.copy_(value)

        # `main` gives the run's scores; the other views are scored after a stage's last epoch.
        return Scoring(main="between", views={"between": between, "learned": nullcontext})
''',
    ),
}
