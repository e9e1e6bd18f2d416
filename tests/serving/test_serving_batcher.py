"""The queue in front of an answerer, through threads and without a network."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest
from serving_fakes import Shouter, until

from luthier.data.examples import Conversation, Message
from luthier.errors import InputError
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions, PromptTooLongError
from luthier.serving.batcher import Batcher, BusyError, ClosedError
from luthier.serving.pool import ModelPool

PLAIN = AnswerOptions()


def say(text: str) -> Conversation:
    return (Message("user", text),)


@pytest.fixture
def held() -> Any:
    """A batcher whose model is computing the question "first" until `gate` is set."""
    shouter = Shouter(gate=threading.Event())
    batcher = Batcher(shouter, max_batch=4, max_waiting=8)
    first = batcher.submit(say("first"), PLAIN)
    assert shouter.entered.wait(5)
    yield shouter, batcher, first
    shouter.gate.set()
    batcher.close()


def test_what_waits_is_answered_together(held: Any) -> None:
    shouter, batcher, first = held
    futures = [batcher.submit(say(f"q{i}"), PLAIN) for i in range(6)]
    shouter.gate.set()
    assert first.result(5).text == "FIRST"
    assert [f.result(5).text for f in futures] == [f"Q{i}" for i in range(6)]
    assert shouter.calls == [["first"], ["q0", "q1", "q2", "q3"], ["q4", "q5"]]
    assert batcher.counts() == (3, 7)
    assert len(shouter.threads) == 1
    assert threading.get_ident() not in shouter.threads


def test_only_equal_options_go_together_and_the_oldest_goes_first(held: Any) -> None:
    shouter, batcher, _ = held
    short = AnswerOptions(max_new_tokens=1)
    futures = [
        batcher.submit(say(f"q{i} more"), options)
        for i, options in enumerate([PLAIN, short, PLAIN, short])
    ]
    shouter.gate.set()
    assert [f.result(5).text for f in futures] == ["Q0 MORE", "Q1", "Q2 MORE", "Q3"]
    assert shouter.calls[1:] == [["q0 more", "q2 more"], ["q1 more", "q3 more"]]
    assert shouter.options[1:] == [PLAIN, short]


def test_a_seeded_sample_is_computed_alone(held: Any) -> None:
    shouter, batcher, _ = held
    seeded, greedy = AnswerOptions(seed=1), AnswerOptions(seed=1, temperature=0)
    futures = [batcher.submit(say(f"s{i}"), seeded) for i in range(2)]
    futures += [batcher.submit(say(f"g{i}"), greedy) for i in range(2)]
    shouter.gate.set()
    for future in futures:
        future.result(5)
    assert shouter.calls[1:] == [["s0"], ["s1"], ["g0", "g1"]]


def test_a_stream_takes_its_turn(held: Any) -> None:
    shouter, batcher, _ = held
    got: list[str | Answer | Exception] = []
    before = batcher.submit(say("before"), PLAIN)
    batcher.stream(say("a b"), PLAIN, got.append)
    after = batcher.submit(say("after"), PLAIN)
    shouter.gate.set()
    assert [before.result(5).text, after.result(5).text] == ["BEFORE", "AFTER"]
    assert until(lambda: bool(got) and isinstance(got[-1], Answer))
    assert "".join(piece for piece in got[:-1] if isinstance(piece, str)).strip() == "A B"
    # what waits for whole answers may overtake a stream only in the batch of an older question
    assert shouter.calls == [["first"], ["before", "after"], ["a b"]]
    assert shouter.closed.is_set()


def test_a_cancelled_question_is_not_computed(held: Any) -> None:
    shouter, batcher, first = held
    futures = [batcher.submit(say(f"q{i}"), PLAIN) for i in range(3)]
    got: list[Any] = []
    cancel = batcher.stream(say("streamed"), PLAIN, got.append)
    assert futures[0].cancel()
    assert not first.cancel()
    cancel()
    cancel()
    shouter.gate.set()
    assert [f.result(5).text for f in futures[1:]] == ["Q1", "Q2"]
    with pytest.raises(CancelledError):
        futures[0].result(5)
    assert batcher.submit(say("last"), PLAIN).result(5).text == "LAST"
    assert shouter.calls == [["first"], ["q1", "q2"], ["last"]]
    assert got == []


def test_a_batch_of_cancelled_questions_is_no_call(held: Any) -> None:
    shouter, batcher, _ = held
    assert batcher.submit(say("gone"), PLAIN).cancel()
    shouter.gate.set()
    assert batcher.submit(say("last"), PLAIN).result(5).text == "LAST"
    assert shouter.calls == [["first"], ["last"]]


def test_a_running_stream_is_closed_when_cancelled() -> None:
    shouter = Shouter(word_seconds=0.01)
    batcher = Batcher(shouter)
    arrived = threading.Event()
    cancel = batcher.stream(say("w " * 1000), PLAIN, lambda piece: arrived.set())
    assert arrived.wait(5)
    cancel()
    assert shouter.closed.wait(5)
    assert shouter.written < 100
    assert batcher.submit(say("next"), PLAIN).result(5).text == "NEXT"
    batcher.close()


def test_one_bad_question_does_not_take_its_neighbours_down(held: Any) -> None:
    shouter, batcher, _ = held
    good, bad, also = (batcher.submit(say(t), PLAIN) for t in ("good", "overlong", "also"))
    shouter.gate.set()
    assert (good.result(5).text, also.result(5).text) == ("GOOD", "ALSO")
    with pytest.raises(PromptTooLongError):
        bad.result(5)
    assert shouter.calls[1:] == [["good", "overlong", "also"], ["good"], ["overlong"], ["also"]]


def test_a_wrong_number_of_answers_is_a_fault() -> None:
    class Mute(Shouter):
        def answer(self, conversations: Any, options: Any = None) -> list[Answer]:
            return []

    batcher = Batcher(Mute())
    with pytest.raises(RuntimeError, match="gave 0 answers to 1 questions"):
        batcher.submit(say("x"), PLAIN).result(5)
    batcher.close()


def test_a_stream_without_an_answer_is_a_fault() -> None:
    class Unfinished(Shouter):
        def stream(self, conversation: Any, options: Any = None) -> Any:
            yield "half"

    got: list[Any] = []
    batcher = Batcher(Unfinished())
    batcher.stream(say("x"), PLAIN, got.append)
    assert until(lambda: len(got) == 2)
    assert got[0] == "half"
    assert "without an answer" in str(got[1])
    batcher.close()


def test_too_many_waiting(held: Any) -> None:
    _, batcher, _ = held
    futures = [batcher.submit(say("x"), PLAIN) for _ in range(8)]
    with pytest.raises(BusyError, match="8 requests are waiting for shouter"):
        batcher.submit(say("x"), PLAIN)
    futures[0].cancel()  # its place is free again
    batcher.submit(say("x"), PLAIN)
    with pytest.raises(BusyError):
        batcher.stream(say("x"), PLAIN, lambda piece: None)


def test_closing_refuses_what_waits_and_finishes_what_runs(held: Any) -> None:
    shouter, batcher, first = held
    waiting = batcher.submit(say("x"), PLAIN)
    got: list[Any] = []
    batcher.stream(say("y"), PLAIN, got.append)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    with pytest.raises(ClosedError):
        waiting.result(5)
    assert until(lambda: bool(got))
    assert isinstance(got[0], ClosedError)
    with pytest.raises(ClosedError):
        batcher.submit(say("z"), PLAIN)
    shouter.gate.set()
    assert first.result(5).text == "FIRST"
    closing.join(5)
    assert not closing.is_alive()
    assert shouter.calls == [["first"]]


def test_closing_ends_a_running_stream() -> None:
    shouter = Shouter(word_seconds=0.01)
    batcher = Batcher(shouter)
    got: list[Any] = []
    batcher.stream(say("w " * 1000), PLAIN, got.append)
    assert until(lambda: len(got) > 2)
    batcher.close()
    assert isinstance(got[-1], ClosedError)
    assert shouter.closed.is_set()


def test_a_model_is_loaded_once_by_many_threads_and_again_after_a_failure() -> None:
    loads: list[int] = []

    def load() -> Shouter:
        loads.append(len(loads))
        if len(loads) == 1:
            raise InputError("broken.")
        return Shouter()

    pool = ModelPool({"a": Shouter, "b": load}, "a")
    assert pool.names == ["a", "b"]
    with pytest.raises(InputError, match="broken"):
        pool.load("b")
    assert pool.loaded("b") is None
    got: list[Batcher] = []
    threads = [threading.Thread(target=lambda: got.append(pool.load("b"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(loads) == 2
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    pool.close()
    with pytest.raises(ClosedError):
        pool.load("a")


def test_a_pool_needs_its_default() -> None:
    with pytest.raises(InputError, match="no model"):
        ModelPool({}, "a")
    with pytest.raises(InputError, match="Did you mean 'lora'"):
        ModelPool({"lora": Shouter}, "lorra")


def test_a_model_of_the_name_luthier_wins_over_the_alias() -> None:
    pool = ModelPool({"a": Shouter, "luthier": Shouter}, "a")
    assert pool.known("luthier") == "luthier"
    assert ModelPool({"a": Shouter}, "a").known("luthier") == "a"
