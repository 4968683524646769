"""Nothing that a stranger's model brings is run or unpickled unless the user says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ckl_bench.models.find import find_model
from ckl_bench.models.tiny import tiny_tokenizer
from ckl_bench.records import read_records
from conftest import Command, write_lama
from harness.fuzz_sources import make_gguf
from helpers.architectures import make

CODE = """
from pathlib import Path

from transformers import LlamaConfig, LlamaForCausalLM

Path({proof!r}).touch()


class Config(LlamaConfig):
    model_type = "their-own"


class Model(LlamaForCausalLM):
    config_class = Config
"""


class Intruder:
    """Unpickled, it leaves a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.proof,)


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A model's folder whose weights are pickled."""
    model = make("llama")
    model.config.save_pretrained(tmp_path / "pickled")  # type: ignore[union-attr, operator]
    tiny_tokenizer().save_pretrained(tmp_path / "pickled")
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    return tmp_path / "pickled"


def run(command: Command, model: Path, small: Path, *flags: str) -> Any:
    return command("run", "--method", "lora", "--model", model, "--benchmark", small, "--epochs", "1", *flags)


def test_pickled_weights_are_read_only_where_the_user_says_so(pickled: Path, small: Path, command: Command) -> None:
    refused = run(command, pickled, small)
    assert refused.code == 2
    (line,) = (line for line in refused.err.splitlines() if line.startswith("error:"))
    assert "only with --allow-pickle" in line
    assert not list(Path("runs").rglob("*.json"))
    allowed = run(command, pickled, small, "--allow-pickle")
    assert allowed.code == 0, allowed.err
    (path,) = Path("runs", "records").glob("*.json")
    again = ("reproduce", path.stem[:8], "--model", pickled, "--benchmark", small)  # these lie in folders of ours
    assert "only with --allow-pickle" in command(*again).err
    reproduced = command(*again, "--allow-pickle")
    assert (reproduced.code, "to the last bit" in reproduced.out) == (0, True), reproduced.err


def test_a_pretest_model_is_trusted_no_more_than_a_runs(pickled: Path, command: Command, tmp_path: Path) -> None:
    build = ("build", "lama-ckl", "--lama", write_lama(tmp_path / "lama"), "--pretest-model", pickled, "--out", "built")
    assert "only with --allow-pickle" in command(*build).err
    assert not Path("built").exists()
    assert "only with --allow-pickle" not in command(*build, "--allow-pickle").err


@pytest.mark.parametrize("flags", [(), ("--allow-pickle",)], ids=["without the flag", "with the flag"])
def test_a_pickle_that_would_act_does_not_even_with_the_flag(
    flags: tuple[str, ...], pickled: Path, small: Path, command: Command, tmp_path: Path
) -> None:
    weights = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    torch.save({**weights, "intruder": Intruder(tmp_path / "proof")}, pickled / "pytorch_model.bin")
    with open(pickled / "pytorch_model.bin", "rb") as file:  # it would, if it were unpickled as any pickle is
        torch.load(file, weights_only=False)
    assert (tmp_path / "proof").exists()
    (tmp_path / "proof").unlink()
    result = run(command, pickled, small, *flags)
    assert (result.code, "Traceback" in result.err) == (2, False), result.err
    assert not (tmp_path / "proof").exists()


def test_a_models_own_code_runs_only_where_the_user_says_so(small: Path, command: Command, tmp_path: Path) -> None:
    folder, proof = tmp_path / "own", tmp_path / "proof"
    make("llama").save_pretrained(folder)  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(folder)
    (folder / "their_own.py").write_text(CODE.format(proof=str(proof)))
    config = json.loads((folder / "config.json").read_text())
    names = {"AutoConfig": "their_own.Config", "AutoModelForCausalLM": "their_own.Model"}
    config |= {"model_type": "their-own", "architectures": ["Model"], "auto_map": names}
    (folder / "config.json").write_text(json.dumps(config))
    refused = run(command, folder, small)
    assert (refused.code, refused.err.count("error:"), "Traceback" in refused.err) == (2, 1, False), refused.err
    assert not proof.exists()
    allowed = run(command, folder, small, "--trust-remote-code")
    assert allowed.code == 0, allowed.err
    assert proof.exists()


def test_weights_that_are_missing_are_not_made_up(small: Path, command: Command, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    make("llama").save_pretrained(tmp_path / "half")  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(tmp_path / "half")
    weights = load_file(tmp_path / "half" / "model.safetensors")
    lost = next(name for name in weights if "mlp" in name)
    save_file(
        {n: t for n, t in weights.items() if n != lost}, tmp_path / "half" / "model.safetensors", {"format": "pt"}
    )
    result = run(command, tmp_path / "half", small)
    assert result.code == 2
    assert f"the first is {lost}" in result.err


def test_a_gguf_file_is_a_model(small: Path, command: Command, tmp_path: Path) -> None:
    make_gguf(tmp_path)
    result = run(command, tmp_path / "model.gguf", small)
    assert result.code == 0, result.err
    assert find_model(str(tmp_path / "model.gguf")).revision.startswith("gguf:")
    scored = command("score", "--model", tmp_path / "model.gguf", "--benchmark", small, "--json")
    (before,) = (each.stages[0].epochs[0] for each in read_records(Path("runs")) if not each.spec.scored_only)
    found = json.loads(scored.out)["stages"][0]["epochs"][0]["sets"]["to_learn"]["probe_nll"]
    assert found == pytest.approx(before.sets["to_learn"].probe_nll, abs=1e-5)
