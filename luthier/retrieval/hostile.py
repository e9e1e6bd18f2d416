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
import functools
import re
from pathlib import Path

from luthier.retrieval.sanitise import hidden_characters
from luthier.yaml_files import read_yaml

#: Invisible characters that a text may have: a few come with copying from a page.
_FEW_HIDDEN = 3

_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}(?![A-Za-z0-9+/])")


def suspicions(text: str) -> tuple[str, ...]:
    """Why a text may have been written to mislead a model; empty where nothing says so.

    Args:
        text: as it was read, invisible characters included.
    """
    found = []
    hidden = hidden_characters(text)
    if hidden > _FEW_HIDDEN:
        found.append(f"hidden: {hidden} invisible characters (taken out)")
    found += _signs_in(text)
    for packed in _BASE64.findall(text)[:20]:
        inside = _unpacked(packed)
        if inside and _signs_in(inside):
            found.append("carries a packed instruction")
            break
    return tuple(dict.fromkeys(found))


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
