"""Pages as a browser, a keyboard and a screen reader find them."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """A strict reader: every tag is closed in order; keeps tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.said.append((">".join(self.open), data))

    def text(self, inside: str = "body") -> str:
        parts = [
            data
            for path, data in self.said
            if inside in path.split(">") and not {"script", "style"} & set(path.split(">"))
        ]
        return " ".join(" ".join(parts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_accessible(page: Page) -> None:
    """What a reader needs who has no mouse, or does not see the page."""
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found in page.tags:
        for name in ("aria-labelledby", "for"):
            for wanted in (found.get(name) or "").split():
                assert wanted in ids
        if (found.get("href") or "").startswith("#"):
            assert (found["href"] or "")[1:] in ids
        # what takes the focus has a name, and nothing is put out of its order
        assert found.get("tabindex") in (None, "0")
        if "tabindex" in found:
            assert found.get("role") == "region" and {"aria-label", "aria-labelledby"} & set(found)
    assert {"header", "main", "nav", "footer"} <= {tag for tag, _ in page.tags}
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("a")[0]["class"] == "skip"
    assert all("scope" in found for found in page.all("th"))
    # each table has a caption, each drawing a title, each fold a summary, each field a label
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("summary")) == len(page.all("details"))
    labelled = {found.get("for") for found in page.all("label")}
    for field in (*page.all("input"), *page.all("select")):
        assert field["id"] in labelled
    drawn = [found for found in page.all("svg") if found.get("aria-hidden") != "true"]
    assert all(found.get("role") == "img" and found.get("aria-labelledby") for found in drawn)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def check_self_contained(page: Page) -> None:
    """Nothing is loaded, and nothing runs but the page's own script."""
    for tag, attributes in page.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
        assert "style" not in attributes  # the policy would block it
    style = "".join(data for path, data in page.said if path.endswith("style"))
    script = "".join(data for path, data in page.said if path.endswith("script"))
    assert "url(" not in style and "@import" not in style and "http" not in style + script
    policy = next(found["content"] or "" for found in page.all("meta") if "http-equiv" in found)
    assert policy.startswith("default-src 'none';")
    for kind, source in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
