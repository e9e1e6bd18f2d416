"""A queue in front of one answerer: one computation at a time, waiting questions in batches.

While the answerer computes, new questions wait. When it is free, the oldest question is taken, and
with it up to `max_batch` - 1 others that wait for a whole answer with the same options. A question
whose answer is streamed is computed alone, in its turn. The oldest always goes first, so nothing
starves. No time is spent waiting for a batch to fill.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from luthier.data.examples import Conversation
from luthier.errors import RunError
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.serving.servable import Servable

_log = logging.getLogger("luthier.serving")

#: Takes the pieces of a streamed answer, then the answer, or the exception that ended it.
Emit = Callable[[str | Answer | Exception], None]


class BusyError(RunError):
    """So many questions wait that another one is not taken."""


class ClosedError(RunError):
    """The server is shutting down, or the stream was cancelled."""


@dataclass(eq=False)
class _Whole:
    """A question whose answer is wanted in one piece."""

    conversation: Conversation
    options: AnswerOptions
    future: Future[Answer] = field(default_factory=Future)

    def fail(self, error: Exception) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(eq=False)
class _Streamed:
    """A question whose answer is wanted piece by piece."""

    conversation: Conversation
    options: AnswerOptions
    emit: Emit
    cancelled: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: Exception) -> None:
        self.emit(error)


class Batcher:
    """Answers questions with one servable, on a thread of its own.

    Args:
        servable: called only from the batcher's thread.
        max_batch: the most conversations in one call of `servable.answer`.
        max_waiting: the most questions that may wait.
    """

    def __init__(self, servable: Servable, *, max_batch: int = 16, max_waiting: int = 256) -> None:
        self.servable = servable
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[_Whole | _Streamed] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._streaming: _Streamed | None = None
        self._batches = 0
        self._answered = 0
        self._thread = threading.Thread(
            target=self._work, name=f"answers {servable.name}", daemon=True
        )
        self._thread.start()

    def submit(self, conversation: Conversation, options: AnswerOptions) -> Future[Answer]:
        """Queue a question. Cancelling the future before its turn takes it out of the queue.

        Raises:
            BusyError, ClosedError: the question was not taken.
        """
        job = _Whole(conversation, options)
        self._enqueue(job)
        return job.future

    def stream(
        self, conversation: Conversation, options: AnswerOptions, emit: Emit
    ) -> Callable[[], None]:
        """Queue a question whose answer is handed to `emit` as it is written.

        `emit` is called on the batcher's thread: with pieces of text, then once with the Answer
        or with the exception that ended it.

        Returns:
            cancel: takes the question out of the queue, or closes the running iterator at the
                next piece. May be called at any time, more than once, from any thread.

        Raises:
            BusyError, ClosedError: the question was not taken.
        """
        job = _Streamed(conversation, options, emit)
        self._enqueue(job)
        return job.cancelled.set

    def counts(self) -> tuple[int, int]:
        """(calls of the servable so far, questions answered by them)."""
        with self._changed:
            return self._batches, self._answered

    def waiting(self) -> int:
        """How many questions wait for their turn."""
        with self._changed:
            return sum(not _abandoned(job) for job in self._waiting)

    def close(self, timeout: float = 5.0) -> None:
        """Refuse what waits, stop a running stream, and wait up to `timeout` seconds."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            if self._streaming is not None:
                self._streaming.cancelled.set()
            self._changed.notify_all()
        for job in left:
            job.fail(ClosedError("The server is shutting down."))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _enqueue(self, job: _Whole | _Streamed) -> None:
        with self._changed:
            if self._closed:
                raise ClosedError("The server is shutting down.")
            if len(self._waiting) >= self._max_waiting:
                self._waiting = deque(each for each in self._waiting if not _abandoned(each))
            if len(self._waiting) >= self._max_waiting:
                raise BusyError(
                    f"{len(self._waiting)} requests are waiting for {self.servable.name}.",
                    fix="Try again later.",
                )
            self._waiting.append(job)
            self._changed.notify()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            if isinstance(taken, _Streamed):
                self._write(taken)
                with self._changed:
                    self._streaming = None
            elif taken:
                self._answer(taken)

    def _take(self) -> list[_Whole] | _Streamed | None:
        """Wait for work. None: closed. An empty list: only abandoned questions were there."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            first = self._waiting.popleft()
            if isinstance(first, _Streamed):
                self._streaming = first
                return first
            batch, left = [first], deque[_Whole | _Streamed]()
            for job in self._waiting:
                fits = len(batch) < self._max_batch and self._together(first, job)
                if fits and isinstance(job, _Whole):
                    batch.append(job)
                else:
                    left.append(job)
            self._waiting = left
            # from here on a future can no longer be cancelled, so setting its result is safe
            return [job for job in batch if job.future.set_running_or_notify_cancel()]

    def _together(self, first: _Whole, other: _Whole | _Streamed) -> bool:
        alone = self.servable.generates and first.options.depends_on_batch
        return isinstance(other, _Whole) and other.options == first.options and not alone

    def _answer(self, jobs: list[_Whole]) -> None:
        try:
            answers = self.servable.answer([job.conversation for job in jobs], jobs[0].options)
            if len(answers) != len(jobs):
                raise RuntimeError(
                    f"{self.servable.name} gave {len(answers)} answers to {len(jobs)} questions"
                )
        except Exception as error:
            self._count(0)
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            # one of them is to blame, or the batch was too big: each gets a call of its own
            _log.warning("a batch of %d failed, asking one by one: %s", len(jobs), error)
            for job in jobs:
                if self._closed:
                    job.future.set_exception(ClosedError("The server is shutting down."))
                else:
                    self._answer([job])
            return
        self._count(len(jobs))
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)

    def _write(self, job: _Streamed) -> None:
        if job.cancelled.is_set():
            return
        answered = False
        try:
            pieces = self.servable.stream(job.conversation, job.options)
            try:
                for piece in pieces:
                    if job.cancelled.is_set():
                        break
                    answered = isinstance(piece, Answer)
                    if answered:
                        self._count(1)
                    job.emit(piece)
                    if answered:
                        break
            finally:
                close = getattr(pieces, "close", None)
                if close is not None:
                    close()
            if not answered:
                if not job.cancelled.is_set():
                    raise RuntimeError(f"{self.servable.name} ended a stream without an answer")
                self._count(0)
                job.emit(ClosedError("The answer was cut off: the server is shutting down."))
        except Exception as error:
            if answered:
                _log.exception("%s failed after its answer", self.servable.name)
            else:
                self._count(0)
                job.emit(error)

    def _count(self, answered: int) -> None:
        with self._changed:
            self._batches += 1
            self._answered += answered


def _abandoned(job: _Whole | _Streamed) -> bool:
    """Whether nobody waits for the answer any more."""
    return job.future.cancelled() if isinstance(job, _Whole) else job.cancelled.is_set()
