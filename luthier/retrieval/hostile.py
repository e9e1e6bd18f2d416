"""Text that reads like an instruction to a model rather than like information.

An index is fed by people who do not write the prompts. What they wrote is data; where it speaks to
the model that will read it, that is a reason to look. The signs (hostile.yaml) are rules: they
explain themselves and cost nothing, and they miss what is worded differently. They flag passages,
they do not make a prompt safe: the prompt's own delimiters, access labels and checked citations do
the rest.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import functools
import re
import unicodedata
from pathlib import Path

from luthier.retrieval.sanitise import hidden_characters, without_hidden
from luthier.yaml_files import read_yaml

#: Invisible characters that a text may have: a few come with copying from a page.
_FEW_HIDDEN = 3

#: Cyrillic and Greek letters that look like Latin ones, and those.
_LOOKALIKES = str.maketrans(
    "асеіјорѕхуԁһӏԛԝАВЕЅІЈКМНОРСТХУΑΒΕΖΗΙΚΜΝΟΡΤΥΧαικνορτυχ",
    "aceijopsxydhlqwABESIJKMHOPCTXYABEZHIKMNOPTYXaiknoptux",
)
#: Words written letter by letter: eight at least, as initials and tables have fewer.
_SPACED = re.compile(r"(?<!\w)\w(?: {1,4}\w(?!\w)){8,}")
#: Words of an instruction by the alphabet turned by half, and backwards: what is worth a look.
_TURNED = re.compile(r"vafgehpgvba|vtaber|qvfertneq|cebzcg|nafjre", re.IGNORECASE)
_BACKWARDS = re.compile(r"noitcurtsni|erongi|dragersid|tpmorp|rewsna", re.IGNORECASE)
_HEX = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{2}){20,}(?![0-9a-f])", re.IGNORECASE)
#: An answer that a text gives itself, again and again; short ones are those of a form.
_SAID = re.compile(r"\b(?:answer|response|output)\s*:\s*([^\s.,;:]{4,40})", re.IGNORECASE)
_SHORT = frozenset({"none", "true", "false", "unknown", "null"})
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}(?![A-Za-z0-9+/])")


def suspicions(text: str) -> tuple[str, ...]:
    """Why a text may have been written to mislead a model; empty where nothing says so.

    Args:
        text: as it was read, invisible characters included.
    """
    found = hidden_in(text)
    found += _signs_in(text)
    plain = folded(text)
    if plain != text:
        found += _signs_in(plain)
    if any(_signs_in(inside) for inside in _packed(plain)):
        found.append("carries a packed instruction")
    said = [one.lower() for one in _SAID.findall(plain)]
    if any(said.count(one) > 1 and one not in _SHORT for one in said):
        found.append("answers in the reader's place")
    return tuple(dict.fromkeys(found))


def hidden_in(text: str) -> list[str]:
    """The sign that a text holds characters that nobody sees; empty where it holds few."""
    hidden = hidden_characters(text)
    return [f"hidden: {hidden} invisible characters (taken out)"] * (hidden > _FEW_HIDDEN)


def folded(text: str) -> str:
    """Text by what it looks like: letters of other scripts that look like Latin ones, full-width
    and mathematical letters, and words written letter by letter, as plain Latin words.

    For looking only: a text in Russian is no text any more."""
    plain = unicodedata.normalize("NFKC", without_hidden(text)).translate(_LOOKALIKES)
    return _SPACED.sub(lambda found: _joined(found.group()), plain)


def _joined(letters: str) -> str:
    """Letters with one blank between them as a word; more blanks part words."""
    return re.sub(r" +", lambda blanks: " " * (len(blanks.group()) > 1), letters)


def _packed(text: str) -> list[str]:
    """What a text carries in a code that models can read."""
    held = [_unpacked(packed) for packed in _BASE64.findall(text)[:20]]
    for packed in _HEX.findall(text)[:20]:
        inside = bytes.fromhex(packed).decode("utf-8", "replace")
        held.append(inside if inside.isprintable() else None)
    if _TURNED.search(text):
        held.append(codecs.encode(text, "rot13"))
    if _BACKWARDS.search(text):
        held.append(text[::-1])
    return [one for one in held if one]


def _signs_in(text: str) -> list[str]:
    return [name for name, pattern in _patterns() if pattern.search(text)]


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    held = read_yaml(Path(__file__).with_name("hostile.yaml"))
    flags = re.IGNORECASE | re.MULTILINE
    return tuple(
        (name, re.compile("|".join(f"(?:{one})" for one in patterns), flags))
        for name, patterns in held.items()
    )


def _unpacked(packed: str) -> str | None:
    try:
        inside = base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return inside if inside.isprintable() else None
