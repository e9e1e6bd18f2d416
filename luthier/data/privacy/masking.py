"""Showing that something is there without showing it."""

from __future__ import annotations

from luthier.data.privacy.spans import Span

#: Texts above this length are not searched for secrets before they are shown; shorten them first.
MOST = 1 << 20


def masked(span: Span) -> str:
    """A value as it may be shown to people: "sk-a...9f2a", "j...@...", "...1111".

    At most a third of the value is shown, and never more than eight characters.
    """
    text = " ".join(span.text.split())
    if span.type in ("PRIVATE_KEY", "CONNECTION_STRING"):
        return text[: text.find("://") + 3] + "..." if "://" in text[:20] else f"{text[:11]}..."
    if span.type == "EMAIL":
        return f"{text[:1]}...@..."
    if span.type in ("CREDIT_CARD", "IBAN", "PHONE") and len(text) >= 12:
        return f"...{text[-4:]}"
    if len(text) >= 24:
        return f"{text[:4]}...{text[-4:]}"
    if len(text) >= 12:
        return f"{text[:2]}...{text[-2:]}"
    return f"{text[:1]}..." if len(text) >= 3 else "..."


def hide(text: str) -> str:
    """A text for people in which secrets are masked; everything else is as it was."""
    from luthier.data.privacy.finding import find

    pieces, at = [], 0
    for span in find(text[:MOST], types=["secret"]):
        pieces += [text[at : span.start], masked(span)]
        at = span.end
    return "".join(pieces) + text[at:] if pieces else text
