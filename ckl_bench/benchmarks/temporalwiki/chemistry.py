"""Templates of chemistry -> formulas as they are read: `chem`, `chem2`, `nuclide`."""

from __future__ import annotations

import re

from .markup import superscript
from .quantities import Arguments, places
from .tables import codes

_CHARGE = re.compile(r"\((\d*[-+−])\)|(?<=[\w)\]])([-+−])(?![\w({\[>])")
_RAISED = re.compile(r"\^\{?([-+−]?\d+[-+−]?)\}?")
_LOWERED = re.compile(r"_\{?(\d+)\}?")
_ARROWS = {"<-->": "⇌", "<->": "⇌", "<=>": "⇌", "-->": "→", "->": "→", "<-": "←"}
_ARROW = re.compile("|".join(re.escape(arrow) for arrow in _ARROWS))


def chem(arguments: Arguments) -> str | None:
    """`{{chem|S|O|4|2-}}`: SO4²⁻."""
    return "".join(superscript(part) if re.fullmatch(r"\d*[-+−]", part) else part for part in places(arguments)) or None


def chem2(arguments: Arguments) -> str | None:
    """`{{chem2|SO4(2-)}}`: SO4²⁻; `->` is an arrow, `^{235}U` an isotope, `CuSO4*5H2O` a hydrate."""
    text = _ARROW.sub(lambda m: f" {_ARROWS[m[0]]} ", arguments.get("1", "")).replace("*", "·")
    text = _LOWERED.sub(r"\1", _RAISED.sub(lambda m: superscript(m[1]), text))
    return " ".join(_CHARGE.sub(lambda m: superscript(m[1] or m[2]), text).split()) or None


def nuclide(arguments: Arguments) -> str | None:
    """`{{nuclide|uranium|235}}`: ²³⁵U."""
    given = places(arguments)
    if not given:
        return None
    element = codes("elements").get(given[0].lower(), given[0])
    return (
        superscript(given[1]) + element if len(given) > 1 and given[1].isdecimal() else "".join([element, *given[1:]])
    )
