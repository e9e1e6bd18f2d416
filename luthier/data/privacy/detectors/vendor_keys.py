"""Keys and tokens that carry their maker's prefix."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator

from luthier.data.privacy.random_looks import entropy, placeholder
from luthier.data.privacy.spans import Document, Kind, Span, detector

# (maker, texts one of which every key holds, form)
_FORMS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("AWS", ("AKIA", "ASIA", "ABIA", "ACCA"), r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    ("Google", ("AIza",), r"AIza[\w-]{35}"),
    ("Google OAuth", ("GOCSPX-",), r"GOCSPX-[\w-]{20,40}"),
    ("Google OAuth", ("ya29.",), r"ya29\.[\w-]{20,300}"),
    ("GitHub", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    ("GitHub", ("github_pat_",), r"github_pat_\w{22,255}"),
    ("GitLab", ("glpat-", "gldt-", "glrt-"), r"gl(?:pat|dt|rt)-[\w-]{20,64}"),
    ("Slack", ("xox",), r"xox[abeoprs]-[\w-]{10,250}"),
    ("Slack", ("xapp-",), r"xapp-\d-[\w-]{20,250}"),
    (
        "Slack webhook",
        ("hooks.slack.com/",),
        r"hooks\.slack\.com/(?:services|workflows)/[\w/]{20,200}",
    ),
    ("Stripe", ("_live_", "_test_"), r"(?:sk|rk|whsec)_(?:live|test)_[A-Za-z0-9]{16,247}"),
    ("Stripe", ("whsec_",), r"whsec_[A-Za-z0-9+/]{24,64}"),
    ("Anthropic", ("sk-ant-",), r"sk-ant-[\w-]{20,200}"),
    ("OpenAI", ("sk-",), r"sk-(?:proj-|svcacct-|admin-)?[\w-]{20,200}"),
    ("Hugging Face", ("hf_", "api_org_"), r"(?:hf_|api_org_)[A-Za-z0-9]{30,40}"),
    ("npm", ("npm_",), r"npm_[A-Za-z0-9]{36}"),
    ("PyPI", ("pypi-AgE",), r"pypi-AgE[\w-]{50,300}"),
    ("SendGrid", ("SG.",), r"SG\.[\w-]{16,32}\.[\w-]{16,64}"),
    ("Twilio", ("SK", "AC"), r"(?:SK|AC)[0-9a-f]{32}"),
    ("Mailgun", ("key-",), r"key-[0-9a-f]{32}"),
    ("Mailchimp", ("-us",), r"[0-9a-f]{32}-us\d{1,2}"),
    ("DigitalOcean", ("dop_v1_", "doo_v1_"), r"do[op]_v1_[0-9a-f]{64}"),
    ("Shopify", ("shpat_", "shpss_", "shpca_", "shppa_"), r"shp(?:at|ss|ca|pa)_[0-9a-fA-F]{32}"),
    ("Telegram bot", (":AA",), r"\d{8,10}:AA[\w-]{33}"),
    ("Databricks", ("dapi",), r"dapi[0-9a-f]{32}"),
    ("Linear", ("lin_api_",), r"lin_api_[A-Za-z0-9]{32,48}"),
    ("Square", ("sq0",), r"sq0(?:atp|csp|idp)-[\w-]{22,43}"),
    ("Azure storage", ("AccountKey=",), r"(?<=AccountKey=)[A-Za-z0-9+/]{86}=="),
    ("Docker Hub", ("dckr_pat_",), r"dckr_pat_[\w-]{20,40}"),
    ("HashiCorp Vault", ("hvs.", "hvb."), r"hv[sb]\.[\w-]{20,300}"),
)
_PATTERNS = tuple(
    (maker, parts, re.compile(rf"(?<![A-Za-z0-9_-])(?:{form})(?![A-Za-z0-9])"))
    if not form.startswith("(?<=")
    else (maker, parts, re.compile(form))
    for maker, parts, form in _FORMS
)
_JWT = re.compile(r"(?<![\w.-])(eyJ[\w-]{10,2000})\.([\w-]{10,8000})\.([\w-]{10,2000})(?![\w-])")


@detector(
    "vendor_keys",
    Kind("API_KEY", "API key or token", "secret", "API keys or tokens"),
    Kind("JWT", "signed token (JWT)", "secret", "signed tokens (JWT)"),
)
def vendor_keys(document: Document) -> Iterator[Span]:
    """Keys of some thirty makers, and JSON web tokens (RFC 7519) whose header can be read."""
    text = document.text
    for maker, parts, pattern in _PATTERNS:
        if not any(part in text for part in parts):
            continue
        for match in pattern.finditer(text):
            key = match[0]
            body = key[8:] if len(key) > 24 else key[4:]
            if placeholder(body) or placeholder(key) or entropy(body) < 2.5:
                continue
            if maker == "OpenAI" and not (any(c.isdigit() for c in key) and entropy(body) > 3.2):
                continue  # sk-learn-and-other-words-with-dashes
            yield document.span(
                match.start(), match.end(), "API_KEY", 0.95, f"form of a key of {maker}"
            )
    if "eyJ" in text:
        for match in _JWT.finditer(text):
            if _header(match[1]):
                yield document.span(
                    match.start(), match.end(), "JWT", 0.95, "three parts, the first a JWT header"
                )


def _header(part: str) -> bool:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and "alg" in value
