"""Numbers in words and in Roman numerals, as English templates write them."""

from __future__ import annotations

import re

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["_", "_", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_GROUPS = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"))
_PARTS = {"2": "half", "3": "third", "4": "quarter", "5": "fifth", "6": "sixth", "8": "eighth", "10": "tenth"}
_PARTS |= {"16": "sixteenth"}
_ROMAN = (
    *((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X")),
    *((9, "IX"), (5, "V"), (4, "IV"), (1, "I")),
)


def cardinal(number: int, american: bool = False) -> str:
    """Three hundred and five: a number below a quadrillion in words, `and` left out where American."""
    if number < 20:
        return _SMALL[number]
    if number < 100:
        return _TENS[number // 10] + (f"-{_SMALL[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f"{' ' if american else ' and '}{cardinal(number % 100)}" if number % 100 else ""
        return f"{_SMALL[number // 100]} hundred{rest}"
    size, name = next((size, name) for size, name in _GROUPS if number >= size)
    left = number % size
    gap = " " if american or left >= 100 else " and "
    return f"{cardinal(number // size, american)} {name}" + (f"{gap}{cardinal(left, american)}" if left else "")


def spelled(value: str, american: bool = False) -> str | None:
    """A number as it is given (1,200, 2.5, 3+1/2) in words; None for what has none."""
    text = value.strip().replace(",", "").replace("−", "-")
    minus = "negative " if text[:1] == "-" else ""
    text = text.lstrip("+-").strip()
    if re.fullmatch(r"[0-9]{1,15}", text):
        return minus + cardinal(int(text), american)
    if found := re.fullmatch(r"([0-9]{1,15})\.([0-9]{1,15})", text):
        digits = " ".join(_SMALL[int(digit)] for digit in found[2])
        return f"{minus}{cardinal(int(found[1]), american)} point {digits}"
    found = re.fullmatch(r"(?:([0-9]{1,15})\s*[+ ]\s*)?([0-9]{1,3})\s*//?\s*([0-9]{1,3})", text)
    if not found or found[3] not in _PARTS:
        return None
    top, part = int(found[2]), _PARTS[found[3]]
    many = part if top == 1 else "halves" if part == "half" else f"{part}s"
    words = f"{cardinal(top)}-{many}"
    return minus + (f"{cardinal(int(found[1]), american)} and {words}" if found[1] else words)


def roman(number: int) -> str | None:
    """XIV; None for what has no Roman numeral."""
    if not 0 < number < 4000:
        return None
    shown = ""
    for size, letters in _ROMAN:
        shown += letters * (number // size)
        number %= size
    return shown
