"""Pushing to a hub: a server on this machine that answers as the hub's API does, and keeps what it was sent."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub.constants as hub
import pytest

from conftest import Command
from helpers.hub import TOKEN, Hub, server

__all__ = ["server"]


@pytest.fixture
def mine(small: Path, tmp_path: Path) -> Path:
    """A benchmark directory with things in it that are nobody's business."""
    shutil.copytree(small, tmp_path / "mine")
    (tmp_path / "mine" / ".env").write_text("SECRET=1")
    (tmp_path / "mine" / "stages" / "notes.txt").write_text("to do")
    return tmp_path / "mine"


def own(folder: Path) -> dict[str, bytes]:
    every = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in every.items() if name not in (".env", "stages/notes.txt")}


def test_a_benchmark_goes_there_private_and_alone(command: Command, mine: Path, server: Hub) -> None:
    dry = command("push", mine, "me/mine", "--dry-run")
    assert dry.code == 0, dry.err
    assert server.asked == []
    for name, text in own(mine).items():
        assert f"{len(text):14,}  {name}\n" in dry.out
    assert "dataset me/mine, private" in dry.out
    assert "notes.txt" not in dry.out
    done = command("push", mine, "me/mine")
    assert done.code == 0, done.err
    assert server.private == {"datasets/me/mine": True}
    assert server.files == {"datasets/me/mine": own(mine)}
    assert f"sent: {server.address}/datasets/me/mine/commit/abc" in done.out
    assert command("push", mine, "me/mine").code == 0  # into the repository that is there now
    assert server.asked.count("POST /api/repos/create") == 1


def test_public_is_only_what_was_asked_for(command: Command, mine: Path, server: Hub) -> None:
    assert command("push", mine, "me/open", "--public").code == 0
    assert server.private == {"datasets/me/open": False}
    server.files.clear()
    done = command("push", mine, "me/open")
    assert done.code == 2
    assert "me/open is there and public; give --public" in done.err
    assert server.files == {}


def test_a_kept_model_goes_with_its_card_and_results(
    command: Command, small: Path, tmp_path: Path, server: Hub
) -> None:
    run = ("run", "--method", "lora", "--model", "tiny", "--benchmark", small, "--epochs", 1, "--save-model", "models")
    assert command(*run).code == 0
    (folder,) = (tmp_path / "models").iterdir()
    to = ("export", "--format", "eval-results", "--dataset", "me/mine", "--out", "models")
    assert command(*to).code == 0
    expected = own(folder)
    assert ".eval_results/small.yaml" in expected
    (folder / "optimizer.pt").write_bytes(b"none of the model")
    done = command("push", folder, "me/learned")
    assert done.code == 0, done.err
    assert server.files == {"models/me/learned": expected}
    assert expected["README.md"].startswith(b"---\nlibrary_name: peft\n")
    several = command("push", "models", "me/learned")
    assert several.code == 2
    assert f"models holds 1 models; name one, such as models/{folder.name}" in several.err


def test_what_cannot_be_pushed_is_one_line(
    command: Command, mine: Path, tmp_path: Path, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(code: int, *words: object) -> str:
        done = command("push", *words)
        assert done.code == code, done.err
        assert len(done.err.strip().splitlines()) == 1
        assert server.files == {}
        return done.err

    assert "expected OWNER/NAME, as in you/mine" in refused(2, mine, "mine")
    assert "'me/mine/more' names no repository" in refused(2, mine, "me/mine/more")
    (tmp_path / "empty").mkdir()
    assert "neither a benchmark directory nor a model" in refused(2, tmp_path / "empty", "me/mine")
    server.refuse = True
    assert "the hub refused me/mine" in refused(1, mine, "me/mine")
    server.refuse = False
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set; unset it" in refused(2, mine, "me/mine")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    assert "there is no token for the hub" in refused(2, mine, "me/mine")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:1")
    assert "cannot send to me/mine" in refused(1, mine, "me/mine")
    (mine / "README.md").unlink()
    assert f"write it with ckl-bench card {mine}" in refused(2, mine, "me/mine")
    (mine / "rehearsal.jsonl").write_text("")
    assert "does not match the manifest" in refused(2, mine, "me/mine")
