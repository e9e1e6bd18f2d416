"""Text of strangers made plain: what a reader cannot see is taken out before anything else."""

from __future__ import annotations

import re
import unicodedata

#: Zero-width characters, direction overrides, tags, variation selectors and soft hyphens: they
#: carry text that no person sees, and split words so that no filter finds them.
_HIDDEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u2064\u2066-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
#: Control characters but tab and line feed.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
#: What chat templates mark turns with. In a document they are words like any other.
_ROLES = re.compile(
    r"<\|[A-Za-z0-9_ /-]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>"
    r"|</?(?:system|assistant|user)>",
    re.IGNORECASE,
)


def plain_text(text: str) -> str:
    """Text as a person sees it: without invisible and control characters, with line feeds alone.

    Offsets of passages and citations count characters of this text, which is the one kept.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():  # nothing of what follows the control characters is in it
        return _CONTROL.sub(" ", text)
    # a lone surrogate is no character
    text = text.encode("utf-8", "replace").decode("utf-8")
    return unicodedata.normalize("NFC", _CONTROL.sub(" ", _HIDDEN.sub("", text)))


def without_roles(text: str) -> str:
    """The same length, with the marks of chat templates made harmless: their brackets are replaced
    by others that no tokenizer takes for a turn."""
    return _ROLES.sub(lambda found: _blunted(found.group()), text)


def _blunted(mark: str) -> str:
    return mark.translate(str.maketrans("<>[]|", "‹›⟦⟧¦"))


def without_hidden(text: str) -> str:
    """Text without the characters that no person sees."""
    return _HIDDEN.sub("", text)


def hidden_characters(text: str) -> int:
    """How many characters of a text no person sees."""
    return len(_HIDDEN.findall(text))
