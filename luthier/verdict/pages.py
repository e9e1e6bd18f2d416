"""What every page that Luthier writes shares: templates, style, script, and a policy.

Everything in a run folder is untrusted text: the templates escape all of it, and the page's
Content-Security-Policy allows exactly its own style sheet and its own script, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from luthier.verdict.formatting import DASH, NBSP, count, plural

_HERE = Path(__file__).parent


@cache
def environment(*folders: Path) -> Environment:
    """Templates of these folders and of the report's own.

    Autoescape is on for every template; a name that a template mistypes is an error.
    """
    made = Environment(
        loader=FileSystemLoader([*folders, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["count"] = count
    made.filters["plural"] = plural
    made.filters["first_upper"] = lambda said: said[:1].upper() + said[1:]
    made.filters["together"] = together
    made.globals["dash"] = DASH
    return made


def together(said: str) -> Markup:
    """A sentence whose numbers are not torn from their units at the end of a line, nor names of
    metrics at their hyphens."""
    said = re.sub(r"(?<=\d) (?=(?:%|s|ms|min|h|points?|GB|MB)(?!\w))", NBSP, said)
    said = re.sub(r"\bp ([<=]) (?=\d)", rf"p{NBSP}\1{NBSP}", said)
    return Markup(re.sub(r"ROUGE-[L\d]", r'<span class="whole">\g<0></span>', str(escape(said))))


@cache
def asset(name: str) -> str:
    """The text of a style sheet or script that lies beside the report's templates."""
    return (_HERE / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which nothing loads and only these two inline parts run."""

    def of(source: str) -> str:
        return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()

    return (
        f"default-src 'none'; style-src 'sha256-{of(style)}'; script-src 'sha256-{of(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
