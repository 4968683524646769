"""Prepared files: what a method learns once and its runs read; safetensors, with a JSON of the same name beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from ckl_bench import ranks
from ckl_bench.errors import UserError
from ckl_bench.progress import log
from ckl_bench.storage.checkpoint import Keeper, Store, undertaking
from ckl_bench.storage.files import data_dir, read_sealed, sha256_bytes, sha256_file
from ckl_bench.storage.json import json_text, sealed, sha256_json
from ckl_bench.storage.writing import write_files

Shape = TypeVar("Shape")


class Target(Protocol):
    """What a run is about, as far as it decides which prepared file it reads; see `RunTarget`."""

    @property
    def benchmark(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def model_revision(self) -> str: ...
    @property
    def tokenizer_hash(self) -> str: ...
    @property
    def attention_sha256(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of prepared file: what its JSON says it is, its name in messages, and the command that makes one."""

    schema: int | str
    name: str
    command: str
    folder: str  # in `data/`, where those that ship lie
    setting: str  # of the method that reads one
    file: str  # what messages call one that is to be made

    def chosen(self, target: Target, given: Path | None) -> Path:
        """The file that a run reads: `given`, or one that ships, by the name of the benchmark it was trained on.

        None takes the one that was trained on this benchmark's solved pairs. Raises UserError where there is none, with
        what there is, and where the file is damaged or was made for another tokenizer.
        """
        path = given if given is not None and given.is_file() else self._shipped(target, given)
        about = self.about(path)
        if target.tokenizer_hash and about["tokenizer_hash"] != target.tokenizer_hash:
            raise UserError(
                f"{path} was made for the tokenizer of '{about.get('model')}', not for that of '{target.model}'; "
                f"make one with {self.command} --model {target.model}"
            )
        return path

    def _shipped(self, target: Target, name: Path | None) -> Path:
        found = {}
        for file in sorted((data_dir() / self.folder).glob("*.json")):
            about = read_sealed(file)
            if about.get("model_revision") == target.model_revision:
                found[str(about["benchmark"])] = file.with_suffix(".safetensors")
                if name is None and about.get("data_sha256") == target.attention_sha256:
                    return found[str(about["benchmark"])]
        if name is not None and (name.suffix or len(name.parts) > 1):
            return name  # looks like a file's, and its reader says what is wrong
        if name is not None and str(name) in found:
            return found[str(name)]
        of = f"--benchmark {target.benchmark} --model {target.model}"
        make = f"make one: {self.command} {of} --out {self.file}, and pass --set {self.setting}={self.file}"
        other = f"take one trained on other facts, --set {self.setting}={' or '.join(found)}, or " if found else ""
        if name is not None:
            raise UserError(f"there is no {self.name} '{name}' for model '{target.model}'; {other}{make}")
        raise UserError(
            f"no {self.name} ships for benchmark '{target.benchmark}' and model '{target.model}'; {other}{make}"
        )

    def save(self, path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Write both files, the tensors in half precision; of several processes the first one does."""
        ranks.from_first(partial(self._save, path, tensors, about))

    def _save(self, path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        from safetensors.torch import save

        content = save({n: t.detach().to("cpu", torch.float16).contiguous() for n, t in tensors.items()})
        beside = sealed({"schema": self.schema, **about, "sha256": sha256_bytes(content)})
        write_files({path: content, path.with_suffix(".json"): json_text(beside).encode()})

    def about(self, path: Path) -> dict[str, Any]:
        """The JSON beside a file; UserError where either is missing, damaged, or of another kind."""
        make = f"make one with {self.command} --out {path}"
        if not path.is_file():
            raise UserError(f"no {self.name} at {path}; {make}")
        about = read_sealed(path.with_suffix(".json"))
        if about.get("schema") != self.schema or "tokenizer_hash" not in about:
            raise UserError(f"{path.with_suffix('.json')} does not describe a {self.name}; {make}")
        if sha256_file(path) != about.get("sha256"):
            raise UserError(f"{path} does not match its {path.with_suffix('.json').name}; restore it or {make}")
        return about

    def load(self, path: Path, shape: type[Shape]) -> tuple[Shape, dict[str, Tensor]]:
        """How the file's part of a model is made, and its tensors; UserError as `about`, and where one is no such."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        about = self.about(path)
        try:
            return TypeAdapter(shape).validate_python(about.get("shape")), load_file(path)
        except (ValidationError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path} is no {self.name} ({reason}); restore it or make it again") from error

    @torch.no_grad()
    def fill(self, own: Mapping[str, Tensor], path: Path, tensors: Mapping[str, Tensor]) -> None:
        """Put a file's tensors into a model's parameters `own`; UserError where names or shapes differ."""
        wrong = list(own.keys() ^ tensors.keys()) or [n for n in own if own[n].shape != tensors[n].shape]
        if wrong:
            named = self.about(path).get("model")
            raise UserError(f"{path} was made for another model shape (at {wrong[0]}); it names {named!r}")
        for name, tensor in tensors.items():
            own[name].copy_(tensor)

    @contextmanager
    def making(self, out: Path, about: Mapping[str, Any], *, fresh: bool) -> Iterator[Keeper | None]:
        """The making of `out`, by one process at a time: who keeps its state, or None where it is made already.

        `about` says what is made of what. Processes that share the making all get a keeper, and the first holds the
        file. Raises UserError where another process is making the same file.
        """
        whole = sha256_json(dict(about))
        ranks.require_same(whole, "what the file is made of")
        store = Store(out.parent / f".{out.name}.checkpoint", whole)
        with ExitStack() as held:

            def begin() -> bool:
                lock = out.parent / f".{out.name}.lock"
                held.enter_context(undertaking(store, lock, f"the training of {out}", fresh=fresh))
                return not fresh and self._made(out, about)

            if ranks.from_first(begin):
                log(f"{out} is trained already; --fresh trains it again")
                yield None
            else:
                yield Keeper(store)

    def _made(self, out: Path, about: Mapping[str, Any]) -> bool:
        """Whether `out` is whole and made of this very thing."""
        with suppress(UserError):
            found = self.about(out)
            return all(found.get(name) == value for name, value in about.items())
        return False


def require_name(out: Path) -> None:
    """UserError for a file to be prepared whose name does not say what it is."""
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out}: expected a name that ends in .safetensors")
