"""Names of people: lists of names, titles before them, and what introduces a name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from luthier.data.privacy.spans import Document, Kind, Span, detector, words
from luthier.data.privacy.word_lists import (
    CAPITAL,
    family_names,
    given_names,
    nationalities,
    ordinary,
    places,
    runs,
    titled,
)

Word = tuple[int, int, str]

_TITLES = words(
    "Mr Mrs Ms Miss Mister Dr Prof Professor Doctor Sir Madam Madame Mme Mlle Monsieur Lady Lord "
    "Dame Herr Frau Señor Señora Srta Sra Don Doña Signor Signora Dott Mx Rev Reverend Father "
    "Sister Capt Captain Sgt Sergeant Lt Lieutenant Col Colonel Gen General Judge Justice Pan "
    "Pani Hr Fru Aunt Uncle Grandma Grandpa"
)
_TITLE_BEFORE = re.compile(
    r"(?<![\w])(?:mr|mrs|ms|mx|dr|prof|rev|sr|sra|srta|mme|mlle|capt|sgt|lt|col|gen|dott|hr)\. ?$"
)
#: What says that a name follows, whatever it is.
_INTRODUCED = re.compile(
    r"(?:\bname(?:['’]s| is|:|\?)|\bdear|\bregards,|\bsincerely,|\bsigned,?|"
    r"\bspeaking with|\bcare of|\bc/o|\battn:?)[\s\"'*]{1,8}$"
)
#: Whose name stands behind it, though it may be a place's as well: "my daughter Florence".
_KIN = re.compile(
    r"\b(?:my|his|her|our|their|your)(?: (?:little|older|younger|eldest|best|late|dear|ex))?[ -]"
    r"(?:daughter|son|wife|husband|partner|fianc[ée]e?|mother|father|mom|mum|dad|brother|sister|"
    r"kid|child|uncle|aunt|cousin|nephew|niece|friend|boyfriend|girlfriend|colleague|co-?worker|"
    r"boss|neighbou?r|roommate|flatmate|landlord|assistant|secretary)[ ,]{1,2}$"
)
#: Before a name that is in no list: who is quoted.
_QUOTED = re.compile(r"[\"”’,!?] {0,2}(?:said|asked|replied|answered|cried|whispered|shouted) $")
#: Behind a name that is in no list: what only people do, and how they are spoken to.
_PEOPLE_DO = re.compile(
    r" (?:(?:shouted|whispered|yelled|screamed|muttered|murmured|nodded|smiled|laughed|giggled|"
    r"sighed|shrugged|grinned|frowned|blushed|sobbed|wept|replied)\b|"
    r"(?:said|asked|told) (?:him|her|me|us|them|that (?:he|she))\b)"
)
_SPOKEN_TO = re.compile(
    r", (?:(?:can|could|would|will|do|did|are|have) (?:you|i|we)|please|thank you)\b"
)
_BEGINS = re.compile(r"(?:^|[.!?\n][\s\"“']{0,3})$")
#: What often stands before a name: enough together with a list of names.
_BESIDE = re.compile(
    r"(?:\b(?:hi|hello|hey|i am|i['’]m|by|said|says|asked|told|to|from:?|thanks,?|cheers,|with|"
    r"named(?: him| her)?|called|this is|client|customer|patient|"
    r"tenant|applicant|guardian|contact:?|user:?|author:?))[\s\"'*]{1,8}$"
)
_SMALL_INTRODUCED = re.compile(
    r"\bmy (?:full |real |first |last |maiden |given )?name(?: is|['’]s) "
    r"([^\W\d_][^\W\d_'’-]{1,24}(?: (?:[^\W\d_]\. )?[^\W\d_][^\W\d_'’-]{1,24})?)"
)
_ENDINGS = re.compile(
    r".{2,}(?:ovi[cćč]|evi[cćč]|i[ćč]|sen|sson|sdóttir|dottir|owski|ewski|iński|ński|czyk|wicz|enko|"
    r"escu|nen|opoulos|idis|akis|oğlu|shvili|ukov|akov|ankov|inov|onov|enov|anov|arov|erov|ov|ova|"
    r"eva|aya|ández|íguez|ínez|ález|guez|ndez|mann|meier|maier|meyer|bauer|hoff|stein|berg|feld|"
    r"quist|qvist|ström|gren|strand|gaard|gård|stad|stra|sma|yan|pillai|swamy)$"
)
_SMALL = words(
    "not on in the a an it that this is my your his her their our very so too also just spelled "
    "spelt wrong incorrect missing still only being no from at as to and or but what"
)
#: Behind a name: whose relative somebody is.
_RELATIVE = re.compile(
    r" (?:daughter|son|wife|husband|mother|father|mom|mum|dad|brother|sister|kids?|"
    r"child|children|friend|boyfriend|girlfriend|birthday|account|address|phone|email)\b"
)
_LIST = re.compile(
    rf"(?<![\w])[{CAPITAL}][\w’'-]{{1,20}}(?:, [{CAPITAL}][\w’'-]{{1,20}}){{1,12}},? "
    rf"(?:and|or|y|et|und|&) [{CAPITAL}][\w’'-]{{1,20}}(?! [{CAPITAL}])"
)
#: Before a name that a place has: "St Georges", "San Michele".
_SAINTS = words("St St. San Santa Santo Saint Sainte Ste Sankt São Sant")
_INITIAL = re.compile(r"[^\W\d_]\.$")
_SINGLE_LETTER = re.compile(r"[^\W\d_]\.?$")


PERSON = Kind("PERSON", "person's name", "person", "names of people")


@detector("person", PERSON)
def people(document: Document) -> Iterator[Span]:
    """Given names with what follows, names behind a title, names that are introduced."""
    for run in runs(document):
        yield from _in_run(document, run.words)
    yield from _in_lists(document)
    for match in _SMALL_INTRODUCED.finditer(document.lower):
        words = match[1].split()
        while words and words[-1] in _SMALL:
            words.pop()
        if words and words[0] not in _SMALL and not words[0].endswith(("ed", "ing")):
            kept = 1 if len(words) > 1 and words[1] in _SMALL else len(words)
            end = match.start(1) + len(" ".join(words[:kept]))
            yield document.span(match.start(1), end, "PERSON", 0.7, "behind 'my name is'")


def _in_run(document: Document, words: Sequence[Word]) -> Iterator[Span]:
    index = 0
    while index < len(words):
        start, _, raw = words[index]
        word = titled(raw)
        if word in _TITLES and index + 1 < len(words):
            taken = _following(words, index + 1, sure=True)
            if taken > index + 1:
                yield _span(document, words, index + 1, taken, 0.9, f"behind {raw!r}")
                index = taken
                continue
        place = _place(words, index)
        if place:
            index += place
            continue
        if word in ordinary() or not word[0].isupper() or word in _TITLES:
            index += 1
            continue
        before = document.before(start, 40) if index == 0 else words[index - 1][2].lower() + " "
        if index == 0 and _TITLE_BEFORE.search(before):
            taken = _following(words, index, sure=True)
            if taken > index:
                yield _span(document, words, index, taken, 0.9, "behind a title")
                index = taken
                continue
        introduced = _INTRODUCED.search(before) if before else None
        if index == 0 and _KIN.search(before):
            taken = _following(words, index, sure=True)
            if taken > index:
                yield _span(document, words, index, taken, 0.8, "behind whose relative it is")
                index = taken
                continue
        found = _named(words, index, bool(introduced), bool(_BESIDE.search(before)))
        found = found or (_by_place(document, words) if index == 0 else None)
        if found:
            taken, confidence, evidence = found
            if taken < len(words) and titled(words[taken][2]) in ordinary() and not introduced:
                # "Wilson Center", "Elizabeth Street": named after somebody
                index = taken + 1
                continue
            yield _span(document, words, index, taken, confidence, evidence)
            index = taken
        else:
            index += 1


def _place(words: Sequence[Word], index: int) -> int:
    """How many words from one on are a place of several words ("San Francisco"), or 0."""
    known = places()
    if titled(words[index][2]) in _SAINTS and index + 1 < len(words):
        return 2
    for count in (4, 3, 2):
        piece = words[index : index + count]
        if len(piece) == count and " ".join(titled(word) for _, _, word in piece) in known:
            return count
    return 0


def _named(
    words: Sequence[Word], index: int, introduced: bool, beside: bool
) -> tuple[int, float, str] | None:
    """(index behind the name, confidence, evidence) of a name that begins at a word, or None."""
    given, family, known = given_names(), family_names(), places()
    word = titled(words[index][2])
    initial = bool(_SINGLE_LETTER.match(word))
    taken = _following(words, index, sure=introduced)
    count = taken - index
    if count < 1:
        return None
    last = titled(words[taken - 1][2])
    like_family = last in family or bool(_ENDINGS.match(last))
    if introduced and not (count == 1 and (initial or word in known or word in nationalities())):
        return taken, 0.85 if word in given or like_family else 0.75, "behind what introduces it"
    if count == 1:
        if initial or word.isupper():
            return None
        if word in given.sure:
            return taken, 0.75 if beside else 0.6, "in the list of given names"
        if beside and (word in given.doubtful or word in family.sure):
            return taken, 0.55, "in the list of names, in a fitting place"
        if word in family.sure and len(word) > 4:
            return taken, 0.5, "in the list of family names"
        return None
    if word in given.sure:
        return taken, 0.85 if like_family else 0.7, "given name and what follows"
    if word in given.doubtful and like_family and last not in known:
        return taken, 0.7, "given name and family name"
    if initial and like_family:
        return taken, 0.65, "initial and family name"
    if word in known or word in nationalities():
        return None
    if last in family.sure or _ENDINGS.match(last):
        return taken, 0.6, "capitalised word and family name"
    second = titled(words[index + 1][2])
    if count == 3 and len(word) > 2 and len(last) > 2 and _INITIAL.match(second):
        return taken, 0.55, "an initial between capitalised words"
    if second in given.sure and second not in known:  # family name first: "Nagy Zoltán"
        return taken, 0.55, "capitalised word and given name"
    return None


def _by_place(document: Document, words: Sequence[Word]) -> tuple[int, float, str] | None:
    """A run of unknown words that is a name by what stands around it."""
    capitals = [titled(word) for _, _, word in words if word[0].isupper()]
    known = places()
    if any(w in ordinary() or w in known or w in nationalities() for w in capitals):
        return None
    start, end = words[0][0], words[-1][1]
    after = document.after(end, 24)
    if len(capitals) <= 3 and words[-1][2].endswith(("'s", "’s")) and _RELATIVE.match(after):
        return len(words), 0.6, "whose relative or account is named"
    if len(capitals) <= 2 and not all(word.isupper() for _, _, word in words):
        if _PEOPLE_DO.match(after) or _QUOTED.search(document.before(start, 14)):
            return len(words), 0.6, "who speaks or does what people do"
        if _SPOKEN_TO.match(after) and _BEGINS.search(document.before(start, 4)):
            return len(words), 0.55, "who is spoken to"
    if not 2 <= len(capitals) <= 3 or any(len(w) > 3 and w.isupper() for _, _, w in words):
        return None
    leading = document.before(start, 10).rpartition("\n")[2]
    if len(leading) > 8 or any(c.isalnum() for c in leading):
        return None
    rest, *following = document.after(end, 170).split("\n")[:5]
    if rest.strip():
        return None
    if any(any(c.isdigit() for c in later) for later in following):
        return len(words), 0.55, "alone on a line above an address"
    return None


def _in_lists(document: Document) -> Iterator[Span]:
    """Unknown words in a list of given names."""
    given, known = given_names(), places()
    for match in _LIST.finditer(document.text):
        parts = list(re.finditer(r"[^\W\d_][\w’'-]+", match[0]))
        names = [part for part in parts if part[0][0].isupper()]
        sure = sum(part[0] in given.sure for part in names)
        if sure < 2 or sure * 2 < len(names):
            continue
        for part in names:
            if part[0] not in ordinary() and (part[0] in given or part[0] not in known):
                yield document.span(
                    match.start() + part.start(),
                    match.start() + part.end(),
                    "PERSON",
                    0.71,
                    "in a list of given names",
                )


def _following(words: Sequence[Word], index: int, *, sure: bool) -> int:
    """How far a name goes that begins at a word: at most four capitalised words."""
    taken, capitals = index, 0
    while taken < len(words) and capitals < 4:
        raw = words[taken][2]
        word = titled(raw)
        if word[0].isupper():
            if word in ordinary() or (capitals and word in nationalities()):
                break
            if capitals and not sure and word in places() and word not in family_names():
                break
            capitals += 1
        elif raw in ("and", "of", "e", "y") or taken == index:
            break
        taken += 1
    while taken > index and not words[taken - 1][2][0].isupper():
        taken -= 1
    return taken


def _span(
    document: Document, words: Sequence[Word], index: int, taken: int, confidence: float, why: str
) -> Span:
    start, end = words[index][0], words[taken - 1][1]
    # "Anna's": the ending is not the name's
    for ending in ("'s", "’s"):
        if document.text.endswith(ending, start, end):
            end -= 2
    return document.span(start, end, "PERSON", confidence, why)
