"""Wikitext as it is written, and what a reader should get of it."""

from __future__ import annotations

import time

import pytest

from ckl_bench.benchmarks.temporalwiki.languages import namespaces_of, sentences, wiki_of
from ckl_bench.benchmarks.temporalwiki.wikitext import clean

READS = {
    # convert
    "It is {{convert|1300|mi|km}} long.": "It is 1,300 miles long.",
    "It is {{convert|1|mi|km}} long.": "It is 1 mile long.",
    "A {{convert|10|km|mi|adj=on}} run.": "A 10-kilometre run.",
    "A {{convert|10|km|mi|adj=on|sp=us}} run.": "A 10-kilometer run.",
    "A {{convert|10|ft|m|adj=mid|-long}} boat.": "A 10-foot-long boat.",
    "From {{convert|5|-|6|kg|lb|abbr=on}}.": "From 5–6 kg.",
    "From {{convert|5|–|6|kg}} on.": "From 5–6 kilograms on.",
    "Between {{convert|3|and|4.5|m}} high.": "Between 3 and 4.5 metres high.",
    "It is {{convert|193.3|by|69.5|mi|km|adj=on}}.": "It is 193.3-by-69.5-mile.",
    "He was {{convert|5|ft|11+1/2|in|cm|abbr=on}} tall.": "He was 5 ft 11 1/2 in tall.",
    "He weighed {{convert|12|st|3|lb|kg}} then.": "He weighed 12 stone 3 pounds then.",
    "At {{convert|-40|C|F}} it froze.": "At −40 °C it froze.",
    "Covering {{cvt|2.5|sqmi|km2}} of land.": "Covering 2.5 sq mi of land.",
    "Covering {{convert|2|km2|sqmi|abbr=on}} of land.": "Covering 2 km² of land.",
    "About {{convert|3|e6acre|km2}} burned.": "About 3 million acres burned.",
    "It flew at {{convert|900|km/h|mph kn}} there.": "It flew at 900 kilometres per hour there.",
    "About {{convert|ten|km}} off.": "About off.",
    "Some {{convert|3|mi|km|spell=in}} away.": "Some three miles away.",
    "Size {{convert|3|x|4|x|5|cm|in}} each.": "Size 3 by 4 by 5 centimetres each.",
    "Size {{convert|3|x|4|cm|in|abbr=on}} and {{cvt|3|by|4|cm}}.": "Size 3 cm × 4 cm and 3 by 4 cm.",
    "A {{convert|7-9|kilometers|miles}} way, {{convert|1|metre}} up.": "A 7–9 kilometers way, 1 metre up.",
    "About {{convert|2½|sq mi|km2}}, {{convert|1//2|mi}} off.": "About 2½ square miles, 1/2 mile off.",
    "Some {{convert|9|+/-|1|km|mi}} away.": "Some 9 ± 1 kilometres away.",
    "Of {{convert|9|mi|km|disp=preunit|air |air }} here.": "Of 9 air miles here.",
    "Depth {{convert|20|to|30|fathom|m|0}} here.": "Depth 20 to 30 fathoms here.",
    # numbers
    "Of {{formatnum:3003}} and {{formatnum:1234567.5}}.": "Of 3,003 and 1,234,567.5.",
    "A mass of {{val|6.241|e=18|u=kg}} or {{val|1.2|0.3|u=m}}.": "A mass of 6.241×10¹⁸ kg or 1.2±0.3 m.",
    "In {{formatnum:65536|NOSEP}} or {{val|4e9|u=yr}}.": "In 65536 or 4×10⁹ yr.",
    "Of {{val|4.2|(7)|e=-3}} or {{val|4|-|5|u=m}}.": "Of 4.2(7)×10⁻³ or 4–5 m.",
    "About {{frac|1|2}} and {{frac|3|1|4}} and {{sfrac|2|3}}.": "About 1/2 and 3 1/4 and 2/3.",
    "Some {{percentage|1|4}} of it.": "Some 25% of it.",
    "Worth {{US$|2 billion}} and {{£|500}} and {{INR|20000}}.": "Worth US$2 billion and £500 and ₹20,000.",
    "Now 6.02{{e|23}} and 10<sup>6</sup> and {{10^|9}}.": "Now 6.02×10²³ and 10⁶ and 10⁹.",
    "The {{ordinal|2}} of {{currency|1500|EUR}}.": "The 2nd of €1,500.",
    # dates
    "Born {{birth date|1815|12|10}} there.": "Born December 10, 1815 there.",
    "Born {{birth date and age|1815|12|10|df=yes}} there.": "Born 10 December 1815 there.",
    "Aged {{age|1852|11|27|1915|1|2}} and {{age in years|1852|1915}}.": "Aged 62 and 63.",
    "Died {{death date and age|1852|11|27|1815|12|10|df=y}} there.": "Died 27 November 1852 there.",
    "Begun {{start date|2010|05}} there.": "Begun May 2010 there.",
    "{{As of|2014|3}}, it had one.": "As of March 2014, it had one.",
    "It had, {{as of|2014|3|5|lc=y}}, one.": "It had, as of 5 March 2014, one.",
    "Built {{circa|1050}} or {{c.|1100}}, {{floruit|1200}}.": "Built c. 1050 or c. 1100, fl. 1200.",
    "In 1848{{snd}}1849, 1850{{spaced ndash}}1851, 5{{nbsp}}km.": "In 1848 – 1849, 1850 – 1851, 5 km.",
    "Then{{mdash}}later{{emdash}}it{{'}}s {{\"'}}so'{{-\"}}.": "Then—later—it's \" 'so'\".",
    # names and languages
    "She followed {{ill|Karl Beispiel|de|lt=Carl}} here.": "She followed Carl here.",
    "She followed {{interlanguage link|Karl Beispiel|de|fr}} here.": "She followed Karl Beispiel here.",
    "She followed {{ill|de|Karl Beispiel}} here.": "She followed Karl Beispiel here.",
    "'''Ada''' ({{lang-fr|Adèle}}; {{lang-ru|Ада|Ada}}) is.": "Ada (French: Adèle; Russian: Ада, romanized: Ada) is.",
    "The {{lang|de|Haus}} and {{Lang|text=maison|code=fr}}.": "The Haus and maison.",
    "A {{transl|ar|ALA|ā}} and {{transliteration|ru|da}}.": "A ā and da.",
    "{{nihongo|Tower|塔}} and {{Nihongo||刀|katana}}.": "Tower (塔) and katana (刀).",
    "{{nihongo|Tower|塔|tō|lit|there}} {{nihongo3|sword|刀|katana}}": "Tower (塔, tō, lit) there katana (刀, sword)",
    "Of {{HMS|Ajax|22|6}}, {{USS|Iowa|BB-61}}, {{HMS|Exeter|68|2}}.": "Of HMS Ajax, USS Iowa (BB-61), Exeter.",
    "The {{ship|French ship|Ville||2}} and {{sclass|Iowa|battleship}}.": "The Ville and Iowa-class battleship.",
    "Won by {{flag|USA}}, {{flagicon|GER}} {{GER}}, {{flagu|Malta}}.": "Won by United States, Germany, Malta.",
    "Of {{chem|S|O|4|2-}}, {{chem2|H2O}} and H<sub>2</sub>O.": "Of SO4²⁻, H2O and H2O.",
    "A {{nowrap|long name}}, {{small|tiny}}, {{abbr|Ltd|Limited}}.": "A long name, tiny, Ltd.",
    "He {{sic|wrots}} so, {{sic|hide=y|teh}} end.": "He wrots [sic] so, teh end.",
    "Known as {{hlist|a|b}} and {{plainlist|\n* c\n* d\n}} too.": "Known as a, b and c, d too.",
    "She said {{qq|yes}}. {{'}}No{{'}}.": "She said “yes”. 'No'.",
    "See {{harvtxt|Boolos|Jeffrey|1974}} too.": "See Boolos & Jeffrey (1974) too.",
    "The {{nowrap|{{convert|5|km|mi}}}} of {{lang|fr|[[a|b]]}}.": "The 5 kilometres of b.",
    # what is not read goes with its brackets and spaces
    "'''Ada''' ({{IPAc-en|ˈ|eɪ|d|ə}}) is": "Ada is",
    "'''Ada''' ({{IPA-fr|ada|lang}}; born 1815) is": "Ada (born 1815) is",
    "'''Ada''' ({{IPAc-en|a}}, {{respell|A}}; born 1815) is": "Ada (born 1815) is",
    "'''Ada''' (born 1815, {{IPA|ada}}) is": "Ada (born 1815) is",
    "A word {{cn|date=May 2020}}, a claim{{sfn|A|2000|p=1}}.": "A word, a claim.",
    "From 1848{{odd}}27 June, 5 {{up}} {{gain}}, x.": "From 1848 27 June, 5, x.",
    "Some, {{up}} {{gain}}, of them{{shy}}selves.": "Some, of themselves.",
    "In {{coord|1|2|N}} .NET f() {{cn}} .22 ran.": "In .NET f() .22 ran.",
    "A<ref name=x>{{cite book|a}}</ref> b <ref name=x/>. C": "A b. C",
    # links
    "A [[wikt:word|word]], [[s:Text|text]], [[:fr:Ada|Ada]], [[w:X|x]].": "A word, text, Ada, x.",
    "A [[:Category:People|people]], [[fr:Ada]][[File:a.jpg|thumb|a [[b]] c]]end.": "A people, end.",
    "A [[media:a.ogg|sound]], [[bus]]es, [[a#b|c]], [http://a.b the page].": "A sound, buses, c, the page.",
    "See http://a.b/c and [http://a.b] there.": "See and there.",
    "[[Image:a.jpg|thumb|by {{lang|fr|x}}]]Text [[ File : b.png |c]].": "Text.",
    # apostrophes
    "The ''Titanic'''s captain and ''Moby Dick''{{'}}s author.": "The Titanic's captain and Moby Dick's author.",
    "The ''Iris''<nowiki/>'s crew.": "The Iris's crew.",
    "It is '''Ada''''s work.": "It is Ada's work.",
    "It is L'''amour'' fou.": "It is L'amour fou.",
    "'''''Both''''' and ''one '''two''' three'' and don't.": "Both and one two three and don't.",
    # what looks like markup and is not
    "Written in C#": "Written in C#",
    "'''!!!''' is.": "!!! is.",
    "!Kung people live.": "!Kung people live.",
    "If a &lt; b and c &gt; d, AT&T &amp;amp; co.": "If a < b and c > d, AT&T &amp; co.",
    "Put {{tag|ul}} or {{tag|hr|s}} here.": "Put <ul>...</ul> or <hr /> here.",
    "Type <nowiki>'''x''' {{y}} &lt;</nowiki> or <code>a</code>.": "Type '''x''' {{y}} < or a.",
    "One<br>two<br />three <br/> four.": "One two three four.",
    "Before<!-- hidden --> after.\n\nLast <!-- open ''rest'' [[x]]\n\nmore": "Before after.\nLast",
    "An array a[0] and {x} ~ 5'10\".": "An array a[0] and {x} ~ 5'10\".",
    "Where <math>n</math> is <math>\\frac{a}{b}</math>.": "Where n is.",
    "{{quote|Words of [[someone]].|An author}}": "Words of someone.",
}


@pytest.mark.parametrize("wikitext", READS)
def test_words_are_what_a_reader_reads(wikitext: str) -> None:
    found = clean(wikitext)
    assert found.text == READS[wikitext]
    assert found.dropped == 0


def test_unknown_templates_are_counted_inside_sentences_alone() -> None:
    page = """{{Some hatnote|x}}
{{Some box
| a = {{lang|fr|b}}
}}'''Ada''' was {{odd thing|1}} of {{Odd_thing|2}}<ref>{{third|x}}</ref>.{{cn}}

* {{fourth|x}}
{| class="wikitable"
| {{fifth|x}}
|}
"""
    found = clean(page)
    assert found.text == "Ada was of."
    assert found.templates == {"odd thing": 2}


def test_files_and_categories_of_the_wikis_language() -> None:
    german = wiki_of("de", {6: "Datei", 14: "Kategorie"})
    text = "[[Datei:a.jpg|mini|Ein [[Bild]]]]\n[[Bild:b.jpg|mini|x]] Der Ort liegt hier.\n[[Kategorie:Orte]]"
    assert clean(text, german).text == "Der Ort liegt hier."
    own = wiki_of("xx", {6: "Fichye", 14: "Kategori yo"})
    assert clean("[[Fichye:a|b]]Text.[[kategori_yo:c]]", own).text == "Text."


def test_sentences_end_as_the_language_ends_them() -> None:
    text = "Er kam am 27. Juni 1934 z. B. nach Köln. Dort blieb er bis zum 19. Jahrhundert, d. h. lange. Dann nicht."
    assert sentences(text, wiki_of("de")) == [
        "Er kam am 27. Juni 1934 z. B. nach Köln.",
        "Dort blieb er bis zum 19. Jahrhundert, d. h. lange.",
        "Dann nicht.",
    ]
    assert sentences("It ended in 1934. Then J. S. Bach came.") == ["It ended in 1934.", "Then J. S. Bach came."]


def test_namespaces_are_read_from_the_dump(tmp_path_factory: pytest.TempPathFactory) -> None:
    dump = tmp_path_factory.mktemp("dump") / "dewiki.xml"
    dump.write_text(
        '<mediawiki><siteinfo><namespaces><namespace key="0" /><namespace key="6" case="first-letter">Datei</namespace>'
        '<namespace key="14" case="first-letter">Kategorie</namespace></namespaces></siteinfo></mediawiki>'
    )
    assert namespaces_of(dump) == {6: "Datei", 14: "Kategorie"}


@pytest.mark.parametrize(
    "name",
    [
        *("convert|1|km|spell=in", "HMS|a|b|c", "start date|1|2|3", "ship|a|b|c|d", "val|1|2|3", "frac|1|2"),
        *("age in days|1|2|3|4|5|6", "ayd|1|2|3|4|5|6", "rnd|1|2", "roman|5", "spellnum|5", "nbay|1", "plural:1|a|b"),
        *("padleft:a|5|x", "#expr:1", "#switch:1|2=3|4", "convert|1|km/x", "chem2|a", "nuclide|a|1", "gaps|1|e=2"),
    ],
)
def test_numbers_of_any_length_and_letters_harm_nothing(name: str) -> None:
    for odd in ("9" * 5000, "²", "٣", "-", "", "1e999", "1/0"):
        template, *arguments = name.split("|")
        for i in range(len(arguments)):
            given = [*arguments[:i], odd, *arguments[i + 1 :], f"{odd}=x"]
            assert clean(f"A {{{{{'|'.join([template, *given])}}}}} word.").text.endswith("word.")


@pytest.mark.parametrize(
    "mark",
    [
        "{{",
        "[[",
        "{|\n",
        "<ref>",
        "'''",
        "{{a|",
        "[[a|",
        "<!--x-->",
        "}}",
        "]]",
        "{{nowrap|",
        "<nowiki>",
        "(",
        "[http://",
    ],
)
def test_time_grows_with_the_text_alone(mark: str) -> None:
    start = time.process_time()
    clean(mark * (200_000 // len(mark)))
    clean(mark * (100_000 // len(mark)) + "}}" * 20_000 + "]]" * 20_000)
    clean(f"(a{' ' * 60_000}b {mark}{{{{cn}}}})")
    clean(f"A {{{{convert|1{' ' * 2_000}x{' ' * 2_000}1|km}}}} b.")
    assert time.process_time() - start < 8
