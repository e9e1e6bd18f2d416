"""Messages to token ids and a loss mask, built together, in the one place that all uses share.

Training on a prompt that differs from the one used later is the most expensive silent mistake in
fine-tuning. So there is one `Prompt`: training, evaluation, serving and export ask it for ids, and
its hash is stored with what was trained.

How tokens and mask are kept from disagreeing: the conversation is rendered by the model's own chat
template with a marker in place of every assistant turn; the text is cut at the markers; each piece
is tokenised by itself. The ids of what the model reads and of what it must write are therefore
separate lists from the start, and reading a conversation up to an answer always gives a prefix of
the ids of the conversation with that answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import Any

from luthier.data.examples import Conversation, Message
from luthier.errors import ModelError
from luthier.files import hash_of

#: No text a person writes holds this; it marks a place in a rendered template.
_MARK = "Zq7x{}x7qZ"
_FIND_MARK = re.compile(r"Zq7x(\d+)x7qZ")
_PLAIN_STOP = "\n### "
_LONGEST_RENDERING = 20_000_000


@dataclass(frozen=True)
class Shot:
    """One worked example inside a prompt."""

    input: str
    output: str


@dataclass(frozen=True)
class Taught:
    """A conversation with its answer, ready for training.

    Attributes:
        ids: token ids, length n.
        trained: for each id, whether the model is trained to write it, length n. The stop token
            that ends an answer is trained; padding never enters here.
    """

    ids: list[int]
    trained: list[bool]

    @property
    def trained_tokens(self) -> int:
        """How many ids carry loss."""
        return sum(self.trained)


class Prompt:
    """How one task is put to one model.

    Args:
        tokenizer: a Hugging Face tokenizer.
        instruction: the system message; left out when empty.
        shots: worked examples put before every question, as earlier turns.
        stop_ids: further ids at which the model ends (its generation config's).

    Attributes:
        notes: what had to be done differently from the plain case, for the report.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        instruction: str = "",
        shots: Sequence[Shot] = (),
        stop_ids: Sequence[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.instruction = instruction
        self.shots = tuple(shots)
        self._more_stops = tuple(stop_ids)
        self.notes: list[str] = []
        self.is_chat = bool(tokenizer.chat_template)
        self._template: str = _chat_template(tokenizer) if self.is_chat else _plain_template()
        self._special = sorted(
            {t for t in tokenizer.get_added_vocab() if len(t) > 1 and not t.isspace()},
            key=len,
            reverse=True,
        )
        self._folds_system = bool(instruction) and not self._takes_system()
        if self._folds_system:
            self.notes.append(
                "The model's chat template takes no system turn; the instruction is put before "
                "the first question."
            )
        if not self.is_chat:
            self.notes.append("A base model without a chat template: plain headings are used.")

    def with_shots(self, shots: Sequence[Shot]) -> Prompt:
        """The same prompt with other examples."""
        return Prompt(
            self.tokenizer, instruction=self.instruction, shots=shots, stop_ids=self._more_stops
        )

    # ---- what the model reads and what it is to write ------------------------------------------

    def ask(self, conversation: Conversation) -> list[int]:
        """Token ids up to the point where the model answers.

        A system message at the start of the conversation takes the place of the instruction.
        """
        return [i for ids, _ in self._pieces(conversation) for i in ids]

    def answer_ids(self, text: str) -> list[int]:
        """The ids of an answer, the closing stop token included."""
        return self._encode(text.strip()) + self.closing_ids

    def teach(self, conversation: Conversation, answer: str, *, loss_on: str) -> Taught:
        """Ids and mask of a conversation that ends in `answer`.

        Args:
            conversation: turns before the answer.
            answer: what the model is to write.
            loss_on: "completion" trains every assistant turn of the conversation itself and the
                answer (examples shown in the prompt are not trained); "all" trains every token.
        """
        ids: list[int] = []
        trained: list[bool] = []
        for piece, is_own_answer in self._pieces(conversation):
            if is_own_answer is None and trained and trained[-1]:
                # the start of what follows an answer is what closes it
                closing = self._closing_of(piece)
                trained += [True] * closing + [False] * (len(piece) - closing)
            else:
                trained += [bool(is_own_answer)] * len(piece)
            ids += piece
        written = self.answer_ids(answer)
        ids += written
        trained += [True] * len(written)
        return Taught(ids, [True] * len(ids) if loss_on == "all" else trained)

    def read(self, ids: Sequence[int]) -> str:
        """The text of ids the model wrote: without special tokens and surrounding white space."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    # ---- stopping ------------------------------------------------------------------------------

    @cached_property
    def closing_ids(self) -> list[int]:
        """What is written after an answer, up to and including the stop token."""
        messages = [*self._opening(), *_asked("?"), {"role": "assistant", "content": _MARK}]
        after = self._render(messages, generating=False).split(_MARK)[-1]
        ids = self._encode(after)
        stops = set(self._special_ids())
        for position, token in enumerate(ids):
            if token in stops:
                return ids[: position + 1]
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                "The tokenizer has no end-of-sequence token and its chat template ends no turn.",
                fix="Set eos_token in the model folder's tokenizer_config.json.",
            )
        return [int(self.tokenizer.eos_token_id)]

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The ids at which an answer has ended."""
        stops = {self.closing_ids[-1], *self._more_stops}
        if self.tokenizer.eos_token_id is not None:
            stops.add(int(self.tokenizer.eos_token_id))
        return frozenset(stops)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Texts at which an answer has ended, for models that know no turns."""
        return () if self.is_chat else (_PLAIN_STOP,)

    # ---- identity ------------------------------------------------------------------------------

    @cached_property
    def hash(self) -> str:
        """Names everything that decides which ids a message becomes."""
        return hash_of(
            {
                "template": self._template,
                "instruction": self.instruction,
                "shots": [[s.input, s.output] for s in self.shots],
                "closing": self.closing_ids,
                "probe": self.ask((Message("user", "Straße 12, 3½ €? नमस्ते\n\tdone"),)),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """What is stored beside a trained model."""
        return {
            "instruction": self.instruction,
            "shots": [{"input": s.input, "output": s.output} for s in self.shots],
            "hash": self.hash,
        }

    @classmethod
    def from_dict(
        cls, stored: dict[str, Any], tokenizer: Any, *, stop_ids: Sequence[int] = ()
    ) -> Prompt:
        """The prompt that was stored, rebuilt and compared with its hash.

        Raises:
            ModelError: the tokenizer or the chat template changed since it was stored.
        """
        prompt = cls(
            tokenizer,
            instruction=stored["instruction"],
            shots=[Shot(s["input"], s["output"]) for s in stored["shots"]],
            stop_ids=stop_ids,
        )
        if prompt.hash != stored["hash"]:
            raise ModelError(
                "The model's tokenizer or chat template is not the one this was made with, so its "
                "answers could not be trusted.",
                fix="Use the model version named in manifest.json, or run the task again.",
            )
        return prompt

    # ---- inside --------------------------------------------------------------------------------

    def _opening(self, instruction: str | None = None) -> list[dict[str, str]]:
        text = self.instruction if instruction is None else instruction
        return [{"role": "system", "content": text}] if text and not self._folds_system else []

    def _pieces(self, conversation: Conversation) -> list[tuple[list[int], bool | None]]:
        """Token ids of the rendered conversation, cut at its assistant turns.

        Returns:
            (ids, mark) pairs: mark is None for text the template and the user wrote, True for an
            assistant turn of the conversation itself, False for one of a shot.
        """
        if not conversation:
            raise ModelError("A conversation needs at least one turn.")
        instruction = self.instruction
        turns = list(conversation)
        if turns[0].role == "system":
            instruction = turns.pop(0).content
        messages = self._opening(instruction)
        own_from = len(messages) + 2 * len(self.shots)
        for shot in self.shots:
            messages += _asked(shot.input)
            messages.append({"role": "assistant", "content": shot.output.strip()})
        messages += [{"role": turn.role, "content": turn.content} for turn in turns]
        if self._folds_system and instruction and messages:
            messages[0] = {**messages[0], "content": f"{instruction}\n\n{messages[0]['content']}"}

        kept: dict[int, tuple[str, bool | None]] = {}
        for index, message in enumerate(messages):
            content = message["content"]
            if message["role"] == "assistant":
                kept[index] = (content.strip(), index >= own_from)
            elif any(token in content for token in self._special):
                kept[index] = (content, None)  # a role token inside text must stay text
            else:
                continue
            messages[index] = {**message, "content": _MARK.format(index)}

        pieces: list[tuple[list[int], bool | None]] = []
        parts = _FIND_MARK.split(self._render(messages, generating=True))
        for position, part in enumerate(parts):
            if position % 2 == 0:
                ids = self._encode(part, specials=True)
                if position == 0:
                    ids = self._with_bos(ids)
                pieces.append((ids, None))
            else:
                text, mark = kept.get(int(part), (_MARK.format(part), None))
                pieces.append((self._encode(text, specials=False), mark))
        return [piece for piece in pieces if piece[0]]

    def _with_bos(self, ids: list[int]) -> list[int]:
        # A chat template writes its own beginning-of-sequence token. The plain one cannot know it.
        bos = self.tokenizer.bos_token_id
        if self.is_chat or bos is None or ids[:1] == [bos] or not self._adds_bos:
            return ids
        return [int(bos), *ids]

    @cached_property
    def _adds_bos(self) -> bool:
        with_special = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        return bool(with_special) and with_special[0] == self.tokenizer.bos_token_id

    def _closing_of(self, ids: list[int]) -> int:
        """How many of the ids after an answer close it."""
        closing = self.closing_ids
        return len(closing) if ids[: len(closing)] == closing else 0

    def _special_ids(self) -> list[int]:
        return [int(i) for i in self.tokenizer.get_added_vocab().values()]

    def _encode(self, text: str, *, specials: bool = True) -> list[int]:
        if not text:
            return []
        ids = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=not specials,
            verbose=False,
        )["input_ids"]
        return [int(i) for i in ids]

    def _takes_system(self) -> bool:
        probe = [{"role": "system", "content": _MARK.format(0)}, *_asked("?")]
        try:
            return _MARK.format(0) in self._render(probe, generating=True)
        except ModelError:
            return False

    def _render(self, messages: list[dict[str, str]], *, generating: bool) -> str:
        """The template's text. transformers renders in an immutable sandbox."""
        if self.is_chat:
            extra = {"chat_template": self._template}
        else:
            extra = {"chat_template": _plain_template()}
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=generating, **extra
            )
        except Exception as error:  # whatever a template's own code raises
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(
                f"The model's chat template refuses the turns {roles}: {error}."
            ) from None
        if len(text) > _LONGEST_RENDERING:
            raise ModelError("The model's chat template renders more than 20 MB of text.")
        return str(text)


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _chat_template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if isinstance(template, dict):  # several named templates: the unnamed one is "default"
        template = template.get("default") or next(iter(template.values()))
    return str(template)


def _plain_template() -> str:
    folder = resources.files("luthier.prompts") / "chat_templates"
    return (folder / "plain.jinja").read_text(encoding="utf-8")
