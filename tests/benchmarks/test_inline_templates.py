"""Inline templates of kinds that stand in many articles, and the words that a reader gets of them."""

from __future__ import annotations

import pytest

from ckl_bench.benchmarks.temporalwiki.functions import computed
from ckl_bench.benchmarks.temporalwiki.languages import wiki_of
from ckl_bench.benchmarks.temporalwiki.numerals import cardinal, spelled
from ckl_bench.benchmarks.temporalwiki.units import unit_of
from ckl_bench.benchmarks.temporalwiki.wikitext import clean


def _cases(text: str) -> dict[str, str]:
    """Wikitext, and the line below it what is read."""
    lines = text.strip().split("\n")
    return dict(zip(lines[::2], (line.removeprefix("-> ") for line in lines[1::2]), strict=True))


READS = _cases("""
It is {{convert|120|mi|spell=in}} and {{convert|1500|ft|spell=in}}.
-> It is one hundred and twenty miles and one thousand five hundred feet.
{{convert|25|mi|km|spell=In|sp=us}} off, {{convert|2.5|km|spell=in}} on.
-> Twenty-five miles off, two point five kilometres on.
A {{convert|1/2|mi|spell=in}}, {{convert|3+1/2|ft|spell=in}} walk.
-> A one-half mile, three and one-half feet walk.
A hall of {{convert|8|by(x)|9|m|ft}} and {{convert|7|and(-)|8|kg}}.
-> A hall of 8 by 9 metres and 7 and 8 kilograms.
Some {{convert|4|e6km2|sqmi|abbr=on}} or {{convert|4|e6km2|sqmi}}.
-> Some 4×10⁶ km² or 4 million square kilometres.
About {{convert|3|t/ha}}, {{convert|7|TWh}}, {{convert|90|$/acre}}.
-> About 3 tonnes per hectare, 7 terawatt-hours, $90 per acre.
Of {{convert|55|PD/sqmi}} and {{convert|1|PD/km2}} there.
-> Of 55 inhabitants per square mile and 1 inhabitant per square kilometre there.
It makes {{convert|40000|oilbbl/d|abbr=on}}, {{convert|9000|m|comma=off}} up.
-> It makes 40,000 bbl/d, 9000 metres up.
Of {{val|7.1|0.2|0.3|e=5|u=deg}} and {{val|12|u=arcsec|end=...}}.
-> Of (7.1+0.2−0.3)×10⁵° and 12...″.
Light: {{gaps|299|792|458|u=m/s}}; {{rnd|2.71828|2}}; {{roman|14}}.
-> Light: 299792458 m/s; 2.72; XIV.
Some {{spellnum|42}}, {{spellnum per MOS|12}}, {{#expr: 3*(4+1)}}.
-> Some forty-two, 12, 15.
It cost {{£sd|l=3|s=4}}, {{currency|amount=7|type=GBP}}, in {{decade|1934}}.
-> It cost £3 4s, £7, in 1930s.
Is {{#switch: b | a = one | b | c = two | #default = no }}.
-> Is two.
Is {{#switch: q | a = one | many }}, {{#ifexpr: 3 > 2 | so | not }}.
-> Is many, so.
Is {{padleft:7|3}}, {{plural:1|ox|oxen}}, {{#iferror: x | bad | good }}.
-> Is 007, ox, good.
Is {{ucfirst:ABc}}, {{lcfirst:ABc}}, {{formatnum:{{#expr:1000*2}}}}.
-> Is ABc, aBc, 2,000.
Is {{Template:nowrap|a}}, {{subst:small|b}}, {{#expr:1/0}} c.
-> Is a, b, c.
Died {{death date|2000|Feb|3}}, {{as of|1999|Sept|lc=y}}, {{birth date|1980|January|2|df=y}}.
-> Died February 3, 2000, as of September 1999, 2 January 1980.
On {{track gauge|3ft6in}} and {{track gauge|sg}} with {{val|6.6|e=-34|u=J.s}} and {{val|5|u=m.s-2}}.
-> On 3 ft 6 in and 1,435 mm with 6.6×10⁻³⁴ J⋅s and 5 m⋅s⁻².
Aged {{age in years and days|1950|3|1|2000|3|11}}, {{age in days|2000|1|1|2000|3|1}}.
-> Aged 50 years, 10 days, 60.
Born {{born-in|1820}}, won in {{nbay|1999}} and {{nhly|2004}}.
-> Born b. 1820, won in 1999–2000 and 2004–05.
'''Rue''' ({{lang-fr|Rue|street}}; {{lang-bg|Рила|Rila}}) is.
-> Rue (French: Rue, lit. ‘street’; Bulgarian: Рила, romanized: Rila) is.
The {{zh|l=dragon|c=龍|tp=lóng}} and {{script/Hebrew|שלום}}.
-> The lit. ‘dragon’; Chinese: 龍; Tongyong Pinyin: lóng and שלום.
By {{ill|display=1|Ann Beispiel|de}}, {{ill|quotes=y|Lied|de}}.
-> By Ann Beispiel, "Lied".
'''Bled''' (pronounced {{IPA|[bleːt]}}) is.
-> Bled is.
The {{sclass|Kaiser|battleship|4}}, a {{sclass|Kaiser|battleship|0}} ship, {{sclass|Kaiser||5}}.
-> The Kaiser class, a Kaiser-class ship, Kaiser.
The {{GS|U-99|1940|6}}, {{CSS|Alabama}}, {{flag|USA|name=America}}.
-> The German submarine U-99, CSS Alabama, America.
Of {{chem2|2H2 + O2 -> 2H2O}}, {{chem2|^{14}C}}, {{chem2|Cu(2+)}}.
-> Of 2H2 + O2 → 2H2O, ¹⁴C, Cu²⁺.
Of {{nuclide|uranium|238}} and {{solar mass|3}}.
-> Of ²³⁸U and 3 M☉.
With {{and list|a|b|c}}, {{or list|d|e}}, {{enum|f|g|h}}.
-> With a, b and c, d or e, f, g, and h.
An angle <math>\\alpha</math>, <math>x_1^2 \\leq \\mathrm{min}</math>.
-> An angle α, x1² ≤ min.
Do&shy;nau\u200b, &notes; and &notin; of ZWJ.
-> Donau, &notes; and ∉ of ZWJ.
The <ruby>東<rp>(</rp><rt>tō</rt><rp>)</rp></ruby> gate.
-> The 東 (tō) gate.
; Loom : what weaves
-> Loom: what weaves
----A line
-> A line
Sets {| are | kept |} there.
-> Sets {| are | kept |} there.
[[be-x-old:Назва]]Here.
-> Here.
""")


@pytest.mark.parametrize("wikitext", READS)
def test_words_are_what_a_reader_reads(wikitext: str) -> None:
    found = clean(wikitext)
    assert (found.text, found.dropped) == (READS[wikitext], 0)


GERMAN = _cases("""
Der Ort ({{frS|ville}}, {{ruS|город|gorod}}) liegt hier.
-> Der Ort (französisch ville, russisch город gorod) liegt hier.
Er sagte {{"|So}} und {{Anführungszeichen|ja}}.
-> Er sagte „So“ und „ja“.
Von {{formatnum:1234567.5}} in {{CHE}}, {{AUT|Wien}}, {{USA}}.
-> Von 1.234.567,5 in Schweiz, Wien, Vereinigte Staaten.
Nach {{§|5|BGB|juris}}, {{Bibel|Joh|3|16}}, {{Höhe|712|DE-NHN}}.
-> Nach § 5 BGB, Joh 3,16, 712 m ü. NHN.
Am {{Datum|2001|3|4}}.{{SORTIERUNG:Ort}}{{Belege fehlen}}
-> Am 4. März 2001.
Der {{Vorlage:Kapitälchen|Bau}}{{FN|1}} steht.
-> Der Bau steht.
""")


@pytest.mark.parametrize("wikitext", GERMAN)
def test_german_wikipedias_templates_show_german_words(wikitext: str) -> None:
    found = clean(wikitext, wiki_of("de"))
    assert (found.text, dict(found.templates)) == (GERMAN[wikitext], {})


def test_a_page_is_called_by_its_title() -> None:
    assert clean("'''{{PAGENAME}}''' is a town.", title="Ada [x]").text == "Ada [x] is a town."
    assert clean("A {{PAGENAME}} is.").templates == {"pagename": 1}


@pytest.mark.parametrize(
    ("sum_", "expected"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3 - -1", 10),
        ("-2 ^ 2", -4),
        ("7 mod 3 + 0.5", 1.5),
        ("2.345 round 2", 2.35),
        ("1 < 2 and not 0", 1),
        ("1 / 0", None),
        ("9 ^ 999", None),
        ("(" * 150 + "1", None),
        ("1 +", None),
        ("two", None),
        ("1 2", None),
        ("", None),
    ],
)
def test_sums_come_to_what_mediawiki_says(sum_: str, expected: float | None) -> None:
    found = computed(sum_)
    assert found == (None if expected is None else pytest.approx(expected))


def test_numbers_in_words() -> None:
    assert [cardinal(n) for n in (0, 13, 40, 101, 1001, 2_000_345)] == [
        *("zero", "thirteen", "forty", "one hundred and one", "one thousand and one"),
        "two million three hundred and forty-five",
    ]
    assert cardinal(1101, american=True) == "one thousand one hundred one"
    assert [spelled(given) for given in ("-5", "1,200", "3/4", "7/23", "x", "9" * 40)] == [
        *("negative five", "one thousand two hundred", "three-quarters", None, None, None)
    ]


@pytest.mark.parametrize(
    ("code", "forms"),
    [
        ("km2", ("square kilometre", "square kilometres", "km²")),
        ("um", ("micrometre", "micrometres", "μm")),
        ("GeV", ("gigaelectronvolt", "gigaelectronvolts", "GeV")),
        ("cufathom", ("cubic fathom", "cubic fathoms", "cu fathom")),
        ("W/kg", ("watt per kilogram", "watts per kilogram", "W/kg")),
        ("/yd2", ("per square yard", "per square yard", "/sq yd")),
    ],
)
def test_units_are_made_of_others(code: str, forms: tuple[str, str, str]) -> None:
    assert unit_of(code) == forms
    assert unit_of(f"{code}zz") is None
