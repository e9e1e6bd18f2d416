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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from luthier.data.examples import Conversation, Message
from luthier.errors import ModelError
from luthier.files import hash_of
from luthier.prompts.rendering import FIND_MARK, ChatTemplate, TextIds, mark

_PLAIN_STOP = "\n### "


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
        weights: for each id what its loss counts, length n, 0 where it is not trained; None where
            that is 1 for all that are.
    """

    ids: list[int]
    trained: list[bool]
    weights: list[float] | None = None

    @property
    def trained_tokens(self) -> int:
        """How many ids carry loss."""
        return sum(self.trained)


@dataclass(frozen=True)
class _Written:
    """An assistant's turn in front of the answer: one of a shot that is shown, or of the
    conversation itself, with its weight."""

    shown: bool
    weight: float | None = None


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
        self._template = ChatTemplate(tokenizer)
        self._ids = TextIds(tokenizer)
        self.is_chat = self._template.is_chat
        if instruction and not self._template.takes_system:
            self.notes.append(
                "The model's chat template takes no system turn; the instruction is put before "
                "the first question."
            )
        if self._template.writes_date:
            self.notes.append(
                "The model's chat template writes today's date; it is always given the same one, "
                "so that the prompt stays the one that was tested."
            )
        if not self.is_chat:
            self.notes.append("A base model without a chat template: plain headings are used.")

    def with_shots(self, shots: Sequence[Shot]) -> Prompt:
        """The same prompt with other examples."""
        return Prompt(
            self.tokenizer, instruction=self.instruction, shots=shots, stop_ids=self._more_stops
        )

    def with_instruction(self, instruction: str) -> Prompt:
        """The same prompt with another instruction."""
        return Prompt(
            self.tokenizer, instruction=instruction, shots=self.shots, stop_ids=self._more_stops
        )

    # ---- what the model reads and what it is to write ------------------------------------------

    def ask(self, conversation: Conversation) -> list[int]:
        """Token ids up to the point where the model answers.

        A system message at the start of the conversation takes the place of the instruction.
        """
        return [i for ids, _ in self._pieces(conversation) for i in ids]

    def answer_ids(self, text: str) -> list[int]:
        """The ids of an answer, the closing stop token included."""
        return self._ids.of_text(text.strip()) + self.closing_ids

    def teach(
        self,
        conversation: Conversation,
        answer: str,
        *,
        loss_on: str,
        weight: float | None = None,
    ) -> Taught:
        """Ids and mask of a conversation that ends in `answer`.

        Args:
            conversation: turns before the answer; the `weight` of an assistant's turn scales the
                loss of its tokens and of what closes it.
            answer: what the model is to write.
            loss_on: "completion" trains the answer alone; "assistant" trains every assistant turn
                of the conversation as well; "all" trains every token. Examples shown in the prompt
                are trained with "all" only.
            weight: of the answer; 1 when None.
        """
        elsewhere = 1.0 if loss_on == "all" else 0.0
        own = 0.0 if loss_on == "completion" else 1.0
        ids: list[int] = []
        weights: list[float] = []
        before: float | None = None  # the weight of the turn that the next piece closes
        for piece, turn in self._pieces(conversation):
            if turn is not None:
                before = elsewhere if turn.shown else own
                if turn.weight is not None and not turn.shown:
                    before *= turn.weight
                weights += [before] * len(piece)
            else:
                # the start of what follows an answer is what closes it
                closing = self._closing_of(piece) if before is not None else 0
                weights += [before or 0.0] * closing + [elsewhere] * (len(piece) - closing)
                before = None
            ids += piece
        written = self.answer_ids(answer)
        ids += written
        weights += [1.0 if weight is None else float(weight)] * len(written)
        plain = set(weights) <= {0.0, 1.0}
        return Taught(ids, [one > 0 for one in weights], None if plain else weights)

    def read(self, ids: Sequence[int]) -> str:
        """The text of ids the model wrote: without special tokens and surrounding white space."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    # ---- stopping ------------------------------------------------------------------------------

    @cached_property
    def closing_ids(self) -> list[int]:
        """What is written after an answer, up to and including the stop token."""
        messages = [
            *self._opening(self.instruction),
            *_asked("?"),
            {"role": "assistant", "content": mark(0)},
        ]
        after = self._template.render(messages, generating=False).split(mark(0))[-1]
        ids = self._ids.of_template(after)
        for position, token in enumerate(ids):
            if token in self._ids.added_ids and not self._is_space(token):
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
                "template": self._template.source,
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
            ModelError: the tokenizer or the chat template changed since it was stored, or
                something is missing.
        """
        try:
            shots = [Shot(s["input"], s["output"]) for s in stored["shots"]]
            instruction, wanted = stored["instruction"], stored["hash"]
        except (KeyError, TypeError) as error:
            raise ModelError(f"The stored prompt is not whole: {error!r} is missing.") from None
        prompt = cls(tokenizer, instruction=instruction, shots=shots, stop_ids=stop_ids)
        if prompt.hash != wanted:
            raise ModelError(
                "The model's tokenizer or chat template is not the one this was made with, so its "
                "answers could not be trusted.",
                fix="Use the model version named in manifest.json, or run the task again.",
            )
        return prompt

    # ---- inside --------------------------------------------------------------------------------

    def _opening(self, instruction: str) -> list[dict[str, str]]:
        if not instruction or not self._template.takes_system:
            return []
        return [{"role": "system", "content": instruction}]

    def _pieces(self, conversation: Conversation) -> list[tuple[list[int], _Written | None]]:
        """Token ids of the rendered conversation, cut at its assistant turns.

        Returns:
            (ids, turn) pairs: turn is None for text the template and the user wrote.
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
        weights: list[float | None] = [None] * len(messages)
        weights += [turn.weight for turn in turns]
        messages += [{"role": turn.role, "content": turn.content} for turn in turns]
        if instruction and messages and not self._template.takes_system:
            messages[0] = {**messages[0], "content": f"{instruction}\n\n{messages[0]['content']}"}

        kept: dict[int, tuple[str, _Written | None]] = {}
        for index, message in enumerate(messages):
            content = message["content"]
            if message["role"] == "assistant":
                kept[index] = (content.strip(), _Written(index < own_from, weights[index]))
            elif self._ids.holds_role(content) or FIND_MARK.search(content):
                kept[index] = (content, None)  # a role token inside text must stay text
            else:
                continue
            messages[index] = {**message, "content": mark(index)}

        pieces: list[tuple[list[int], _Written | None]] = []
        parts = FIND_MARK.split(self._template.render(messages, generating=True))
        for position, part in enumerate(parts):
            if position % 2 == 0:
                ids = self._ids.of_template(part)
                pieces.append((self._with_bos(ids) if position == 0 else ids, None))
            else:
                text, turn = kept[int(part)]
                pieces.append((self._ids.of_text(text), turn))
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

    def _is_space(self, token: int) -> bool:
        return not str(self.tokenizer.decode([token])).strip()


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
