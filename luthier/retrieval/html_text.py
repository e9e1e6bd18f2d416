"""A page of HTML as a browser would show it, without running or fetching anything.

Also a program of its own, for pages that may take long: see `apart.py`.

    python -I html_text.py FILE MEMORY_BYTES SECONDS MOST_CHARACTERS
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_UNSHOWN_WORDS = """
script style template noscript head iframe object embed svg math canvas audio video select option
datalist textarea nav input
"""
_UNSHOWN = frozenset(_UNSHOWN_WORDS.split())
_BLOCK_WORDS = """
address article aside blockquote body br caption dd details div dl dt fieldset figcaption figure
footer form h1 h2 h3 h4 h5 h6 header hr html legend li main ol p pre section summary table tbody td
tfoot th thead tr ul
"""
_BLOCKS = frozenset(_BLOCK_WORDS.split())
#: Styles by which text is put where no person sees it.
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|opacity\s*:\s*0(?:\.0*)?(?:\D|$)"
    r"|font-size\s*:\s*(?:0|1px|1pt)(?![\d.])|font-size\s*:\s*0?\.\d+(?:px|pt)"
    r"|(?:left|top|text-indent)\s*:\s*-\d{3,}|clip\s*:\s*rect\(\s*0",
    re.IGNORECASE,
)
#: Of these, what closed menus and dialogs have, which are on most pages.
_CLOSED = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
#: Characters that such a page says to screen readers alone ("Skip to the content").
_ASIDE = 40
#: Letters of the page's own colour; seen where an element sets its ground itself.
_WHITE = re.compile(
    r"(?:^|[;{\s])color\s*:\s*(?:white|#fff(?:fff)?|transparent|rgb\(\s*255\s*,\s*255\s*,\s*255\s*\)"
    r"|rgba\([^)]*,\s*0(?:\.0*)?\s*\))\s*(?:!important\s*)?(?:;|$|\})",
    re.IGNORECASE,
)
_GROUND = re.compile(r"background", re.IGNORECASE)
#: Rules of a style sheet that name one class, id or element, outside of @media and the like.
_AT_RULE = re.compile(r"@[^{}]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}|/\*.*?\*/|@[^;{}]*;", re.DOTALL)
_RULE = re.compile(r"([^{}]{1,2000})\{([^{}]{0,5000})\}")
_SIMPLE = re.compile(r"[A-Za-z][A-Za-z0-9]*|[.#][A-Za-z_][\w-]*|[A-Za-z][A-Za-z0-9]*[.#][\w-]+")
#: Elements that stand within each other at most; more is an attack on whoever walks through them.
_DEEPEST = 400
#: Characters of a style sheet, of a comment or attribute, and of a heading, that are looked at.
_SHEET, _LOOKED_AT, _LONGEST_HEADING = 200_000, 4000, 500


@dataclass
class Page:
    """What a page shows.

    Attributes:
        text: lines as they follow one another.
        headings: (offset, level from 1, text).
        title: of the page.
        left_out: elements with a text that is put where no reader sees it, other than what is
            closed until somebody opens it.
        unseen: texts of comments, attributes and elements that no reader sees.
    """

    text: str = ""
    headings: list[tuple[int, int, str]] = field(default_factory=list)
    title: str = ""
    left_out: int = 0
    unseen: list[str] = field(default_factory=list)


def page_of(raw: str) -> Page:
    """Read a page. Scripts, styles, navigation and hidden elements are left out."""
    from bs4 import BeautifulSoup
    from bs4.element import Comment, NavigableString

    from luthier.retrieval.sanitise import plain_text

    with warnings.catch_warnings():  # its advice on what it would rather be given
        warnings.simplefilter("ignore")
        soup = BeautifulSoup(raw, "lxml")
    page, hiding = Page(), _hiding(soup)
    dark = 0  # elements around this one that set a ground of their own
    pieces: list[str] = []
    length = 0

    def add(text: str) -> None:
        nonlocal length
        pieces.append(text)
        length += len(text)

    # with a stack of its own: pages may nest deeper than Python calls
    stack: list[tuple[Any, int, bool]] = [(soup, 0, False)]
    while stack:
        node, depth, closing = stack.pop()
        if isinstance(node, NavigableString):
            if isinstance(node, Comment):
                page.unseen.append(str(node)[:_LOOKED_AT])
            elif type(node) is NavigableString:
                words = re.sub(r"\s+", " ", plain_text(str(node)))
                if words.strip():
                    add(words if pieces and not pieces[-1].endswith("\n") else words.lstrip())
            continue
        name, attributes = node.name, node.attrs or {}
        style = str(attributes.get("style", ""))[:_LOOKED_AT]
        grounded = bool(_GROUND.search(style) or attributes.get("bgcolor"))
        if closing:
            dark -= grounded
            if name in _BLOCKS:
                _newline(pieces, add)
            continue
        if name in _UNSHOWN or depth > _DEEPEST:
            continue
        named = (str(attributes[key]) for key in ("alt", "title") if key in attributes)
        page.unseen += [text[:_LOOKED_AT] for text in named]
        white = not (dark or grounded) and _WHITE.search(style)
        way = "strange" if white else _hidden(node, style, hiding)
        if way:
            said = _short_text(node, _LOOKED_AT)
            page.left_out += way == "strange" and len(said.strip()) > _ASIDE
            page.unseen.append(said)
            continue
        if name in _BLOCKS:
            _newline(pieces, add)
        if re.fullmatch(r"h[1-6]", name or ""):
            said = re.sub(r"\s+", " ", plain_text(_short_text(node))).strip()
            if said:
                page.headings.append((length, int(name[1]), said))
        dark += grounded
        stack.append((node, depth, True))
        stack.extend((child, depth + 1, False) for child in reversed(list(node.children)))
    page.text = "".join(pieces)
    if soup.title is not None:
        page.title = plain_text(_short_text(soup.title)).strip()
    return page


def _short_text(node: Any, most: int = _LONGEST_HEADING) -> str:
    """The beginning of an element's text: headings within headings would repeat all of theirs."""
    held, length = [], 0
    for text in node.strings:
        held.append(text)
        length += len(text)
        if length > most:
            break
    return " ".join(held)[:most]


def _newline(pieces: list[str], add: Any) -> None:
    if pieces and not pieces[-1].endswith("\n"):
        add("\n")


def _hidden(node: Any, style: str, hiding: Mapping[str, str]) -> str:
    """How an element is kept from people: "closed", "strange", or ""."""
    if node.attrs is None:
        return ""
    if hiding:
        classes = node.attrs.get("class") or []
        names = {node.name, *(f".{one}" for one in classes), f"#{node.attrs.get('id')}"}
        names |= {f"{node.name}{one}" for one in names}
        ways = {hiding[name] for name in names if name in hiding}
        if ways:
            return "strange" if "strange" in ways else "closed"
    if way := _way(style):
        return way
    aside = str(node.attrs.get("aria-hidden", "")).lower() == "true"
    return "closed" if aside or "hidden" in node.attrs else ""


def _way(style: str) -> str:
    if not _HIDING.search(style):
        return ""
    return "strange" if _HIDING.search(_CLOSED.sub("", style)) else "closed"


def _hiding(soup: Any) -> dict[str, str]:
    """The classes, ids and elements that the page's own style sheets keep from people, and how."""
    found: dict[str, str] = {}
    for sheet in soup.find_all("style"):
        rules = _AT_RULE.sub(" ", str(sheet.string or "")[:_SHEET])
        for names, said in _RULE.findall(rules):
            white = _WHITE.search(said) and not _GROUND.search(said)
            way = "strange" if white else _way(said)
            if not way:
                continue
            for name in names.split(","):
                name = name.strip()
                if not _SIMPLE.fullmatch(name) or name in ("html", "body"):
                    continue
                # a later rule may show what an earlier one hid oddly, or may not
                found[name] = "strange" if found.get(name) == "strange" else way
    return found


def main() -> None:
    """Read one file within limits; see above."""
    import json
    from pathlib import Path

    path, memory, seconds, most = sys.argv[1], *map(int, sys.argv[2:5])
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from luthier.data.decoding import decode
    from luthier.errors import LuthierError
    from luthier.retrieval.limits import bounded

    bounded(memory, seconds)
    try:
        page = page_of(decode(Path(path).read_bytes(), Path(path).name))
    except LuthierError as error:
        raise SystemExit(error.message.rstrip(".")) from None
    if len(page.text) > most:
        raise SystemExit(f"it holds more than {most:,} characters of text")
    json.dump(asdict(page), sys.stdout)


if __name__ == "__main__":
    main()
