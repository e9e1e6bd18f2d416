"""Outputs that nobody has written yet."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

_WHOLE = re.compile(
    r"(?:todo|tbd|tba|fixme|xxx+|placeholder|lorem ipsum|n/?a|nan|null|undefined|none|"
    r"\[?(?:insert|add|your|write)\b[^\]\n]{0,40}\]|<no ?(?:input|output)>|asdf+|"
    r"[-–—_.…?!*#/ ]+)[.!]*",
    re.IGNORECASE,
)
_BEGINNING = re.compile(r"(?:TODO|FIXME|TBD)\b")
_ANYWHERE = re.compile(r"lorem ipsum dolor", re.IGNORECASE)
# Where "nothing" is a right answer, and written so.
_NOTHING = {
    "ner": re.compile(r"none", re.IGNORECASE),
    "extraction": re.compile(r"none|null|n/?a|\[\]|\{\}", re.IGNORECASE),
    "qa": re.compile(r"none", re.IGNORECASE),
}


@LINTS.register("placeholders")
def placeholders(context: LintContext) -> Iterator[Finding]:
    """Outputs such as "TODO", "N/A", "lorem ipsum" or a lone dash; not for classifications."""
    kind = context.task.kind
    if kind == "classification":
        return  # an output is one of the labels, and "N/A" may well be one
    allowed = _NOTHING.get(kind)
    found = []
    for example in context.everything:
        text = example.output.strip()
        if allowed and allowed.fullmatch(text):
            continue
        if kind == "translation" and text == example.input.strip():
            continue
        if _WHOLE.fullmatch(text) or _BEGINNING.match(text) or _ANYWHERE.search(text):
            found.append(example)
    if found:
        total = len(context.everything)
        yield Finding(
            "placeholders",
            "warning",
            len(found),
            sources(found),
            f"{number(len(found), 'row')} ({percent(len(found), total)}) "
            f"{'has' if len(found) == 1 else 'have'} an output that looks like a placeholder, "
            f"such as {shortened(found[0].output)!r} ({found[0].source}). The model would learn "
            "to give it as an answer.",
            "Write the real answers, or remove the rows.",
        )
