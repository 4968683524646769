"""`show` takes a stack's name; token weights show every character once, and dim what hardly counts."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from ckl_bench.benchmarks.format import Document
from ckl_bench.encode import encode_documents
from ckl_bench.learning.train import token_weights
from ckl_bench.models.find import find_model
from ckl_bench.records import TokenWeights, read_record
from ckl_bench.results.report.terminal import show
from ckl_bench.results.report.tokens import pieces
from conftest import Command

ROOT = Path(__file__).parents[2]


def test_a_stack_is_shown_by_its_name(command: Command, small: Path) -> None:
    on = ("--model", "tiny", "--benchmark", small)
    run = ("run", "--method", "oracle", *on, "--epochs", "1")
    assert command(*run, "--seed", "7", "--seed", "5").code == 0
    ids = {read_record(path).spec.seed: path.stem for path in Path("runs/records").glob("*.json")}
    shown, by_id = command("show", "oracle", *on), command("show", ids[5])
    assert shown.code == 0
    first, *_, last = shown.out.splitlines()
    assert "oracle+lora on small with tiny, seed 5" in first
    assert last == f"this is seed 5; there are others, to be shown by their ids: seed 7 ({ids[7][:8]})"
    assert shown.out.startswith(by_id.out)
    assert command(*run, "--seed", "5", "--lr", "0.5").code == 0
    several = command("show", "oracle", *on)
    assert (several.code, several.err.count("\n")) == (2, 1)
    assert "was run with several settings; name one: oracle+lora@lr=" in several.err


def test_the_committed_runs_are_shown_where_one_has_none(command: Command) -> None:
    shown = command("show", "taalm")
    assert shown.code == 0
    assert "taalm+lora on lama-ckl-mini with smollm2-135m, seed 0" in " ".join(shown.out.split())
    unknown = command("show", "talm")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert unknown.err.startswith("error: unknown stack or run 'talm'; did you mean 'taalm")


@pytest.mark.parametrize("text", ["a naïve — “aa” 日日 day", "plain aa bb", "éé"])
def test_a_split_character_is_recorded_and_shown_once(text: str) -> None:
    base = find_model("tiny")  # its tokens are bytes: every other character is split
    documents = encode_documents(base.tokenizer, [Document(id="d", text=text)], 512)
    size = len(text.encode())
    assert len(documents[0].ids) == size
    numbers = torch.linspace(0.1, 1, size - 1)
    (shown,) = token_weights(base.load(), documents, lambda batch, nll: numbers[None])
    assert "".join(shown.tokens) == text
    found = pieces(shown)
    assert [piece for piece, _ in found] == list(text)
    place = 0  # the last byte of a character has the largest of its weights here
    for character, weight in found:
        place += len(character.encode())
        assert weight == pytest.approx(numbers[place - 2].item() if place > 1 else 0.0, abs=1e-4)


def test_older_records_repeat_a_split_character() -> None:
    def texts(*tokens: str) -> list[tuple[str, float]]:
        return pieces(TokenWeights(document="d", tokens=list(tokens), weights=[0.1 * i for i in range(1, len(tokens))]))

    assert texts("a", "a", "é", "é", "a") == [("a", 0.0), ("a", 0.1), ("é", pytest.approx(0.3)), ("a", 0.4)]
    assert [text for text, _ in texts(" —", "—", "s", "日", "日", "日", "日")] == [" —", "s", "日", "日"]
    assert [text for text, _ in texts("é", "é", "日", "", "")] == ["é", "é", "日"]  # not an older one


def test_unimportant_text_is_dim_and_no_background_is_white() -> None:
    record = read_record(ROOT / "tests" / "data" / "tiny-record.json")
    shown = TokenWeights(document="d", tokens=["first", "none", "little", "half", "most"], weights=[0, 0.1, 0.5, 1])
    stage = record.stages[0].model_copy(update={"token_weights": [shown]})
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="256")
    console.print(show(record.model_copy(update={"stages": [stage]})))
    assert isinstance(console.file, io.StringIO)
    drawn = console.file.getvalue()
    for word in ("first", "none", "little"):
        assert f"\x1b[2m{word}\x1b[0m" in drawn
    for word in ("half", "most"):
        assert f"m{word}\x1b[0m" in drawn
        assert "38;5;16;48;5;" in drawn.split(f"m{word}")[0].rsplit("\x1b[", 1)[1]
    assert "48;5;15m" not in drawn
    assert "48;5;231m" not in drawn
