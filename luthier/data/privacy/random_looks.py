"""Whether a string was made by a random generator, by a person, or stands for one."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

from luthier.data.privacy.spans import words

_STANDS_FOR = re.compile(
    r"example|sample|placeholder|changeme|change_me|dummy|redacted|removed|hidden|insert|replace|"
    r"your[-_ ]?|my[-_]?(?:secret|key|token|pass|api)|fake|test(?:ing)?[-_]?(?:key|token|secret)|"
    r"x{4,}|\*{3,}|\.{3,}|-{4,}$|_{4,}|0{8,}|1{8,}|a{6,}|abcdefgh|12345678|deadbeef|"
    r"(?:secret|token|api)[-_]?(?:key|here|value|token)$|here$|to[-_ ]?do",
    re.IGNORECASE,
)
_REFERENCE = re.compile(
    r"^[<$%{\[(]|[>})\]%]$|^(?:os|process|env|config|settings|self|this)\.|\(\)"
)
_WORDS = words(
    "password passwd pass secret token key none null true false undefined string value username "
    "user admin root hunter2 letmein qwerty foo bar baz foobar required optional default"
)


def entropy(text: str) -> float:
    """Shannon's entropy of the characters, in bits a character."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values()) if total else 0.0


def placeholder(text: str) -> bool:
    """Whether a text stands for a secret instead of being one: "YOUR_KEY", "${TOKEN}", "xxxx"."""
    return (
        text.lower() in _WORDS
        or len(set(text)) < 4
        or bool(_STANDS_FOR.search(text))
        or bool(_REFERENCE.search(text))
    )


def random_looking(text: str, least: int = 16) -> bool:
    """Whether a string of letters and digits looks generated.

    Letters and digits must both be there and change places often, as they do not in names of
    things ("sha256_of_the_file"); the entropy must be that of random hexadecimal or base64 of
    this length, with some room: 3 bits for hexadecimal, 3.5 for others.
    """
    if len(text) < least or placeholder(text):
        return False
    digits = sum(c.isdigit() for c in text)
    letters = sum(c.isalpha() for c in text)
    if not digits or not letters:
        return False
    changes = sum(a.isdigit() != b.isdigit() for a, b in itertools.pairwise(text))
    if changes < max(3, len(text) // 10):
        return False
    is_hex = all(c in "0123456789abcdefABCDEF-" for c in text)
    return entropy(text) >= (3.0 if is_hex else 3.5)
