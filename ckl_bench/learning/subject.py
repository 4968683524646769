"""Which model is meant to be scored: as it stands, under an adapter, or as a run has kept it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import nn

from ckl_bench.errors import UserError
from ckl_bench.learning.keep import kept_spec, load_model, stack_of
from ckl_bench.models.adapters import base_of, is_adapter
from ckl_bench.models.base import BaseModel
from ckl_bench.models.find import adapted, find_model, folder_revision
from ckl_bench.models.hub import find_repo, is_hub_id, pinned
from ckl_bench.spec import Spec
from ckl_bench.storage.files import sha256_file
from ckl_bench.storage.weights import ADAPTER, TRAINED


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How models are read (see `find_model`), and where methods of one's own lie."""

    device: str = "cpu"
    dtype: str = "float32"
    attention: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    methods_dir: Path | None = None

    def find(self, name: str) -> BaseModel:
        """The model of that name, folder, file or hub id."""
        return find_model(
            name,
            device=self.device,
            dtype=self.dtype,
            attention=self.attention,
            trust_remote_code=self.trust_remote_code,
            allow_pickle=self.allow_pickle,
        )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that can be scored: what it is called, what pins it, and how it is loaded.

    `name` and `revision` are the base model's where it stands on one that is known, so that its row stands beside that
    of the base model; `given` and `inputs` then say what was put over it.
    """

    base: BaseModel  # what reads the probes: tokenizer, positions
    name: str
    revision: str
    load: Callable[[], nn.Module]
    below: BaseModel | None = None  # the base model, where it is another one and is here
    given: Mapping[str, str] = field(default_factory=dict)  # `adapter` or `folder`: its name
    inputs: Mapping[str, str] = field(default_factory=dict)  # and its hash
    folder: Path | None = None  # where that lies
    held: str = ""  # what the base model's weights are held in, where a method holds them otherwise
    kind: str = "model"  # model, adapter (of peft), kept (parameters that only their method can load)


def find_subject(model: str, adapter: Path | None, loading: Loading) -> Subject:
    """The model that is meant by `--model M [--adapter DIR]`; no weight is loaded.

    `adapter` is a PEFT adapter or any folder of `run --save-model` that is not a whole model; `model` may be such a
    folder itself, and then names its base model. Both may be ids of the hub. Raises UserError for what is none of
    these, and where an adapter was learned over another base model.
    """
    if adapter is not None:
        return _over(loading.find(model), _placed(str(adapter)), loading)
    if not Path(model).is_dir() and not is_hub_id(model):
        return _plain(loading.find(model))
    place = _placed(model)
    spec = kept_spec(place.folder)
    if is_adapter(place.folder):
        base = base_of(place.folder)
        known = spec is not None and is_hub_id(base) and "@" not in base
        return _over(loading.find(pinned(base, spec.model_revision) if spec and known else base), place, loading)
    if spec is not None and (place.folder / TRAINED).is_file():
        try:
            below = loading.find(pinned(spec.model, spec.model_revision))
        except UserError as error:
            raise UserError(
                f"{model} was learned over '{spec.model}', which is not found here; give --model FOLDER-OF-THAT-MODEL "
                f"--adapter {model}"
            ) from error
        return _over(below, place, loading)
    whole = loading.find(place.given)
    if spec is None:
        return _plain(whole)
    return Subject(
        base=whole,
        name=spec.model,
        revision=spec.model_revision,
        load=whole.load,
        given={"folder": whole.name},
        inputs={"folder": place.commit or whole.revision.removeprefix("files:")},
    )


def _plain(base: BaseModel) -> Subject:
    return Subject(base=base, name=base.name, revision=base.revision, load=base.load)


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """What was learned, in a folder: one that is here, or what the hub holds at a commit."""

    given: str  # as one types it
    name: str
    folder: Path
    commit: str = ""


def _placed(given: str) -> _Placed:
    """Where an adapter or a kept model lies; fetched, where it is an id of the hub. UserError where it is neither."""
    if Path(given).is_dir():
        return _Placed(given=given, name=Path(given).resolve().name, folder=Path(given))
    if not is_hub_id(given):
        raise UserError(f"{given}: expected a folder, of a PEFT adapter or of run --save-model, or an id of the hub")
    repo = find_repo(given)
    folder = repo.folder if repo.whole else repo.fetch()
    return _Placed(given=repo.pinned, name=repo.name, folder=folder, commit=repo.commit)


def _over(base: BaseModel, place: _Placed, loading: Loading) -> Subject:
    """A base model with what a folder holds over it."""
    folder = place.folder
    spec = kept_spec(folder)
    peft = is_adapter(folder)
    if not peft and not (folder / TRAINED).is_file():
        raise UserError(
            f"--adapter {place.given} holds neither {ADAPTER} nor {TRAINED}; "
            "a whole model is given as --model, without --adapter"
        )
    if spec is None and not peft:
        raise UserError(
            f"{folder} does not say what was run (ckl-bench.json); give a folder that run --save-model wrote"
        )
    if spec is not None:
        _require_base(spec, base, folder)
        stack = stack_of(spec, loading.methods_dir)
        load: Callable[[], nn.Module]
        whole, load, held = base, partial(load_model, folder, stack, base), stack.owner("build").holds
    else:
        whole = adapted(
            base,
            folder,
            loading.device,
            loading.trust_remote_code,
            loading.allow_pickle,
            loading.dtype,
            loading.attention,
        )
        load, held = whole.load, ""
    learned = folder_revision(folder).removeprefix("files:") if peft else sha256_file(folder / TRAINED)
    return Subject(
        base=whole,
        name=base.name,
        revision=base.revision,
        load=load,
        below=base,
        given={"adapter": place.name},
        inputs={"adapter": place.commit or learned},
        folder=folder,
        held=held,
        kind="adapter" if peft else "kept",
    )


def _require_base(spec: Spec, base: BaseModel, folder: Path) -> None:
    if base.revision != spec.model_revision:
        raise UserError(
            f"{folder} was learned over {spec.model} ({spec.model_revision}), and this is {base.name} "
            f"({base.revision}); give the model that it was learned over as --model"
        )
