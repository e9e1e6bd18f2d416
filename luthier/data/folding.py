"""When two texts say the same: folded to one form, they are equal."""

from __future__ import annotations

import re
import unicodedata

from luthier.data.examples import Conversation

_APOSTROPHES = re.compile(r"['’‘`]")
# Marks that punctuate sentences. Signs that carry meaning (#, +, %, @, /, <) stay, and so does a
# point, comma or dash before a digit: 1.5 is not 15, nor is -3 the same as 3.
_MARKS = re.compile(
    r"[.,;:!?…\"“”„«»()\[\]—–-](?!\d)|[!?…\"“”„«»()\[\]]"
    r"|[\u3001\u3002\u3008-\u3011\u3014-\u301b]"  # 、。 and brackets of East Asia
)


def fold(text: str) -> str:
    """The text without case, punctuation, and differences of white space or Unicode form.

    A text of nothing but punctuation is kept as it is.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(_MARKS.sub(" ", _APOSTROPHES.sub("", plain)).split())
    return words or plain.strip()


def fold_conversation(messages: Conversation) -> tuple[tuple[str, str], ...]:
    """The roles and folded texts of a conversation."""
    return tuple((message.role, fold(message.content)) for message in messages)
