"""Outputs that answer nothing: put off, acknowledged, refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.folding import fold
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

#: Kinds whose outputs say something to somebody. ("OK" is a fine translation of "d'accord".)
KINDS = frozenset({"qa", "summarization", "generation", "chat"})
#: The share of outputs above which the habit will be learned.
MANY = 0.02
#: Words above which an output that puts something off says more than that.
SHORT = 25
#: Characters within which a refusal begins.
OPENING = 100

_ACKNOWLEDGEMENTS = frozenset(
    fold(text)
    for text in re.split(
        r"\|",
        "ok|okay|k|kk|ok thanks|ok thank you|sure|sure thing|sure will do|ok will do|will do|"
        "yes will do|alright|all right|right|got it|ok got it|understood|noted|roger|done|on it|"
        "i'm on it|thanks|thank you|thx|ty|cool|great|nice|sounds good|good idea|yep|yup|"
        "no problem|np|+1|lol|haha|hm|hmm|will check|i will check|checking|i'll check|"
        "let me check|one moment|one sec|brb|later|not now|maybe later|no idea|dunno|idk",
    )
)
_I_WILL = r"\b(?:i['’]?ll|i will|i shall|we['’]?ll|we will|we shall|i['’]?m going to|let me)\b"
_WORK = (
    r"(?:work on|look (?:at|into)|get (?:back|to)|do|check|send|fix|try|see|start|finish|handle)"
)
_LATER = (
    r"\b(?:later|tomorrow|tonight|in the (?:morning|evening|afternoon)|next week|this weekend|"
    r"on monday|after (?:lunch|work|the meeting)|when i (?:get|have|am|can)|as soon as|asap|soon)\b"
)
_DEFERRAL = re.compile(
    rf"{_I_WILL}[^.?!\n]{{0,20}}\b{_WORK}\b[^?!\n]{{0,60}}{_LATER}", re.IGNORECASE
)
_GET_BACK = re.compile(
    rf"{_I_WILL}\s+(?:get back to you|look into (?:it|that|this)|let you know|work on (?:it|that))",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"as an ai (?:language )?(?:model|assistant)"
    r"|(?:i['’]?m|i am) (?:sorry|afraid),? (?:but )?(?:i|we) "
    r"(?:can(?:no|['’])?t|am (?:not able|unable))"
    r"|i (?:cannot|can['’]?t|am unable to) (?:help|assist|answer)",
    re.IGNORECASE,
)


def says_nothing(output: str) -> bool:
    """Whether an output puts off, only acknowledges, or refuses."""
    if fold(output) in _ACKNOWLEDGEMENTS:
        return True
    if _REFUSAL.search(output[:OPENING]):
        return True
    if len(output.split()) > SHORT:
        return False
    return bool(_DEFERRAL.search(output) or _GET_BACK.search(output))


@LINTS.register("deferrals")
def deferrals(context: LintContext) -> Iterator[Finding]:
    """Outputs such as "I shall work on that in the morning", "ok", "sure".

    A model trained on what people wrote to one another learns to reply as they did: it puts the
    work off instead of doing it.
    """
    if context.task.kind not in KINDS:
        return
    train = context.splits.train
    found = [example for example in train if says_nothing(example.output)]
    if not found:
        return
    share = len(found) / len(train)
    yield Finding(
        "deferrals",
        "warning" if share > MANY else "note",
        len(found),
        sources(found),
        f"{number(len(found), 'training output')} ({percent(len(found), len(train))}) "
        f"{'answers' if len(found) == 1 else 'answer'} nothing: put off, only acknowledged or "
        f"refused, such as {shortened(found[0].output)!r} ({found[0].source}). A model learns to "
        "reply like that instead of doing what it is asked.",
        "Remove these rows, unless such a reply is what you want; write two or three outputs as "
        "you would like them under `wanted`, and the data are checked against them.",
    )
