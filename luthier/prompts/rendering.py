"""A model's chat template, and text to token ids: the two things a prompt is made of."""

from __future__ import annotations

import datetime
import re
import threading
from collections.abc import Iterable
from functools import cached_property
from importlib import resources
from typing import Any

from luthier.errors import ModelError

#: Marks a place in a rendered template; `mark` fills in a number.
_MARK = "Zq7x{}x7qZ"
FIND_MARK = re.compile(r"Zq7x([0-9]+)x7qZ")
_LONGEST_RENDERING = 20_000_000
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")

#: Some templates write today's date. A prompt that changes at midnight could neither be compared
#: nor resumed nor served as it was trained, so for them it is always this day.
_TODAY = datetime.datetime(2025, 1, 1, 12)
_ASKS_DATE = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>[^'"]*)(?P=quote)\s*\)""")

#: Whether a tokenizer splits special tokens is a setting that its calls change, and one tokenizer
#: is shared by every arm that a server answers with.
_TOKENIZING = threading.Lock()


def mark(index: int) -> str:
    """Text that no template changes and that stands for the turn at `index`."""
    return _MARK.format(index)


class ChatTemplate:
    """Turns to text: the tokenizer's own chat template, else plain headings for a base model.

    Attributes:
        is_chat: whether the tokenizer has a template.
        source: the Jinja text.
        writes_date: whether it asks for today's date; `source` has a fixed one in its place.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.is_chat = bool(tokenizer.chat_template)
        own = _own_template(tokenizer) if self.is_chat else _plain_template()
        self.source = _ASKS_DATE.sub(lambda found: repr(_TODAY.strftime(found["format"])), own)
        self.writes_date = self.source != own

    @cached_property
    def takes_system(self) -> bool:
        """Whether a system turn's content shows up in what it renders."""
        probe = [{"role": "system", "content": mark(0)}, {"role": "user", "content": "?"}]
        try:
            return mark(0) in self.render(probe, generating=True)
        except ModelError:
            return False

    def render(self, messages: list[dict[str, str]], *, generating: bool) -> str:
        """The text of the turns. transformers renders in an immutable sandbox.

        Args:
            messages: role and content of each turn.
            generating: whether the text ends where the model's answer begins.

        Raises:
            ModelError: the template refuses these turns.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=generating,
                chat_template=self.source,
            )
        except Exception as error:  # whatever a template's own code raises
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(
                f"The model's chat template refuses the turns {roles}: {error}."
            ) from None
        if len(text) > _LONGEST_RENDERING:
            raise ModelError("The model's chat template renders more than 20 MB of text.")
        return str(text)


class TextIds:
    """Text to token ids, with role tokens read as tokens (a template's text) or as text (ours).

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_vocab()
        # single characters and runs of white space are added for compression, not as roles
        roles = [token for token in added if len(token) > 1 and not token.isspace()]
        self._roles = sorted(roles, key=len, reverse=True)
        self._role_ids = frozenset(int(added[token]) for token in roles)
        self._find_role = re.compile("|".join(map(re.escape, self._roles))) if roles else None
        self.added_ids = frozenset(int(i) for i in added.values())

    def holds_role(self, text: str) -> bool:
        """Whether the text spells a role token."""
        return self._find_role is not None and self._find_role.search(text) is not None

    def of_template(self, text: str) -> list[int]:
        """Ids of what a template wrote: role tokens become their ids."""
        return self._encode(text, split=False)

    def of_text(self, text: str) -> list[int]:
        """Ids of what a person or a model wrote: a spelt role token stays text."""
        ids = self._encode(text, split=True)
        if self._role_ids.isdisjoint(ids) or self._find_role is None:
            return ids
        # added tokens that are not flagged special are found all the same: cut them in two
        cuts = [match.start() + 1 for match in self._find_role.finditer(text)]
        parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        return _joined(self._encode(part, split=True) for part in parts)

    def _encode(self, text: str, *, split: bool) -> list[int]:
        if not text:
            return []
        with _TOKENIZING:
            ids = self._tokenizer(
                # JSON can spell half a character, which no tokenizer takes
                _LONE_SURROGATES.sub("\ufffd", text),
                add_special_tokens=False,
                split_special_tokens=split,
                verbose=False,
            )["input_ids"]
        return [int(i) for i in ids]


def _joined(lists: Iterable[list[int]]) -> list[int]:
    return [i for ids in lists for i in ids]


def _own_template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several named templates: the unnamed one is "default"
        template = template.get("default") or next(iter(template.values()))
    return str(template)


def _plain_template() -> str:
    folder = resources.files("luthier.prompts") / "chat_templates"
    return (folder / "plain.jinja").read_text(encoding="utf-8")
