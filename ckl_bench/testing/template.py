"""`ckl-bench new-method`: a starting file that runs as it stands, and a test of it."""

from __future__ import annotations

import keyword
from pathlib import Path

from ckl_bench.errors import UserError
from ckl_bench.stacks.plugins import canonical, origins
from ckl_bench.storage.writing import write_files

_METHOD = '''"""TITLE: one line that says what it does; `ckl-bench methods` shows it."""

from dataclasses import dataclass

from ckl_bench.method import Method


@dataclass(frozen=True, kw_only=True)
class CLASS(Method):
    """What it does, the source it comes from, and what differs from it."""

    # Hyperparameters: a type and a default each; `--set NAME.power=2` sets one, and the record names it.
    power: float = 1.0

    # Keep the hooks you need, delete the rest; all six are explained in ckl_bench/method.py:
    #   build      what learns (a stack without one gets LoRA)   weigh      how much each token counts
    #   stream     which documents, in which order               penalty    a term beside the loss
    #   optimizer  how weights move                              scoring    how the model is scored

    def weigh(self, model, tokenizer, stage):
        """Called once a stage; stage.documents are what will be learned, stage.base() is the untrained model."""

        def weights(batch, nll):
            # batch.documents[b].text, .ids, .offsets; nll (B, T-1) is each predicted token's loss, without gradient.
            # Return the same shape: entry [b, i] weighs token i + 1 of document b. Padding is masked for you.
            return nll**self.power

        return weights
'''
_TEST = '''"""NAME keeps the contract of ckl-bench's methods; add tests of what is its own (a formula, an identity)."""

from pathlib import Path

from ckl_bench.testing import check_method


def test_conformance():
    checks = list(check_method(str(Path(__file__).with_name("FILE.py"))))
    assert all(check.passed for check in checks), checks
'''


def write_method(name: str, folder: Path) -> tuple[Path, Path]:
    """Write FOLDER/name.py and FOLDER/test_name.py; returns both. UserError for a bad or taken name."""
    module = name.strip().replace("-", "_")
    if not module.isidentifier() or keyword.iskeyword(module) or module.startswith("_") or module != module.lower():
        raise UserError(f"'{name}' cannot name a method; use small letters, digits and _, such as my_method")
    if canonical(module) in origins(folder if folder.is_dir() else None):
        raise UserError(f"there is a method '{canonical(module)}' already; choose another name")
    method, test = folder / f"{module}.py", folder / f"test_{module}.py"
    for path in (method, test):
        if path.exists():
            raise UserError(f"{path} exists already; choose another name")
    words = {"CLASS": "".join(part.title() for part in module.split("_")), "TITLE": module.replace("_", " ").title()}
    contents = {}
    for path, text in ((method, _METHOD), (test, _TEST)):
        for word, value in (*words.items(), ("NAME", canonical(module)), ("FILE", module)):
            text = text.replace(word, value)
        contents[path] = text.encode()
    write_files(contents)
    return method, test
