"""Text that was decoded wrongly somewhere before it came here."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, shortened, sources, texts_of
from luthier.data.repairs import CONTROLS, mojibake

__all__ = ["encoding", "mojibake"]


@LINTS.register("encoding")
def encoding(context: LintContext) -> Iterator[Finding]:
    """Replacement characters, mojibake and control characters in inputs or outputs."""
    for lost in (False, True):
        rows = {}
        shown = ""
        for example, _, text in texts_of(context.everything):
            if lost:
                at = -1 if text.isascii() else text.find("\ufffd")
            else:
                at = _damage(text)
            if at >= 0:
                rows[id(example)] = example
                shown = shown or shortened(text[max(0, at - 20) : at + 20])
        if rows:
            yield Finding(
                "encoding",
                "warning",
                len(rows),
                sources(rows.values()),
                f"{number(len(rows), 'row')} {'holds' if len(rows) == 1 else 'hold'} text that "
                f"was decoded wrongly, as in {shown!r}. The model reads noise, and learns to "
                "write it.",
                "Read the source again in its own encoding and export it anew: what U+FFFD stands "
                "for is lost here."
                if lost
                else "Mend them with --fix, or export the source anew as UTF-8.",
                fixable=not lost,
            )


def _damage(text: str) -> int:
    """Where mojibake or a control character stands; -1 where there is none."""
    if text.isascii() and text.isprintable():
        return -1
    piece = None if text.isascii() else mojibake(text)
    if piece:
        return text.index(piece)
    control = CONTROLS.search(text)
    return control.start() if control else -1
