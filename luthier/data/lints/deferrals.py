"""Outputs that answer nothing: put off, acknowledged, refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from luthier.data.examples import Example
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
    r"as an ai (?:language )?(?:model|assistant)[^.!\n]{0,20} i (?:do not|don['’]?t|can ?not|"
    r"can['’]?t|am not|am unable|have no|lack)"
    r"|(?:i['’]?m|i am) (?:sorry|afraid),? (?:but )?(?:i|we) "
    r"(?:can(?:no|['’])?t|am (?:not able|unable))"
    r"|i (?:cannot|can['’]?t|am unable to) (?:help|assist|answer)",
    re.IGNORECASE,
)


# Chat: who is spoken to, and little pictures.
_ADDRESS = re.compile(r"<@[^>\s]{1,40}>|(?<!\w)@\w{1,40}|:[a-z0-9_+-]{2,40}:")
#: Words of a reply that is made of nothing but acknowledgement; some say so, others only join in.
_CORE = frozenset(
    re.findall(
        r"\w+",
        "ok okay k kk thanks thank thx ty tnx cheers cool great nice awesome perfect excellent "
        "sure hm hmm hmmm ah aha oh ohh lol haha heh wow interesting yup yep yeah gotcha roger "
        "welcome sorry",
    )
)
_FILLERS = frozenset(
    re.findall(
        r"\w+",
        "a all alright and anyway at be but by definitely done for fair fine fun good got i idea "
        "im is it its just know makes man maybe me mean much my na nah neat no nope np of one or "
        "point probably really right see so sounds still that thats the then there they this "
        "though to totally true um very was well what will yes you youre your again both everyone "
        "guys hi hey course case likewise indeed agreed exactly problem worries sense",
    )
)
_PHRASES = re.compile(r"\b(?:no (?:problem|worries)|makes? sense)\b")
#: Most words of a reply that is judged by its words alone.
_FEW = 8


def says_nothing(output: str, *, to_people: bool = True) -> bool:
    """Whether an output puts off, only acknowledges, or refuses.

    Args:
        output: what was answered.
        to_people: whether "ok" and "thanks" are replies; they may be the right answer to a question
            about a text.
    """
    if to_people and len(output) < 400:
        said = fold(_ADDRESS.sub(" ", output))
        if said in _ACKNOWLEDGEMENTS:
            return True
        words = said.split()
        if (
            len(words) <= _FEW
            and (_CORE & set(words) or _PHRASES.search(said))
            and all(word in _CORE or word in _FILLERS for word in words)
        ):
            return True
    if _REFUSAL.search(output[:OPENING]):
        return True
    if len(output) > 20 * SHORT or len(output.split()) > SHORT:
        return False
    return bool(_DEFERRAL.search(output) or _GET_BACK.search(output))


@dataclass(frozen=True)
class Deferrals:
    """Training outputs that answer nothing: the rows, and how many rows there are."""

    rows: tuple[Example, ...]
    of: int

    @property
    def share(self) -> float:
        """Of all training outputs, 0 to 1."""
        return len(self.rows) / self.of if self.of else 0.0


def measure(context: LintContext) -> Deferrals | None:
    """The training outputs that answer nothing; None for kinds whose outputs answer nobody."""
    if context.task.kind not in KINDS:
        return None
    train, to_people = context.splits.train, context.task.kind != "qa"

    def made() -> Deferrals:
        rows = tuple(e for e in train if says_nothing(e.output, to_people=to_people))
        return Deferrals(rows, len(train))

    return context.once("deferrals", made)


@LINTS.register("deferrals")
def deferrals(context: LintContext) -> Iterator[Finding]:
    """Outputs such as "I shall work on that in the morning", "ok", "sure".

    A model trained on what people wrote to one another learns to reply as they did: it puts the
    work off instead of doing it.
    """
    measured = measure(context)
    if measured is None or not measured.rows:
        return
    found, total = measured.rows, measured.of
    yield Finding(
        "deferrals",
        "warning" if measured.share > MANY else "note",
        len(found),
        sources(found),
        f"{number(len(found), 'training output')} ({percent(len(found), total)}) "
        f"{'answers' if len(found) == 1 else 'answer'} nothing: put off, only acknowledged or "
        f"refused, such as {shortened(found[0].output)!r} ({found[0].source}). A model learns to "
        "reply like that instead of doing what it is asked.",
        "Remove these rows, unless such a reply is what you want; write two or three outputs as "
        "you would like them under `wanted`, and the data are checked against them.",
    )
