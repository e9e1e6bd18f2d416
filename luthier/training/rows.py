"""Examples to training rows, none of them too long and none cut in silence."""

from __future__ import annotations

from collections.abc import Sequence

from luthier.data.examples import Conversation, Example, Message
from luthier.errors import InputError
from luthier.prompts.prompt import Prompt, Taught
from luthier.training.config import TrainingConfig


def teach_all(
    prompt: Prompt,
    examples: Sequence[Example],
    config: TrainingConfig,
    kept: list[int] | None = None,
) -> tuple[list[Taught], list[str]]:
    """Render every example for training; rows that are too long are named, never cut in silence.

    Args:
        prompt: how the model is asked.
        examples: to be learned.
        config: says what to do with rows that are too long.
        kept: gets the index of the example of each conversation.

    Returns:
        (conversations in the order of the examples, notes on what was dropped or cut).

    Raises:
        InputError: rows are longer than `max_tokens` and the task does not say what to do; rows
            have weights of 0 and so nothing to learn; or a weight on a turn that is not trained.
    """
    _check_weights(examples, config)
    taught, overlong = [], []
    for index, example in enumerate(examples):
        built = _taught(prompt, example, config)
        if len(built.ids) > config.max_tokens:
            overlong.append(f"{example.source} ({len(built.ids)} tokens)")
            if config.overlong == "drop":
                continue
            if config.overlong == "cut":
                room = config.max_tokens - len(prompt.answer_ids(example.output))
                short = cut_to_fit(prompt, example.messages, room)
                built = _taught(prompt, example, config, short)
        taught.append(built)
        if kept is not None:
            kept.append(index)
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


def teach_validation(
    prompt: Prompt, examples: Sequence[Example], config: TrainingConfig
) -> tuple[list[Taught], list[str]]:
    """Render the examples that are only looked at; none where nothing asks for them.

    Returns:
        (conversations, notes on those left out because they are too long to be trained on).

    Raises:
        InputError: training is to stop by them, and there are none.
    """
    if config.patience is None and config.evaluate_every is None and config.wise_ft != "auto":
        return [], []
    every = [_taught(prompt, example, config) for example in examples]
    taught = [one for one in every if len(one.ids) <= config.max_tokens and one.trained_tokens]
    if not taught:
        raise InputError(
            "training.patience, training.evaluate_every and training.wise_ft: auto need "
            "validation rows, and there are none that fit.",
            fix="Give data.validation, or leave these keys out.",
        )
    left_out = len(every) - len(taught)
    if not left_out:
        return taught, []
    return taught, [
        f"{left_out} of {len(every)} validation examples are longer than {config.max_tokens} "
        "tokens or have nothing to learn; the validation loss is that of the others."
    ]


def _taught(
    prompt: Prompt, example: Example, config: TrainingConfig, short: Conversation | None = None
) -> Taught:
    conversation = example.messages if short is None else short
    return prompt.teach(conversation, example.output, loss_on=config.loss_on, weight=example.weight)


def _check_weights(examples: Sequence[Example], config: TrainingConfig) -> None:
    """Refuse weights that would be passed over, and rows that teach nothing."""
    only_answers = config.loss_on == "completion"
    for example in examples:
        weighed = [turn for turn in example.messages if turn.weight]
        if only_answers and weighed:
            raise InputError(
                f"{example.source}: an earlier turn of the assistant has a weight, and "
                "`training.loss_on: completion` trains the last one alone.",
                fix="Set training.loss_on: assistant, which trains every turn of the assistant.",
            )
    if config.loss_on == "all":
        return

    def nothing(example: Example) -> bool:
        turns = [turn for turn in example.messages if turn.role == "assistant" and turn.content]
        weights = [] if only_answers else [turn.weight for turn in turns]
        return example.weight == 0 and all(weight == 0 for weight in weights)

    empty = [example.source for example in examples if nothing(example)]
    if empty:
        named = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
        raise InputError(
            f"{len(empty)} training examples have no trained token, because the weights of all "
            f"that would be trained are 0: {named}.",
            fix="Leave these rows out, or give a turn of the assistant a weight above 0.",
        )


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
