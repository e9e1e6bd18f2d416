"""Replay: rows of something else among the training examples, so that it is not forgotten.

Three sources: the training rows of an earlier task (or any rows of instruction and answer); a small
set of general prompts with answers, written for this project; and the same prompts answered by the
model itself before it is tuned, sampled from its own distribution (Marek et al. 2026, "Forgetting
in Language Models: Capacity, Optimization, and Self-Generated Replay", arXiv 2605.26097), which
needs no data that the model was once trained on.

With a ratio r and n examples of the task, k = round(n r / (1 - r)) rows are added, so that the
share of replayed rows among all n + k is r. They are drawn without replacement while there are
enough, and again, in another order, when there are not. Sampled answers differ each time.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from luthier.data.examples import Conversation, Example, Message, content_hash
from luthier.data.mixtures import carrying
from luthier.data.prepare import prepare
from luthier.data.reading import read_rows
from luthier.data.recipes import make_examples
from luthier.errors import InputError
from luthier.files import hash_of, read_json, write_json
from luthier.task import Task
from luthier.task_sections import Data
from luthier.task_training import Replay

if TYPE_CHECKING:
    from luthier.generation.local import Generator
    from luthier.progress import Reporter
    from luthier.prompts.prompt import Prompt

GENERAL = "general"
SELF = "self"
#: The name of replayed rows where losses are told apart by task.
NAME = "replay"
#: Longest answer that the model writes for itself.
_NEW_TOKENS = 128


@dataclass(frozen=True)
class Replayed:
    """Rows to mix in, and what is to be said of them."""

    examples: tuple[Example, ...]
    notes: tuple[str, ...]


def rows_wanted(ratio: float, examples: int) -> int:
    """k with k / (examples + k) nearest to the ratio; at least 1."""
    return max(1, round(examples * ratio / (1 - ratio)))


def general_rows() -> tuple[Example, ...]:
    """The prompts and answers that come with the project."""
    text = (resources.files("luthier.training.remedies") / "general.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line]
    return tuple(
        Example(
            f"general-{number}",
            (Message("user", row["instruction"]),),
            row["output"],
            source=f"general prompt {number}",
        )
        for number, row in enumerate(rows, 1)
    )


def source_rows(source: str, base: Path) -> tuple[Example, ...]:
    """All rows of a source, each with its own instruction as its system turn.

    Args:
        source: "general", "self" (the prompts; their answers are not used), a task file or its
            folder (its training rows), or rows with `messages` or with `instruction` and `output`.
        base: where a relative path starts.

    Raises:
        InputError: the source is missing or cannot be read. The message names the key.
    """
    if source in (GENERAL, SELF):
        return tuple(carrying(example, "") for example in general_rows())
    path = base / Path(source).expanduser()
    try:
        if path.suffix in (".yaml", ".yml") or (path / "task.yaml").is_file():
            task = Task.load(path)
            return tuple(carrying(e, task.instruction) for e in prepare(task).splits.train)
        rows = read_rows(source, base)
        how = {"messages": "messages"} if "messages" in rows[0].values else {"template": "alpaca"}
        return tuple(carrying(e, "") for e in make_examples(rows, Data(train=source, **how)))
    except InputError as error:
        raise InputError(f"`training.replay.from`: {error.message}", fix=error.fix) from None


def choose(rows: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """`count` rows: every one of them before any comes again; a repeat gets an id of its own."""
    chosen: list[Example] = []
    turn = 0
    while len(chosen) < count:
        order = list(range(len(rows)))
        random.Random(f"replay-{seed}-{turn}").shuffle(order)
        for row in order[: count - len(chosen)]:
            again = f"-{turn + 1}" if turn else ""
            chosen.append(replace(rows[row], id=f"{rows[row].id}{again}"))
        turn += 1
    return tuple(chosen)


def replayed(
    wish: Replay,
    *,
    examples: int,
    base: Path | None,
    seed: int,
    prompt: Prompt,
    generator: Callable[[], Generator],
    memory: Path,
    reporter: Reporter,
) -> Replayed:
    """The rows to add to `examples` training examples.

    Args:
        wish: source and ratio.
        examples: how many there are of the task.
        base: where a relative path starts.
        seed: of the choice and of what is sampled.
        prompt: how the model is asked.
        generator: the model before it is tuned; called for "self" only.
        memory: where the model's own answers are kept, so that an interrupted stage goes on with
            the same ones.
        reporter: hears of the progress.

    Raises:
        InputError: the source cannot be used.
    """
    rows = source_rows(wish.source, base or Path())
    count = rows_wanted(wish.ratio, examples)
    chosen = choose(rows, count, seed)
    note = (
        f"{count} rows of {_shown(wish.source)} are replayed, {count / (count + examples):.0%} of "
        "all examples"
    )
    if count > len(rows):
        note += f"; there are {len(rows)}, so they come {count / len(rows):.1f} times"
    if wish.source != SELF:
        return Replayed(chosen, (f"{note}.",))
    answered = _answered(chosen, seed, prompt, generator, memory, reporter)
    empty = len(chosen) - len(answered)
    if empty:
        note += f"; {empty} empty answers were left out"
    return Replayed(answered, (f"{note}.",))


def _answered(
    rows: Sequence[Example],
    seed: int,
    prompt: Prompt,
    generator: Callable[[], Generator],
    memory: Path,
    reporter: Reporter,
) -> tuple[Example, ...]:
    """The rows with answers that the model samples at temperature 1, so from its own distribution.

    A row that comes again is answered anew. Answers that were cut off for their length are kept up
    to the last whole sentence: a stop there would teach the model to break off.
    """
    from luthier.generation.options import Sampling, Stopping

    identity = hash_of([prompt.hash, seed, _NEW_TOKENS, content_hash(rows)])
    if memory.is_file():
        try:
            held = read_json(memory)
            if held["identity"] == identity:
                return _with_answers(rows, held["answers"])
        except (InputError, KeyError, TypeError):
            pass  # damaged: sample anew
    stopping = Stopping(prompt.stop_ids, prompt.stop_strings, _NEW_TOKENS)
    writer = generator()
    turns: dict[int, list[int]] = defaultdict(list)
    seen: Counter[Conversation] = Counter()
    for place, row in enumerate(rows):
        seen[row.messages] += 1
        turns[seen[row.messages]].append(place)
    written: dict[int, str] = {}
    with reporter.work("the model answers what will be replayed", len(rows)) as bar:
        for turn, places in turns.items():
            answers = writer.generate(
                [prompt.ask(rows[place].messages) for place in places],
                stopping,
                Sampling(temperature=1.0, seed=seed + turn),
                bar.advance,
            )
            for place, answer in zip(places, answers, strict=True):
                whole = answer.finish_reason == "stop"
                written[place] = answer.text if whole else _whole_sentences(answer.text)
    texts = [written[place] for place in range(len(rows))]
    write_json(memory, {"identity": identity, "answers": texts})
    return _with_answers(rows, texts)


def _with_answers(rows: Sequence[Example], answers: Sequence[str]) -> tuple[Example, ...]:
    return tuple(
        replace(row, output=answer, source=f"{row.source}, answered by the model")
        for row, answer in zip(rows, answers, strict=True)
        if answer.strip()
    )


def _whole_sentences(text: str) -> str:
    end = max(text.rfind(mark) for mark in ".!?\n")
    return text[: end + 1].strip()


def _shown(source: str) -> str:
    return {GENERAL: "the general prompts", SELF: "the model's own answers"}.get(source, source)
