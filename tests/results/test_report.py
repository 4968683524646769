"""The report page in a real browser, from a file: charts, sorting, explorer, no request, no script error."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ckl_bench.records import TokenWeights, read_records, write_record
from ckl_bench.results.report.facts import fate
from ckl_bench.results.report.page import write_report
from ckl_bench.results.report.terminal import bars
from ckl_bench.storage.files import leaderboards_dir
from conftest import Command
from helpers.browser import opened
from helpers.runs import KEPT, LEARNED, THREE, record


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the committed records, with a hostile run and a sequence beside them."""
    evil = record(LEARNED, KEPT, method="<img src=x onerror=alert(1)></script>$\\frac{$", benchmark="made-up")
    words = TokenWeights(document="d", tokens=["<b>", "one", " two"], weights=[0.5, 1.0])
    evil = evil.model_copy(update={"stages": [evil.stages[0].model_copy(update={"token_weights": [words]})]})
    committed = [r for r in read_records(leaderboards_dir()) if r.spec.benchmark_kind == "lama-ckl"]
    return write_report([*committed, evil, THREE], tmp_path_factory.mktemp("page") / "report.html")


@pytest.fixture
def page(page_file: Path) -> Iterator[Any]:
    """The page, open in a browser without a network; its errors and requests are counted."""
    with opened(page_file) as page:
        yield page


def test_every_chart_has_its_marks(page: Any) -> None:
    assert "8 epochs" in page.locator("#league-2 h2").text_content()  # the largest, though not the first
    legend = page.locator("#league-2 .key")
    stacks = legend.count()
    assert stacks >= 15
    for panel in ("curve-to_learn", "curve-not_to_forget", "path", "pathend"):
        assert page.locator(f"#league-2 svg g[id^='{panel}-m']").count() == stacks
    assert page.locator("#league-2 svg g[id='frontier']").count() == 1
    assert page.locator("section[id^=league] svg g[id^='month-changed-m']").count() == 1
    shown = page.locator("#league-2 .key[aria-pressed='true']").count()
    assert shown == 4
    for mark in ("path", "pathend", "label", "curve-to_learn"):
        assert page.locator(f"#league-2 svg g[id^='{mark}-m']:not(.off)").count() == shown


def test_a_stack_is_grey_until_it_is_chosen_and_has_one_colour_everywhere(page: Any) -> None:
    key = page.locator("#league-2 .key", has_text="rho1+lora")
    number = key.get_attribute("data-m")
    colour = "e => getComputedStyle(e).color"
    line, name = (page.locator(f"#league-2 svg g[id='{mark}-m{number}']") for mark in ("path", "label"))
    grey = line.evaluate(colour)
    assert page.locator("#league-2 svg g[id^='path-m'].off").last.evaluate(colour) == grey
    assert not name.is_visible()
    key.focus()
    page.keyboard.press("Enter")
    assert key.get_attribute("aria-pressed") == "true"
    assert name.is_visible()
    chosen = line.evaluate(colour)
    assert chosen != grey
    background = "e => getComputedStyle(e).backgroundColor"
    row = page.locator("#league-2 .board tr", has_text="rho1+lora").locator("i")
    passage = page.locator("#league-2 .passage .doc", has_text="rho1").locator("i")
    assert {row.evaluate(background), passage.evaluate(background)} == {chosen}
    page.emulate_media(color_scheme="dark")
    assert line.evaluate(colour) == row.evaluate(background) != chosen
    key.click()
    assert not name.is_visible()


def test_the_frontier_is_of_the_stacks_in_colour(page: Any) -> None:
    """Its steps go through the points that no other beats, of the chosen stacks alone; before and after any change."""

    def steps() -> list[list[float]]:
        drawn = page.locator("#league-2 g[id='frontier'] path").get_attribute("d")
        at, seen = [0.0, 0.0], []
        for letter, numbers in re.findall(r"([MLVH])([^MLVH]*)", drawn):
            values = [float(number) for number in numbers.split()]
            at = values if len(values) == 2 else [at[0], values[0]] if letter == "V" else [values[0], at[1]]
            seen.append([round(value, 2) for value in at])
        return seen

    def best() -> list[list[float]]:
        dots = page.evaluate(
            "[...document.querySelectorAll(\"#league-2 svg g[id^='path-m']:not(.off) use\")]"
            ".map(e => [+e.getAttribute('x'), +e.getAttribute('y')])"
        )
        dots = sorted({(round(x, 2), round(y, 2)) for x, y in dots})
        kept = [p for p in dots if not any(q[0] >= p[0] and q[1] <= p[1] and q != p for q in dots)]
        corners = [(p[0], q[1]) for p, q in itertools.pairwise(kept)]
        return [list(p) for p in sorted({*kept, *corners})]

    def agree() -> bool:
        return sorted(map(list, {tuple(p) for p in steps()})) == best()

    assert agree()
    before = steps()
    key = page.locator("#league-2 .key", has_text="taalm+kadapter+recadam").first
    key.click()
    assert agree()
    assert steps() != before
    key.click()
    assert agree()


def test_the_star_is_the_untrained_model(page: Any) -> None:
    """It lies where the paths begin."""
    at = "e => [+e.getAttribute('x'), +e.getAttribute('y')]"
    star = page.locator("#league-2 g[id='star'] use").evaluate(at)
    assert page.locator("#league-2 svg g[id^='path-m']:not(.off)").first.locator("use").first.evaluate(at) == star


def test_values_are_said_on_hover_and_on_focus(page: Any) -> None:
    end = page.locator("#league-2 svg g[id^='pathend-m']:not(.off)").first
    said = page.locator("#league-2 .said").first
    end.locator("use").hover(force=True)
    label = end.locator("title").text_content().partition(":")[0]
    assert re.match(re.escape(label) + r": learned 0\.\d{3}, kept 0\.\d{3} after epoch 8", said.text_content())
    page.mouse.move(0, 0)
    page.locator("#league-2 .scroll").first.focus()
    end.focus()
    assert said.text_content() == end.locator("title").text_content()
    assert "gain" in said.text_content()
    assert page.locator("#league-2 svg g.off[tabindex='0']").count() == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_what_tells_is_in_sight_and_costs_are_folded_away(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    facts = ["rank", "method", "gain", "Top Acc", "NF Acc", "exact learned", "exact kept", "n"]
    months = ["rank", "method", "gain", "avg NLL", "FUAR", "BWT", "n"]
    sections = page.locator("section[id^=league]").all()
    assert len(sections) == 4
    for section in sections:
        heads = section.locator(".board th")

        def seen(heads: Any = heads) -> list[str]:
            return [" ".join(head.inner_text().split()) for head in heads.all() if head.is_visible()]

        first = months if "BWT" in seen() else facts
        committed = section.locator(".key", has_text="taalm").count() > 0
        assert [name for name in seen() if not re.fullmatch(r"m\d", name)] == first  # months where there is room
        box = section.locator(".scroll").first
        assert box.evaluate("e => e.scrollWidth <= e.clientWidth")
        section.locator(".fold").focus()
        page.keyboard.press("Space")
        assert [name for name in seen() if name in first] == first
        assert {"tokens", "MB", "seconds", *(["with φ"] if committed else [])} < set(seen())
        method = section.locator(".board tbody td:nth-child(2)").first
        assert not committed or method.evaluate("e => e.offsetWidth") > 70  # it still has room for words


def test_rows_look_like_what_they_are_worth(page: Any) -> None:
    """One seed is pale; what is not better than doing nothing is in italics; what is worse is red."""
    rows = page.locator("#league-2 .board tbody tr")
    colour, slant = "e => getComputedStyle(e).color", "e => getComputedStyle(e).fontStyle"
    ink = page.evaluate("getComputedStyle(document.body).color")
    for row in rows.all():
        cells = row.locator("td")
        gain, number = cells.nth(2).text_content(), cells.nth(7).text_content()
        assert (cells.nth(7).evaluate(colour) == ink) == (number != "1")
        assert (cells.nth(1).evaluate(slant) == "normal") == ("▲" in gain)
    worse, better = (page.locator(f"#league-2 .board td.{kind}").first for kind in ("worse", "better"))
    assert len({worse.evaluate(colour), better.evaluate(colour), ink}) == 3
    assert "one seed" in page.locator("#league-2 .note", has_text="Pale").text_content()
    told = rows.filter(has_text="oracle")
    assert told.locator("td").nth(0).text_content() == ""
    assert "*" in told.locator("td").nth(1).text_content()


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_headings_sort(page: Any, way: str) -> None:
    heading = page.locator("#league-2 table.board th", has_text="NF Acc")
    cells = page.locator("#league-2 table.board tbody tr td:nth-child(5)")

    def press() -> list[float]:
        button = heading.locator("button")
        if way == "click":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Space")
        return [float(re.split("±", text)[0]) for text in cells.all_text_contents()]

    values = press()
    assert values == sorted(values)
    assert heading.get_attribute("aria-sort") == "ascending"
    values = press()
    assert values == sorted(values, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"


def test_the_explorer_filters_by_run_relation_and_fate(page: Any) -> None:
    data = json.loads(page.locator("#data").text_content())
    stacks = [(i, run) for i, run in enumerate(data) if run["name"].startswith("taalm+lora")]
    of_before = next(i for i, run in stacks if not any(fact[1] for fact in run["facts"]))  # facts not at hand any more
    page.select_option("#run", str(of_before))
    assert not page.locator("#relation").is_visible()
    number = next(
        i for i, run in stacks if all(f[1] for f in run["facts"]) and any(f[6] == "learned" for f in run["facts"])
    )
    page.select_option("#run", str(number))
    fates = page.locator("#facts td:last-child").all_text_contents()
    assert fates == [fact[6] for fact in data[number]["facts"] if fact[6] in ("learned", "forgotten")]
    for other in ("kept", "never known"):
        assert page.locator("#fates button", has_text=other).get_attribute("aria-pressed") == "false"
        page.locator("#fates button", has_text=other).click()
    assert page.locator("#facts tr").count() == len(data[number]["facts"])
    for other in ("kept", "forgotten", "never known"):
        page.locator("#fates button", has_text=other).focus()
        page.keyboard.press("Enter")
    learned = [fact for fact in data[number]["facts"] if fact[6] == "learned"]
    assert 0 < len(learned) == page.locator("#facts tr").count()
    page.select_option("#relation", learned[0][1])
    kept = [fact for fact in learned if fact[1] == learned[0][1]]
    assert page.locator("#facts tr").count() == len(kept)
    assert page.locator("#facts tr td:nth-child(3)").first.text_content() == kept[0][3]
    assert page.locator("#count").text_content().startswith(f"{len(kept)} facts: {len(kept)} learned")


def test_it_fits_a_phone_and_follows_the_dark(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_the_file_is_small_and_whole(page_file: Path) -> None:
    text = page_file.read_text()
    assert len(text) < 5e6
    assert "<!--" not in text.split("<script")[0].replace("<!doctype", "")
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text
    assert not re.search(r"""(?:src|href)=["']https?:""", text)
    assert '<span style="--w:0.50">one</span><span style="--w:1.00"> two</span>' in text


def test_a_fact_is_known_where_every_token_of_its_answer_is_right() -> None:
    fates = {(0.5, 1.0): "learned", (1.0, 1.0): "kept", (1.0, 0.5): "forgotten", (0.5, 0.9): "never known"}
    assert {pair: fate(*pair) for pair in fates} == fates


def test_the_command_writes_page_and_figures(command: Command, tmp_path: Path) -> None:
    write_record(tmp_path, record(LEARNED, KEPT, method="a$\\frac{$"))
    result = command("report", "--output", tmp_path, "--figures", tmp_path / "figures")
    assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        f"made-up-tiny-{name}.{kind}" for name in ("curves", "trade-off") for kind in ("png", "svg")
    ]
    empty = command("report", "--output", tmp_path / "figures")
    assert (empty.code, empty.err.count("\n")) == (2, 1)
    assert "no finished run" in empty.err


def test_a_run_is_shown_in_the_terminal(command: Command) -> None:
    committed = next(r for r in read_records(leaderboards_dir()) if r.spec.benchmark.startswith("lama-ckl"))
    result = command("show", committed.run_id[:8])
    assert result.code == 0, result.err
    assert committed.spec.method in result.out
    assert "to_learn" in result.out
    assert command("show", "zzzz").code == 2
    assert bars([0.0, 0.5, 1.0]) == " ▄█"
