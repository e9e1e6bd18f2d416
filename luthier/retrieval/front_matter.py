"""YAML at the beginning of a text, between two lines of dashes: labels and metadata."""

from __future__ import annotations

import re

from luthier.errors import InputError

#: Blank lines before it, blanks behind the dashes, "..." as its end and an end without a newline
#: are what people write: a label that is passed over opens a document to everybody.
_BLOCK = re.compile(r"\A\s*---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


def front_matter(text: str, shown: str) -> tuple[dict[str, object], str]:
    """(what stands in the front matter, the rest); nothing and all of the text where there is none.

    Args:
        text: of a file.
        shown: its name in messages.

    Raises:
        InputError: the lines between the dashes are no YAML.
    """
    found = _BLOCK.match(text)
    if found is None:
        return {}, text
    import yaml

    try:
        said = yaml.safe_load(found.group(1))
    except yaml.YAMLError as error:
        raise InputError(
            f"{shown}: the front matter between the lines of --- is no YAML ({error}).",
            fix="Mend it, or take the lines away.",
        ) from None
    if not isinstance(said, dict):  # two rules with text between them
        return {}, text
    return {str(key): value for key, value in said.items()}, text[found.end() :]
