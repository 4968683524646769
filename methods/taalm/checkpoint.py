"""The state of a meta-training on disk, so that the same command goes on where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ckl_bench.files import read_json, sha256_json, write_bytes, write_json


class Checkpoint:
    """φ's training state in a folder beside `out`, so that the same command goes on where it stopped."""

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self._folder = out.parent / f".{out.name}.checkpoint"
        self._identity = sha256_json(identity)

    def save(
        self, state: Mapping[str, Any], own: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, *, best: bool
    ) -> None:
        """Write the state; the JSON is written last and names the tensors' file, so a half-done save is never read."""
        tensors = {f"phi.{n}": p.detach().cpu() for n, p in own.items()}
        for name, parameter in own.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.detach().cpu()
        file = f"state-{state['step']}.safetensors"
        write_bytes(self._folder / file, save({n: t.contiguous() for n, t in tensors.items()}))
        if best:
            kept = {n: p.detach().cpu().contiguous() for n, p in own.items()}
            write_bytes(self._folder / f"best-{state['step']}.safetensors", save(kept))
        held = self._read() or {}
        best_file = f"best-{state['step']}.safetensors" if best else held.get("best_file")
        write_json(
            self._folder / "state.json",
            {"identity": self._identity, "file": file, "best_file": best_file, "state": state},
        )
        for old in self._folder.glob("*.safetensors"):
            if old.name not in (file, best_file):
                old.unlink()

    def _read(self) -> dict[str, Any] | None:
        path = self._folder / "state.json"
        if not path.is_file():
            return None
        found: dict[str, Any] = read_json(path)
        return found if found.get("identity") == self._identity else None

    def load(self, own: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """The saved state of the very same training, with φ and its optimizer put back; None where there is none."""
        found = self._read()
        if found is None:
            return None
        tensors = load_file(self._folder / found["file"])
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[f"phi.{name}"])
                kept = {
                    k: tensors[f"adam.{k}.{name}"]
                    for k in ("step", "exp_avg", "exp_avg_sq")
                    if f"adam.{k}.{name}" in tensors
                }
                if kept:
                    optimizer.state[parameter] = {
                        k: t if k == "step" else t.to(parameter.device) for k, t in kept.items()
                    }
        state: dict[str, Any] = found["state"]
        return state

    def best(self) -> dict[str, Tensor]:
        """The tensors of the φ that did best on held-out documents."""
        found = self._read()
        assert found is not None  # a checkpoint with a best φ is written before the first step
        tensors: dict[str, Tensor] = load_file(self._folder / found["best_file"])
        return tensors

    def remove(self) -> None:
        """Delete the checkpoint: the training is complete."""
        shutil.rmtree(self._folder, ignore_errors=True)
