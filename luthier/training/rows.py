"""Examples to training rows, none of them too long and none cut in silence."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.data.examples import Conversation, Example, Message
from luthier.errors import InputError
from luthier.prompts.prompt import Prompt, Taught
from luthier.training.config import TrainingConfig


def teach_all(
    prompt: Prompt, examples: Sequence[Example], config: TrainingConfig
) -> tuple[list[Taught], list[str]]:
    """Render every example for training; rows that are too long are named, never cut in silence.

    Returns:
        (conversations in the order of the examples, notes on what was dropped or cut).

    Raises:
        InputError: rows are longer than `max_tokens` and the task does not say what to do.
    """
    taught, overlong = [], []
    for example in examples:
        built = prompt.teach(example.messages, example.output, loss_on=config.loss_on)
        if len(built.ids) > config.max_tokens:
            overlong.append(f"{example.source} ({len(built.ids)} tokens)")
            if config.overlong == "drop":
                continue
            if config.overlong == "cut":
                room = config.max_tokens - len(prompt.answer_ids(example.output))
                short = cut_to_fit(prompt, example.messages, room)
                built = prompt.teach(short, example.output, loss_on=config.loss_on)
        taught.append(built)
    if not overlong:
        return taught, []
    named = ", ".join(overlong[:5]) + (" ..." if len(overlong) > 5 else "")
    if config.overlong == "error":
        raise InputError(
            f"{len(overlong)} training examples are longer than {config.max_tokens} tokens: "
            f"{named}.",
            fix="Set training.overlong to drop or cut, or raise training.max_tokens.",
        )
    done = "left out" if config.overlong == "drop" else "cut at the start of the question"
    if not taught:
        raise InputError(f"All training examples are longer than {config.max_tokens} tokens.")
    return taught, [
        f"{len(overlong)} training examples longer than {config.max_tokens} tokens were {done}: "
        f"{named}."
    ]


def cut_to_fit(prompt: Prompt, conversation: Conversation, tokens: int) -> Conversation:
    """The conversation with the start of its last turn taken off until it fits.

    Raises:
        InputError: the instruction and earlier turns alone do not fit.
    """
    *before, last = conversation

    def kept(characters: int) -> Conversation:
        text = last.content[len(last.content) - characters :]
        return (*before, Message(last.role, text))

    if len(prompt.ask(kept(0))) > tokens:
        raise InputError(
            f"The instruction and the earlier turns alone are longer than {tokens} tokens.",
            fix="Shorten the instruction, or use a model with a longer context.",
        )
    low, high = 0, len(last.content)
    while low < high:  # more text never makes fewer tokens by more than a merge: bisection serves
        middle = (low + high + 1) // 2
        if len(prompt.ask(kept(middle))) <= tokens:
            low = middle
        else:
            high = middle - 1
    return kept(low)
