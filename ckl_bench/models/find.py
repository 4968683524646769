"""Models: a name, a local folder or a hub id -> a causal language model and its tokenizer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ckl_bench.errors import UserError, first_line, out_of_memory, unknown
from ckl_bench.models.adapters import base_of, is_adapter, merged, require_safe
from ckl_bench.models.base import BaseModel, hush, tokenizer_hash
from ckl_bench.models.cached import from_gguf, smollm2
from ckl_bench.models.catalogue import MODELS
from ckl_bench.models.hub import Repo, find_repo, interrupted, is_hub_id
from ckl_bench.models.suited import outline, require_causal, require_decoder, stored_quantised
from ckl_bench.models.tiny import TINY_SEED, TINY_WIDTH, tiny_model, tiny_tokenizer
from ckl_bench.storage.json import sha256_json
from ckl_bench.storage.sums import sha256_checked
from ckl_bench.storage.weights import save_pretrained


def folder_revision(folder: Path) -> str:
    """What pins a local model: the names and hashes of its weights and of all that says how they and text are read.

    Configuration, adapters, tokenizer with its vocabulary, merges, added and special tokens, code of its own; not what
    describes it to people.
    """
    kinds = ("*.safetensors", "*.bin", "*.json", "*.py", "*.model", "*.tiktoken", "merges.txt", "vocab.txt")
    files = sorted({file for kind in kinds for file in folder.glob(kind) if file.is_file()})
    return "files:" + sha256_json({file.name: sha256_checked(file) for file in files})


def find_model(
    name: str,
    *,
    device: str = "cpu",
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    dtype: str = "float32",
    attention: str | None = None,
) -> BaseModel:
    """A base model by name, folder, GGUF file or hub id; its tokenizer is read, its weights only when `load` is called.

    A hub id is `owner/name`, or `owner/name@revision`; it may be of a PEFT adapter. Raises UserError for a name that is
    none of these, and for a folder, file or hub id that holds no causal language model. Weights are read from
    safetensors or GGUF; `allow_pickle` lets a folder's or hub's `.bin` files be read too, by torch's restricted
    unpickler. Weights come in `dtype`; `attention` is transformers' `attn_implementation`.
    """
    hush()
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code, "allow_pickle": allow_pickle}
    find: Callable[[str], BaseModel] = partial(find_model, device=device, dtype=dtype, attention=attention, **trust)
    how: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if attention:
        how["attn_implementation"] = attention
    if name == "tiny":
        tokenizer = tiny_tokenizer()

        def load_tiny(**options: Any) -> nn.Module:
            model = tiny_model()
            if not options and not attention:
                return model.eval().to(device, how["dtype"])
            with tempfile.TemporaryDirectory() as folder:  # quantisation, say, happens as a saved model is read
                save_pretrained(model, folder)
                return _load_weights(folder, device, how | options)

        return BaseModel(
            name=name,
            revision=f"seed:{TINY_SEED},width:{TINY_WIDTH}",
            tokenizer=tokenizer,
            tokenizer_hash=tokenizer_hash(tokenizer),
            vocabulary=len(tokenizer),
            load=load_tiny,
            outline=tiny_model,
        )
    if name in MODELS:
        where, revision = smollm2()
    elif name.endswith(".gguf"):
        where, revision = from_gguf(Path(name))
    elif Path(name).is_dir() and is_adapter(Path(name)):
        base = base_of(Path(name))
        return adapted(find(base), Path(name), device, trust_remote_code, allow_pickle, dtype, attention)
    elif Path(name).is_dir():
        where, revision = Path(name), folder_revision(Path(name))
        if not (where / "config.json").is_file():
            raise UserError(f"{name} holds no model: config.json is missing; give a folder written by save_pretrained")
    elif is_hub_id(name):
        repo = find_repo(name)
        if repo.adapter:
            folder, base = repo.fetch(), base_of(repo.folder)
            below = find(base)
            made = adapted(below, folder, device, trust_remote_code, allow_pickle, dtype, attention)
            return replace(made, name=repo.name, revision=f"hub:{repo.commit} over {below.revision}")
        return _whole(repo, device, trust_remote_code, allow_pickle, how)
    elif "/" in name:
        raise UserError(f"there is no folder {name}; give one that holds a model, or a hub id such as owner/name")
    else:
        raise unknown("model", name, MODELS, "Or give a folder, a .gguf file, or a hub id such as owner/name.")
    return _pretrained(name, str(where), revision, device, trust_remote_code, allow_pickle, how)


def _whole(repo: Repo, device: str, trust_remote_code: bool, allow_pickle: bool, how: Mapping[str, Any]) -> BaseModel:
    """A whole model of the hub, at its commit."""
    if not repo.whole:
        raise UserError(
            f"'{repo.name}' holds parameters that only their method can load; ckl-bench score --model scores them"
        )
    at = {"revision": repo.commit}
    return _pretrained(repo.name, repo.name, f"hub:{repo.commit}", device, trust_remote_code, allow_pickle, how, at)


def adapted(
    below: BaseModel,
    folder: Path,
    device: str,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    dtype: str = "float32",
    attention: str | None = None,
) -> BaseModel:
    """A model with an adapter's folder merged into it; UserError where the adapter's weights cannot be read."""
    require_safe(folder, allow_pickle)
    tokenizer = below.tokenizer
    if (folder / "tokenizer_config.json").is_file():
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)

    def load(**options: Any) -> nn.Module:
        if "quantization_config" not in options:
            return merged(below.load(**options), folder)
        with tempfile.TemporaryDirectory() as scratch:  # merged first: quantised weights could not take it exactly
            save_pretrained(merged(below.load(), folder), scratch)
            settings: dict[str, Any] = {"trust_remote_code": trust_remote_code, "dtype": getattr(torch, dtype)}
            if attention:
                settings["attn_implementation"] = attention
            return _load_weights(scratch, device, settings | options)

    return replace(
        below,
        name=folder.resolve().name,
        revision=f"{folder_revision(folder)} over {below.revision}",
        tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer),
        vocabulary=max(len(tokenizer), below.vocabulary),
        load=load,
        where="",  # merged, it lies nowhere
        commit="",
    )


def _load_weights(where: str, device: str, options: Mapping[str, Any]) -> nn.Module:
    """Float32 weights from safetensors, unless `options` say otherwise; quantised ones land on the device at once."""
    from transformers import AutoModelForCausalLM

    quantised = "quantization_config" in options
    settings: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    if quantised:
        settings["device_map"] = {"": device}
    model: nn.Module
    model, found = AutoModelForCausalLM.from_pretrained(where, **settings | dict(options))
    wrong = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if wrong:  # transformers would go on with random numbers in their place
        raise ValueError(f"{len(wrong)} weights are missing or of another shape, the first is {wrong[0]}.")
    return model.eval() if quantised else model.eval().to(device)


def _pretrained(
    name: str,
    where: str,
    revision: str,
    device: str,
    trust_remote_code: bool,
    allow_pickle: bool,
    how: Mapping[str, Any],
    at: Mapping[str, str] = MappingProxyType({}),  # the revision of a hub id
) -> BaseModel:
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code, **at)
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code, **at)
    except Exception as error:  # what a stranger's files make the libraries raise
        if at and interrupted(error):
            raise _broken_off(name, error) from error
        known = f"Give one of {', '.join(MODELS)}, a folder, or a reachable hub id."
        raise UserError(f"cannot load model '{name}': {first_line(error)} {known}") from error
    require_decoder(name, config)
    text = config.get_text_config()

    def load(**options: Any) -> nn.Module:
        settings: dict[str, Any] = {"trust_remote_code": trust_remote_code, **how, **at}
        if allow_pickle:
            settings["use_safetensors"] = None  # where there are any; transformers unpickles tensors and nothing else
        try:
            model = _load_weights(where, device, settings | options)
            if "quantization_config" not in options:  # whether its widths can be quantised is for who asked for it
                require_causal(name, model)
            return model
        except UserError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            if at and interrupted(error):
                raise _broken_off(name, error) from error
            pickled = any(Path(where).glob("*.bin")) if Path(where).is_dir() else "safetensors" in str(error)
            hint = "; pickled weights (.bin) are read only with --allow-pickle" if pickled and not allow_pickle else ""
            raise UserError(f"cannot load the weights of '{name}': {first_line(error)}{hint}") from error

    return BaseModel(
        name=name if not Path(name).is_dir() else Path(name).resolve().name,
        revision=revision,
        tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer),
        vocabulary=max(len(tokenizer), getattr(text, "vocab_size", 0)),
        load=load,
        outline=lambda: outline(config, trust_remote_code),
        positions=getattr(text, "max_position_embeddings", None),
        embedded=getattr(text, "vocab_size", None),
        note=stored_quantised(config),
        where=where,
        commit=at.get("revision", ""),
    )


def _broken_off(name: str, error: Exception) -> UserError:
    return UserError(f"the download of '{name}' broke off ({first_line(error)}); the same command goes on with it")
