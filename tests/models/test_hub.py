"""Models and adapters of a hub: at which commit they are read, and what is said where they cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants as constants
import pytest

from ckl_bench.learning.score import ScoreRequest, plan_score, score_model
from ckl_bench.models.find import find_model
from ckl_bench.records import Record, read_records
from ckl_bench.storage.json import unsealed
from conftest import Command
from helpers.fake_vllm import Engines, engines
from helpers.hub import Hub, server

__all__ = ["engines", "server"]


@pytest.fixture(scope="module")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tiny model, as a repository has it."""
    return files_of(written(tmp_path_factory.mktemp("model")))


def written(folder: Path, scale: float = 1.0) -> Path:
    base = find_model("tiny")
    model = base.load()
    for weight in model.parameters():
        weight.data *= scale
    model.save_pretrained(folder)  # type: ignore[operator]
    base.tokenizer.save_pretrained(str(folder))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scored(command: Command, *words: object) -> Record:
    done = command("score", *words, "--json")
    assert done.code == 0, done.err
    return Record.model_validate(unsealed(json.loads(done.out), "stdout"))


def nll(record: Record) -> float:
    return record.stages[0].epochs[0].sets["to_learn"].nll


def refused(command: Command, *words: object) -> str:
    done = command(*words)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    return done.err


def test_a_model_is_read_at_the_commit_that_its_record_names(
    command: Command,
    small: Path,
    server: Hub,
    model_files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    first = server.serve("me/base", model_files)
    planned = command("plan", "--method", "lora", "--model", "me/base", "--benchmark", small, "--device", "cpu")
    assert planned.code == 0, planned.err
    fetched = {
        line.split("/")[-1].split("?")[0] for line in server.asked if line.startswith("GET") and "/resolve/" in line
    }
    assert fetched == {"config.json"}  # no weights, and no tokenizer
    assert not any("tokenizer" in line or ".safetensors" in line for line in server.asked)
    here = scored(command, "--model", "tiny", "--benchmark", small)
    then = scored(command, "--model", "me/base", "--benchmark", small)
    assert (then.spec.model, then.spec.model_revision) == ("me/base", f"hub:{first}")
    assert nll(then) == nll(here)
    second = server.serve("me/base", files_of(written(tmp_path / "new", 2.0)))
    now = scored(command, "--model", "me/base", "--benchmark", small)
    assert now.spec.model_revision == f"hub:{second}"
    assert nll(now) != nll(here)
    again = scored(command, "--model", f"me/base@{first}", "--benchmark", small)
    assert again.run_id == then.run_id
    server.asked.clear()
    found = find_model(f"me/base@{first}")  # a commit that is here already: nothing is fetched again
    assert found.load() is not None
    assert not any(line.startswith("GET") and "/resolve/" in line for line in server.asked)


def test_a_run_over_a_hub_model_is_repeated_at_its_commit_though_the_hub_went_on(
    command: Command,
    small: Path,
    server: Hub,
    model_files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    first = server.serve("me/base", model_files)
    words = ("run", "--method", "lora", "--model", "me/base", "--benchmark", small, "--epochs", 1)
    done = command(*words, "--save-model", "models")
    assert done.code == 0, done.err
    server.serve("me/base", files_of(written(tmp_path / "new", 2.0)))
    (record,) = read_records(tmp_path / "runs")
    (folder,) = (tmp_path / "models").iterdir()
    last = record.stages[0].epochs[-1].sets["to_learn"].nll
    assert nll(scored(command, "--model", folder, "--benchmark", small)) == pytest.approx(last, abs=1e-5)
    server.serve("me/learned", files_of(folder))
    whole = scored(command, "--model", "me/learned", "--benchmark", small)
    assert nll(whole) == pytest.approx(last, abs=1e-5)
    assert (whole.spec.model_revision, whole.spec.inputs) == (f"hub:{first}", {"adapter": server.hash("me/learned", 0)})
    over = scored(command, "--model", f"me/base@{first}", "--adapter", "me/learned", "--benchmark", small)
    assert over.run_id == whole.run_id
    err = refused(command, "score", "--model", "me/base", "--adapter", "me/learned", "--benchmark", small)
    assert "give the model that it was learned over" in err
    about = json.loads((folder / "adapter_config.json").read_text())
    plain = {**files_of(folder), "adapter_config.json": json.dumps(about | {"revision": first}).encode()}
    del plain["ckl-bench.json"]
    server.serve("me/plain", plain)  # an adapter of anyone's, which names its base's commit
    assert nll(scored(command, "--model", "me/plain", "--benchmark", small)) == pytest.approx(last, abs=1e-5)
    assert command("run", "--method", "none", "--model", "me/plain", "--benchmark", small).code == 0


def test_vllm_is_given_the_commit(
    small: Path,
    server: Hub,
    model_files: dict[str, bytes],
    engines: Engines,
    command: Command,
) -> None:
    first = server.serve("me/base", model_files)
    plan = plan_score(ScoreRequest(model="me/base", benchmark=str(small), backend="vllm"))
    server.serve("me/base", {})  # it goes on meanwhile
    record = score_model(plan)
    assert engines.arguments[0]["revision"] == engines.arguments[0]["tokenizer_revision"] == first
    assert nll(record) == pytest.approx(nll(scored(command, "--model", "tiny", "--benchmark", small)), abs=1e-4)


def test_what_cannot_be_had_is_one_line_that_says_what_to_do(
    command: Command,
    small: Path,
    server: Hub,
    model_files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.serve("me/base", model_files)
    server.serve("me/data", {"data.csv": b"a,b\n"})
    server.serve("me/both", {**model_files, "adapter_config.json": b"{}"})
    server.gated = {"me/gated": 401, "me/refused": 403}

    def says(given: str, *parts: str, option: str = "--model") -> None:
        base = ("--model", "tiny") if option == "--adapter" else ()
        err = refused(command, "score", *base, option, given, "--benchmark", small)
        assert all(part in err for part in parts), err

    for option in ("--model", "--adapter"):
        says("me/nothing", "'me/nothing' is no folder here, and no repository of the hub", option=option)
        says("me/gated", "'me/gated' is gated: ask for access on http", "`hf auth login`", option=option)
        says("me/refused", "is gated, and your account is not let in", option=option)
        says("me/base@v9", "'me/base' has no revision 'v9' on the hub; give a branch, tag or commit", option=option)
        says("me/data", "holds no model: neither config.json nor adapter_config.json", option=option)
        says("me/both", "holds a whole model and an adapter", option=option)
    says("me/base", "a whole model is given as --model, without --adapter", option="--adapter")
    says("no/such/folder", "there is no folder no/such/folder")
    says("../no-model", "'../no-model' is no folder here, and no id of the hub")
    for command_of in ("run", "plan"):
        words = ("--method", "lora", "--model", "me/nothing", "--benchmark", small)
        assert "is no folder here, and no repository" in refused(command, command_of, *words)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    says("me/other", "nor in the hub's cache, and HF_HUB_OFFLINE is set; unset it")


def test_a_download_that_breaks_off_is_said_and_goes_on(
    command: Command,
    small: Path,
    server: Hub,
    model_files: dict[str, bytes],
) -> None:
    server.serve("me/base", model_files)
    server.cut = {"model.safetensors"}
    err = refused(command, "score", "--model", "me/base", "--benchmark", small)
    assert "the download of 'me/base' broke off (" in err
    assert "the same command goes on with it" in err
    server.refuse = False
    scored(command, "--model", "me/base", "--benchmark", small)
