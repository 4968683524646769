"""Documents shaded by what each method's token weights make of them."""

from __future__ import annotations

import math
from html import escape

from ckl_bench.records import TokenWeights

from .standings import League, Series
from .tokens import pieces

# The methods whose weights are shown first, and what their weights are.
_FIRST = {
    "taalm": "learned: tokens that help with what will be asked",
    "oracle": "told the answer: its tokens alone",
    "rho1": "the tokens whose loss most exceeds the base model's",
}
_FULL = "The darker, the more a token's loss counts; each line's largest weight is full."


def opening(league: League) -> str:
    """One passage as TAALM, the oracle and RHO-1 see it, or as whatever methods weighed it.

    Of several that all of them weighed, the one on which TAALM and the oracle agree most.
    """
    lines: dict[str, dict[str, tuple[Series, TokenWeights]]] = {}
    for one in sorted(
        league.series, key=lambda s: (len(s.runs[0].spec.hyperparameters), not s.shown)
    ):  # the plainest stack stands for all
        for part in one.runs[0].spec.hyperparameters:
            for item in one.runs[0].stages[0].token_weights:
                lines.setdefault(item.document, {}).setdefault(part, (one, item))
    if not lines:
        return ""
    found = max(lines.values(), key=lambda own: (len(_FIRST.keys() & own.keys()), _agreement(own)))
    wanted = [part for part in _FIRST if part in found] or list(found)[:1]
    drawn = ""
    for part in wanted:
        one, item = found[part]
        name = f"<b>{_dot(one)}{escape(one.label)}</b> <small>{escape(_FIRST.get(part, ''))}</small>"
        drawn += f'<div class="doc">{name}<p>{_words(item)}</p></div>'
    which = f" Of {len(lines)} passages, the one on which taalm and oracle agree most." if _agreement(found) else ""
    return f"<div class='passage'><h3>One passage, token by token</h3>{drawn}<p class='note'>{_FULL}{which}</p></div>"


def _agreement(found: dict[str, tuple[Series, TokenWeights]]) -> float:
    """The cosine between TAALM's and the oracle's weights; 0 where one of them is missing."""
    if not {"taalm", "oracle"} <= found.keys():
        return 0.0
    ours, told = (found[part][1].weights for part in ("taalm", "oracle"))
    size = math.hypot(*ours) * math.hypot(*told)
    return sum(a * b for a, b in zip(ours, told, strict=True)) / size if size else 0.0


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
    shown = pieces(item)
    return "".join(f'<span style="--w:{weight / most:.2f}">{escape(token)}</span>' for token, weight in shown)
