"""From the messages of a chat log to conversations: threads, and in them who answers whom."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from luthier.data.reading import Place, SourceRow
from luthier.data.times import written_time
from luthier.data.turns import Turn, turn
from luthier.errors import InputError, did_you_mean

#: A silence of more than this, in seconds, ends a conversation where the log has no threads.
GAP = 3600.0
#: Most turns before an answer that a row holds: long threads would fill rows again and again.
MOST_TURNS = 20
#: Most threads that wait for more messages; the one silent for longest is closed then.
MOST_OPEN = 10_000

OPTION = "the name of the person whose messages are the answers; without it, everyone's are"


@dataclass(frozen=True)
class Said:
    """One message.

    Attributes:
        author: who wrote it.
        text: not blank.
        time: seconds since 1970; since any day where the log names none.
        source: where it was read.
        channel: messages of different channels, or files, are never of one conversation.
        thread: its thread where the log knows that; "" where silence tells.
        written: the time for people; the time as ISO 8601 where blank.
    """

    author: str
    text: str
    time: float
    source: str
    channel: str = ""
    thread: str = ""
    written: str = ""


@dataclass
class _Thread:
    """The last turns of one conversation; messages of one author that follow each other are one."""

    name: str
    turns: deque[Said] = field(default_factory=lambda: deque(maxlen=MOST_TURNS + 1))
    last: float = 0.0

    def goes_on(self, message: Said) -> bool:
        """Whether a message is of the author who spoke last."""
        return bool(self.turns) and self.turns[-1].author == message.author

    def add(self, message: Said) -> None:
        self.last = max(self.last, message.time)
        if self.goes_on(message):
            before = self.turns.pop()
            message = replace(before, text=f"{before.text}\n{message.text}")
        self.turns.append(message)


def conversations(messages: Iterator[Said], place: Place, answerer: str) -> Iterator[SourceRow]:
    """A row for each answer: `messages` (what was said before it in the thread, and it, last),
    `thread`, `author` (who answers), `time`, and `channel` where the log has some.

    The answerer's own words before are the assistant's, all others' the user's. Where several
    others speak before one answer, each begins with the name. A row comes when its answer is
    complete, and no more of a thread is held than its last turns.

    Args:
        messages: in the order they were written, at least within each channel.
        place: where they were read, for messages.
        answerer: the person whose messages are the answers, by name; "" for everyone.

    Raises:
        InputError: nobody of that name, or no message that answers another.
    """
    authors: Counter[str] = Counter()
    found = False
    wanted = answerer.casefold()
    for thread in _spoken(messages, authors):
        if not wanted or thread.turns[-1].author.casefold() == wanted:
            row = _row(thread)
            if row is not None:
                found = True
                yield row
    if found or not authors:
        return
    names = [name for name, _ in authors.most_common()]
    if wanted and wanted not in {name.casefold() for name in names}:
        shown = ", ".join(names[:10]) + ", ..." * (len(names) > 10)
        near = did_you_mean(answerer, names)
        raise InputError(
            f"{place.shown}: nobody in it is called {answerer!r}.",
            fix=near if near.startswith("Did") else f"Who writes: {shown}.",
        )
    who = f"no message of {answerer} answers" if wanted else "no message in it answers"
    raise InputError(
        f"{place.shown}: {who} another person's.",
        fix="A conversation needs two people who write within an hour, or in one thread.",
    )


def _spoken(messages: Iterator[Said], authors: Counter[str]) -> Iterator[_Thread]:
    """A thread each time that its last turn is complete."""
    waiting: OrderedDict[str, _Thread] = OrderedDict()
    silent: dict[str, str] = {}  # of each channel, its conversation that has no thread's name
    for message in messages:
        authors[message.author] += 1
        name = message.thread
        if not name:
            name = silent.get(message.channel, "")
            if name not in waiting or message.time - waiting[name].last > GAP:
                if name in waiting:
                    yield waiting.pop(name)
                begun = message.written or written_time(message.time)
                name = silent[message.channel] = f"{message.channel} {begun}".strip()
        if name not in waiting:
            waiting[name] = _Thread(name)
            if len(waiting) > MOST_OPEN:
                yield waiting.popitem(last=False)[1]
        thread = waiting[name]
        if thread.turns and not thread.goes_on(message):
            yield thread
        thread.add(message)
        waiting.move_to_end(name)
    yield from waiting.values()


def _row(thread: _Thread) -> SourceRow | None:
    *before, answer = thread.turns
    first = next((at for at, one in enumerate(before) if one.author != answer.author), None)
    if first is None:
        return None
    before = before[first:]
    several = len({one.author for one in before} - {answer.author}) > 1
    made: list[Turn] = []
    for one in before:
        mine = one.author == answer.author
        role = "assistant" if mine else "user"
        text = f"{one.author}: {one.text}" if several and not mine else one.text
        if made and made[-1]["role"] == role:
            made[-1]["content"] += f"\n{text}"
        else:
            made.append(turn(role, text))
    values: dict[str, Any] = {
        "messages": [*made, turn("assistant", answer.text)],
        "thread": thread.name,
        "author": answer.author,
        "time": answer.written or written_time(answer.time),
    }
    if answer.channel:
        values["channel"] = answer.channel
    return SourceRow(values, answer.source)
