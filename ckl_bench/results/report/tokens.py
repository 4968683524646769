"""Token weights as they are shown: every character once, whatever tokens it was split into."""

from __future__ import annotations

from ckl_bench.records import TokenWeights


def pieces(shown: TokenWeights) -> list[tuple[str, float]]:
    """Text and weight in the document's order; the first token has weight 0, since it is never predicted.

    Tokens of single bytes may split a character: it stands in the first of them, the others are empty, and the largest
    of their weights counts. Older records repeat it instead, as a real repetition would: there a character of n bytes,
    n above 1, is taken for one up to n times in a row. A record with an empty token is none of those.
    """
    repeats = "" not in shown.tokens[1:]
    found: list[tuple[str, float]] = []
    room = 0  # tokens that may still belong to the last character
    for token, weight in zip(shown.tokens, [0.0, *shown.weights], strict=True):
        text, largest = found[-1] if found else ("", 0.0)
        if found and (not token or (repeats and room > 0 and token == text[-1:])):
            found[-1] = (text, max(largest, weight))
            room -= 1
        else:
            found.append((token, weight))
            room = len(token[-1:].encode("utf-8", "replace")) - 1
    return found
