"""HTML: what a browser would show, without running or fetching anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from luthier.data.decoding import decode
from luthier.errors import InputError
from luthier.retrieval.documents import KINDS, Document, Found, labelled, made_plain
from luthier.retrieval.hostile import suspicions
from luthier.retrieval.sanitise import plain_text

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
#: Characters of a style sheet that are looked at.
_SHEET = 200_000


@KINDS.register("html")
def html(found: Found) -> Iterator[Document]:
    """One document. Scripts, styles, navigation and hidden elements are left out."""
    from bs4 import BeautifulSoup
    from bs4.element import Comment, NavigableString

    raw = decode(found.path.read_bytes(), found.shown)
    try:
        soup = BeautifulSoup(raw, "lxml")
    except Exception as error:  # the parser's own errors have no common class
        raise InputError(f"{found.shown} cannot be read as HTML: {error}.") from None
    hiding = _hiding(soup)
    unseen: list[str] = []  # what nobody reads, for a look whether it speaks to a model
    dark = 0  # elements around this one that set a ground of their own
    pieces: list[str] = []
    headings: list[tuple[int, int, str]] = []
    left_out = 0
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
                unseen.append(str(node))
            elif type(node) is NavigableString:
                words = re.sub(r"\s+", " ", plain_text(str(node)))
                if words.strip():
                    add(words if pieces and not pieces[-1].endswith("\n") else words.lstrip())
            continue
        name = node.name
        style = str((node.attrs or {}).get("style", ""))
        grounded = bool(_GROUND.search(style) or (node.attrs or {}).get("bgcolor"))
        if closing:
            dark -= grounded
            if name in _BLOCKS:
                _newline(pieces, add)
            continue
        if name in _UNSHOWN or depth > _DEEPEST:
            continue
        unseen += [str(node.attrs[key]) for key in ("alt", "title") if key in (node.attrs or {})]
        dark += grounded
        if _hidden(node, style, hiding) or (not dark and _WHITE.search(style)):
            left_out += bool(node.get_text(strip=True))
            dark -= grounded
            continue
        if name in _BLOCKS:
            _newline(pieces, add)
        if re.fullmatch(r"h[1-6]", name or ""):
            said = re.sub(r"\s+", " ", plain_text(node.get_text(" ", strip=True))).strip()
            if said:
                headings.append((length, int(name[1]), said))
        stack.append((node, depth, True))
        stack.extend((child, depth + 1, False) for child in reversed(list(node.children)))
    text = "".join(pieces)
    _, hidden = made_plain(raw)
    if left_out:
        hidden = (*hidden, f"hidden: {left_out} elements that no reader sees (taken out)")
    if any(suspicions(text) for text in unseen):
        hidden = (*hidden, "hidden: an instruction in a comment or attribute (taken out)")
    title = soup.title.get_text(strip=True) if soup.title else None
    document = Document(found.name, text, headings=tuple(headings), suspicious=hidden)
    yield labelled(document, {"title": title and plain_text(title)}, found.shown)


KINDS.register("htm")(html)


def _newline(pieces: list[str], add: Any) -> None:
    if pieces and not pieces[-1].endswith("\n"):
        add("\n")


def _hidden(node: Any, style: str, hiding: frozenset[str]) -> bool:
    if node.attrs is None:
        return False
    if hiding:
        classes = node.attrs.get("class") or []
        names = {node.name, *(f".{one}" for one in classes), f"#{node.attrs.get('id')}"}
        if names & hiding or {f"{node.name}{one}" for one in names} & hiding:
            return True
    return (
        "hidden" in node.attrs
        or str(node.attrs.get("aria-hidden", "")).lower() == "true"
        or bool(_HIDING.search(style))
    )


def _hiding(soup: Any) -> frozenset[str]:
    """The classes, ids and elements that the page's own style sheets keep from people."""
    found: set[str] = set()
    for sheet in soup.find_all("style"):
        rules = _AT_RULE.sub(" ", str(sheet.string or "")[:_SHEET])
        for names, said in _RULE.findall(rules):
            white = _WHITE.search(said) and not _GROUND.search(said)
            if not (_HIDING.search(said) or white):
                continue
            for name in names.split(","):
                if _SIMPLE.fullmatch(name.strip()) and name.strip() not in ("html", "body"):
                    found.add(name.strip())
    return frozenset(found)
