"""Other ways to word a task's instruction, to be tried against each other.

Three sources: rules that add what the training examples show (the labels, the form of an answer,
words that are typical of a label); a language model that rewrites the instruction, or guesses it
from examples (automatic prompt engineer, Zhou et al. 2023, arXiv 2211.01910); and the user.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from luthier.data.examples import Example
from luthier.data.folding import fold

#: Labels that are listed at most, and labels that typical words are given for.
_MOST_LABELS, _MOST_HINTED = 60, 30
#: Words given for a label.
_WORDS = 6
#: A label's words are learned from so many of its examples at least.
_FEWEST = 3
#: Answers up to so many words have their length said.
_SHORT = 40
#: Characters of a rewritten instruction, and of one example that a model is shown.
_LONGEST, _SHOWN = 1200, 300
#: Examples that an instruction is guessed from.
_GUESSED_FROM = 5


@dataclass(frozen=True)
class Wording:
    """One instruction.

    Attributes:
        name: what it is called in tables.
        text: empty for no instruction at all.
    """

    name: str
    text: str


def by_rule(
    instruction: str, train: Sequence[Example], labels: Sequence[str] | None, *, goal: str = ""
) -> list[Wording]:
    """The instruction itself, and what rules make of it and of the training examples.

    Args:
        instruction: the task's; may be empty.
        train: examples that may be learned from.
        labels: of a classification, else None.
        goal: what the task is for, in a sentence.

    Returns:
        Wordings of different texts, the instruction itself first.
    """
    form = _labels_said(instruction, labels) if labels else _form_of_answers(train)
    found = [Wording("the task's own", instruction)]
    if form:
        found.append(Wording("with the form of the answer", _joined(instruction, form)))
        found.append(Wording("the form of the answer alone", form))
    if goal and goal not in instruction:
        found.append(Wording("with the goal", _joined(goal, instruction)))
    role = "You are a careful annotator." if labels else "You are a careful expert."
    found.append(Wording("as an expert", _joined(f"{role} {instruction}".strip(), form)))
    if labels and (hints := _typical_words(train, labels)):
        listed = "\n".join(f"- {label}: {', '.join(words)}" for label, words in hints)
        said = f"Words that are typical of each label:\n{listed}"
        found.append(Wording("with words typical of each label", _joined(instruction, said, form)))
    found.append(Wording("no instruction", ""))
    return distinct(found)


def by_model(
    instruction: str,
    train: Sequence[Example],
    write: Callable[[list[str]], list[str]],
    *,
    count: int,
    seed: int,
) -> list[Wording]:
    """Instructions that a model writes: half of them rewritten, half guessed from examples.

    Args:
        instruction: the task's; where it is empty, all are guessed.
        train: examples that it may see.
        write: answers each request with a text.
        count: of requests.
        seed: draws the examples.

    Returns:
        At most `count` wordings; replies that are empty, too long, or hold an example are left out.
    """
    draws = random.Random(f"wordings-{seed}")
    requests, names = [], []
    shown = [e for e in train if e.input and len(e.input) <= _SHOWN and len(e.output) <= _SHOWN]
    for number in range(count):
        few = draws.sample(shown, min(_GUESSED_FROM, len(shown)))
        pairs = "\n\n".join(f"Input: {e.input}\nOutput: {e.output}" for e in few)
        if instruction and (number % 2 == 0 or not few):
            asked = (
                "Rewrite this instruction for an assistant so that it is clearer and easier to "
                "follow. Keep its meaning, and keep every label or field name as it is. Reply "
                f"with the new instruction only.\n\nInstruction:\n{instruction}"
            )
            if few:
                asked += f"\n\nExamples of what it is for:\n\n{pairs}"
            names.append("rewritten")
        elif few:
            asked = (
                "Somebody was given one instruction and turned each input into its output.\n\n"
                f"{pairs}\n\nWrite the instruction, in one to three sentences. Reply with the "
                "instruction only."
            )
            names.append("guessed from examples")
        else:
            break
        requests.append(asked)
    found = []
    # up to case, spacing and punctuation; a few short words stand in any instruction
    held = [text for e in train if len(text := fold(e.input)) > 20]
    for number, (name, reply) in enumerate(zip(names, write(requests), strict=True)):
        text = clean(reply)
        if text and not any(inside in fold(text) for inside in held):
            found.append(Wording(f"{name} by a model, {number + 1}", text))
    return distinct(found)


#: What may stand before an instruction that a model wrote: "**New instruction**", "Sure! Here is
#: the rewritten instruction:". A word of the first kind without a colon only by itself in its line.
_ADJECTIVES = r"(?:(?:new|rewritten|revised|improved|updated|final|clearer|better|simplified)\s+)*"
_NOUN = r"(?:instructions?|prompt|version)"
_HEADING = re.compile(
    rf"[#*_\s]*(?:the\s+)?(?:{_ADJECTIVES}{_NOUN}|rewritten|revised|task)[*_ ]*"
    r"(?:(?::|\s[-\u2013\u2014]\s)[*_]*\s*|\n\s*|$)",
    re.I,
)
_ANNOUNCED = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|yes)(?:\s+thing)?[,.!:]?\s+)?"
    rf"(?:here(?:'s|\u2019s|\s+is|\s+are)\b[^\n:.]{{0,60}}?\b(?P<noun>{_NOUN}|versions)\b[^\n:.]{{0,60}}"
    rf"|the\s+{_ADJECTIVES}{_NOUN}\s+(?:is|would be|could be))\s*:[*_]*\s*",
    re.I,
)
#: What may follow it, at the start of a line or of a paragraph.
_EXAMPLES = re.compile(r"\n\s*(?:Input|Output|Examples?)\b[^\n]*:")
_REMARKS = re.compile(
    r"\n\s*\n\s*[*_(]*(?:(?:Note|Explanation|Changes)\b[^\n]*:|Let me know\b|I hope\b"
    r"|This\s+(?:\w+\s+)?(?:instruction|version|rewrite|prompt)\b)",
    re.I,
)
_ITEM = re.compile(r"^[ \t]*(?:\d{1,2}[.)]|[-*\u2022>])[ \t]+", re.M)
_FENCE = re.compile(r"```\w*[ \t]*\n(.*?)\n?[ \t]*```", re.S)
_WRAPPED = (
    ('"', '"'),
    ("'", "'"),
    ("\u201c", "\u201d"),
    ("\u00ab", "\u00bb"),
    ("`", "`"),
    ("**", "**"),
)


def clean(reply: str) -> str:
    """The instruction in a model's reply: without headings, announcements, quotes and what follows
    it; the first of several that are announced as such; empty where none is left, or one that is
    too long to be one.

    Steps stay a list, and cleaning twice changes nothing.
    """
    text, before = reply.strip(), None
    while text != before:  # each step only shortens it
        before = text
        for behind in (_EXAMPLES, _REMARKS):
            text = behind.split(text)[0].strip()
        # what is around all of it first: "**Instruction: Name it.**" is no heading in bold type
        inside = _unwrapped(text)
        text = (inside if inside != text else _without_heading(text)).strip()
    return text if 3 <= len(text) <= _LONGEST else ""


def _without_heading(text: str) -> str:
    """Without what stands before it."""
    if found := _ANNOUNCED.match(text):
        text = text[found.end() :].strip()
        if (found["noun"] or "").lower() in ("instructions", "versions"):
            text = _first_item(text)
    return text[found.end() :] if (found := _HEADING.match(text)) else text


def _first_item(text: str) -> str:
    items = list(_ITEM.finditer(text))
    return text[: items[1].start()] if len(items) > 1 and items[0].start() == 0 else text


def _unwrapped(text: str) -> str:
    """Without quotes, a code block, bold type or the mark of a list of one around all of it."""
    if found := _FENCE.fullmatch(text):
        return found[1]
    for left, right in _WRAPPED:
        inside = text[len(left) : len(text) - len(right)]
        whole = text.startswith(left) and text.endswith(right) and inside
        # `"yes" or "no"` is not in quotes
        if whole and left not in inside and right not in inside:
            return inside
    if len(_ITEM.findall(text)) == 1 and (found := _ITEM.match(text)):
        return text[found.end() :]
    return text


def distinct(wordings: Sequence[Wording]) -> list[Wording]:
    """The first of each text."""
    found: dict[str, Wording] = {}
    for one in wordings:
        found.setdefault(one.text.strip(), one)
    return list(found.values())


def _labels_said(instruction: str, labels: Sequence[str]) -> str:
    # whole words, the longest first: "no" does not stand in "annotate", nor "red" in "dark red"
    left, listed = instruction.lower(), True
    for label in sorted(labels, key=len, reverse=True):
        left, found = re.subn(rf"(?<!\w){re.escape(label.lower())}(?!\w)", "\0", left)
        listed &= bool(found)
    if listed:
        return "Reply with the label only."
    if len(labels) > _MOST_LABELS:
        return ""
    return f"Reply with exactly one of these labels and nothing else: {', '.join(labels)}."


def _form_of_answers(train: Sequence[Example]) -> str:
    """What all training answers have in common, as a request; empty where that is nothing."""
    answers = [e.output for e in train]
    if not answers:
        return ""
    if keys := _json_keys(answers):
        return f"Reply with one JSON object with the keys {', '.join(keys)}, and nothing else."
    lengths = sorted(len(answer.split()) for answer in answers)
    most = lengths[int(0.95 * (len(lengths) - 1))]
    if most <= 1:
        return "Reply with one word."
    if most <= _SHORT:
        return f"Reply with at most {most} words, and nothing else."
    return ""


def _json_keys(answers: Sequence[str]) -> list[str]:
    """The keys of answers that are JSON objects, those that half of them have; [] for others."""
    counted: Counter[str] = Counter()
    for answer in answers:
        try:
            read = json.loads(answer)
        except (ValueError, RecursionError):
            return []
        if not isinstance(read, dict):
            return []
        counted.update(map(str, read))
    return [key for key, times in counted.items() if 2 * times >= len(answers)]


def _typical_words(
    train: Sequence[Example], labels: Sequence[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """For each label the words whose log odds against the other labels are highest.

    Monroe et al. 2008, "Fightin' Words": the difference of log odds with a Dirichlet prior (here
    of all texts' words, each counted a half), divided by its standard deviation.
    """
    if len(labels) > _MOST_HINTED:
        return []
    counts = {label: Counter[str]() for label in labels}
    rows = Counter(e.output for e in train)
    for example in train:
        if example.output in counts:
            counts[example.output].update(dict.fromkeys(_words(example.input), 1))
    total: Counter[str] = Counter()
    for counted in counts.values():
        total.update(counted)
    found = []
    for label in labels:
        if rows[label] < _FEWEST:
            continue
        words = tuple(islice(_above_chance(counts[label], total), _WORDS))
        if words:
            found.append((label, words))
    return found if 2 * len(found) >= len(labels) else []


def _above_chance(own: Counter[str], total: Counter[str]) -> Iterator[str]:
    """Words of a label by their z, those that stand in two of its texts and have z above 1."""
    if len(total) < 2:  # a single word tells nothing apart
        return
    mine, all_words = sum(own.values()), sum(total.values())
    scores = []
    for word, times in own.items():
        if times < 2:
            continue
        prior = total[word] / 2
        weight = all_words / 2
        here = math.log((times + prior) / (mine + weight - times - prior))
        others = total[word] - times
        there = math.log((others + prior) / (all_words - mine + weight - others - prior))
        z = (here - there) / math.sqrt(1 / (times + prior) + 1 / (others + prior))
        if z > 1:
            scores.append((-z, word))
    yield from (word for _, word in sorted(scores))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{3,}", text.lower())


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
