"""Documents shaded by what each method's token weights make of them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ckl_bench.records import TokenWeights

from .standings import League, Series

# The methods whose weights are shown first, and what their weights are.
_FIRST = {
    "taalm": "learned: tokens that help with what will be asked",
    "oracle": "told the answer: its tokens alone",
    "rho1": "tokens that the base model finds hardest beside what it could know",
}
_FULL = "The darker, the more a token's loss counts; each line's largest weight is full."


def opening(league: League) -> str:
    """One passage as TAALM, the oracle and RHO-1 see it, or as whatever methods weighed it; the first that most did."""
    lines: dict[str, dict[str, tuple[Series, TokenWeights]]] = {}
    for one in league.series:
        for part in one.runs[0].spec.hyperparameters:
            for item in one.runs[0].stages[0].token_weights:
                lines.setdefault(item.document, {}).setdefault(part, (one, item))
    if not lines:
        return ""
    found = max(lines.values(), key=lambda own: len(_FIRST.keys() & own.keys()))
    wanted = [part for part in _FIRST if part in found]
    chosen = [(part, *found[part]) for part in wanted or list(found)[:1]]
    drawn = "".join(
        f'<div class="doc"><b>{_dot(one)}{escape(part)}</b> <small>{escape(_FIRST.get(part, ""))}</small>'
        f"<p>{_words(item)}</p></div>"
        for part, one, item in chosen
    )
    return f"<div class='passage'><h3>One passage, token by token</h3>{drawn}<p class='note'>{_FULL}</p></div>"


def documents(league: League) -> str:
    """All documents whose weights were noted; stacks that share their weights share a line."""
    shown: dict[str, dict[str, list[str]]] = {}
    for one in league.series:
        for item in one.runs[0].stages[0].token_weights:
            named = f"{_dot(one)}{escape(one.label)}"
            shown.setdefault(item.document, {}).setdefault(_words(item), []).append(named)
    if not shown:
        return ""
    parts = [
        f"<details><summary>Document {number}</summary>{_lines(lines)}</details>"
        for number, lines in enumerate(shown.values(), 1)
    ]
    return f"<h3>Token weights of every stack</h3><p class='note'>{_FULL}</p>{''.join(parts)}"


def _lines(lines: dict[str, list[str]]) -> str:
    return "".join(f"<div class='doc'><b>{', '.join(names)}</b><p>{words}</p></div>" for words, names in lines.items())


def _dot(one: Series) -> str:
    return f'<i style="--c:var(--m{one.index})"></i>'


def _words(item: TokenWeights) -> str:
    most = max(item.weights, default=0) or 1
    weights: Sequence[float] = [0.0, *item.weights]
    return "".join(
        f'<span style="--w:{weight / most:.2f}">{escape(token)}</span>'
        for token, weight in zip(item.tokens, weights, strict=True)
    )
