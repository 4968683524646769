"""Whole words: what a text names, in many scripts."""

from __future__ import annotations

import pytest

from ckl_bench.benchmarks.format import Document, Fact
from ckl_bench.encode import object_span, object_tokens
from ckl_bench.words import occurrences
from helpers.stages import encode

INSIDE = [  # the text has the letters, and does not name it
    ("The Omani navy sails.", "Oman"),
    ("A woman spoke.", "man"),
    ("It weighs 30174 grams.", "3017"),
    ("3,017 of them, in the 1850s.", "017"),
    ("3,017 of them, in the 1850s.", "1850"),
    ("O’Hara left.", "Hara"),
    ("Xi'an is old.", "Xi"),
    ("Das Wasserwerk läuft.", "Wasser"),
    ("Rene\u0301 came.", "Rene"),
    ("Il vit à Orléans.", "Orle"),
    ("한국인이 왔다.", "한국"),
    ("アイスランド", "アイス"),
    ("हिन्दी", "हिन्द"),
    ("ภาษากาแฟ", "ก"),
    ("Written in C# and C++.", "C"),
    ("CO₂ rises.", "CO"),
    ("It runs on .NET now.", "NET"),
    ("ASP.NET is old.", ".NET"),
    ("see snake_case", "case"),
]
NAMED = [
    ('Oman\'s navy, Oman-built; (Oman): "Oman".', "Oman", 4),
    ("O'Hara’s house", "O’Hara", 1),
    ("la ville d’Orléans", "Orléans", 1),
    ("Rene\u0301 et Jose\u0301e", "René", 1),
    ("René", "Rene\u0301", 1),
    ("New\u00a0Delhi grew.", "New Delhi", 1),
    ("彼は京都に住む。北京与上海", "京都", 1),
    ("彼は京都に住む。北京与上海", "上海", 1),
    ("昔アイスランドで", "アイスランド", 1),
    ("เขาอยู่ในกรุงเทพ", "กรุงเทพ", 1),
    ("그는 서울에서 살았다. 서울은 크다.", "서울", 2),
    ("Written in C# and C++.", "C#", 1),
    ("Written in C# and C++.", "C++", 1),
    ("It runs on .NET now.", ".NET", 1),
    ("Yahoo! grew; Yahoo!'s rival", "Yahoo!", 2),
    ("St. Helier, in St. John", "St.", 2),
    ("in 1850.The end", "1850", 1),
    ("Capital:Oman", "Oman", 1),
    ("the U.S. and the U.S.A.", "U.S.", 1),
]


@pytest.mark.parametrize(("text", "words"), INSIDE)
def test_a_name_inside_another_word_is_not_named(text: str, words: str) -> None:
    assert occurrences(text, words) == []


@pytest.mark.parametrize(("text", "words", "times"), NAMED)
def test_a_name_is_found_where_it_stands(text: str, words: str, times: int) -> None:
    spans = occurrences(text, words)
    assert len(spans) == times
    assert all(text[start:end].strip() and start < end for start, end in spans)


def test_places_are_those_of_the_text_as_it_is_written() -> None:
    text = "Ame\u0301lie met Rene\u0301 twice; René left."
    assert [text[slice(*span)] for span in occurrences(text, "René")] == ["Rene\u0301", "René"]
    assert occurrences("aa aaa aa", "aa") == [(0, 2), (7, 9)]
    assert occurrences("words", "") == occurrences("words", "  ") == []


def test_tokens_of_an_object_are_those_of_its_words_and_of_the_form_that_the_text_uses() -> None:
    fact = Fact(subject="Aida", relation="P27", object="Oman", surface="Omani")
    (document,) = encode(Document(id="a", text="Aida, an Omani woman, left Oman for Romania.", fact=fact))
    marked = object_tokens(document).bool().tolist()
    places = {i for (start, end), on in zip(document.offsets, marked, strict=True) if on for i in range(start, end)}
    text = document.text
    assert {"Omani", "Oman"} == {text[s:e] for s, e in ((9, 14), (27, 31)) if set(range(s, e)) <= places}
    assert not places & set(range(text.index("Romania"), len(text)))


def test_the_object_of_a_prompt_is_its_last_whole_word() -> None:
    assert object_span("Nia teaches art to an artist .", "art") == (12, 15)
    assert object_span("Nia plays inOman .", "Oman") == (12, 16)  # nowhere as a whole word: the last letters
