"""Answering from documents: what the arms that read passages have in common."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.arms.base import Answerer, Progress
from luthier.data.examples import Conversation, Example, Message
from luthier.errors import InputError, RunError
from luthier.evaluation.metrics.squad import abstains, right_answers
from luthier.generation.answers import Answer
from luthier.generation.options import AnswerOptions
from luthier.progress import Reporter
from luthier.retrieval.grounding import (
    FORM,
    NOT_FOUND,
    Citation,
    grounded,
    read_answer,
    support_of,
)
from luthier.retrieval.passages import Mode, Passage, Retriever, Scope
from luthier.retrieval.places import Place, is_index, place_at, scheme_of
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.generation.local import Generator
    from luthier.models.pool import ModelPool
    from luthier.retrieval.index import Index

#: Where the index of a run lies, in its folder.
INDEX = "index"
#: Kinds of tasks whose answers may stand in documents.
KINDS = frozenset({"qa", "generation", "chat", "extraction", "summarization"})
#: Words from which a `retrieval.gold` that is no document's id is taken for the passage itself.
_PASSAGE = 4
_log = logging.getLogger("luthier.retrieval")


@dataclass(frozen=True)
class Reader:
    """How passages are found and shown.

    Attributes:
        k: passages shown.
        mode: how they are found.
        rerank: whether the first of them are put in order again by their nearest sentence.
        form: how the question is asked, a name in `grounding.FORMS`.
        least_support: the least share of an answer's content words that the passages must hold;
            an answer with less becomes `NOT_FOUND`. 0 lets any answer pass.
    """

    k: int = 3
    mode: Mode = "hybrid"
    rerank: bool = False
    form: str = FORM
    least_support: float = 0.5

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return vars(self).copy()


def without_documents(name: str, task: Task) -> str | None:
    """Why an arm that reads documents cannot do a task, or None."""
    if not task.documents:
        return f"{name} reads documents, and the task names none (`documents`)"
    if task.kind not in KINDS:
        return f"{name} is for {', '.join(sorted(KINDS))}, not for {task.kind}"
    return None


def index_of(
    task: Task, arm_folder: Path, pool: ModelPool, reporter: Reporter | None = None
) -> Index:
    """The index of a run, which all its arms share; made when it is first asked for.

    Args:
        task: names the documents.
        arm_folder: of any arm of the run.
        pool: for the encoder.
        reporter: hears how far it is.

    Raises:
        InputError: the documents cannot be used.
        ModelError: LanceDB is not installed.
    """
    from luthier.retrieval import building
    from luthier.retrieval.chunks import Chunking
    from luthier.retrieval.index import ENCODER, Index
    from luthier.retrieval.manifest import read_manifest

    folder = place_of(task, arm_folder.parent.parent)
    wanted = task.retrieval
    if is_index(folder):
        held = read_manifest(folder)
        held.must_match(held.encoder, Chunking(wanted.size, wanted.overlap), folder)
    else:
        labels = task.folder / wanted.labels if wanted.labels else None
        building.build(
            [task.documents or ""],
            folder,
            base=task.folder,
            chunking=Chunking(wanted.size, wanted.overlap),
            labels=labels,
            reporter=reporter,
            loaded=pool.encoder(ENCODER),
        )
    return Index.open(folder, pool.encoder(read_manifest(folder).encoder))


def place_of(task: Task, run_folder: Path) -> Place:
    """Where the index of a run lies: in its folder, or where `retrieval.index` says."""
    where = task.retrieval.index
    if where is None:
        return place_at(run_folder / INDEX)
    return place_at(where if scheme_of(where) else task.folder / Path(where).expanduser())


def scope_of(task: Task) -> Scope:
    """What a run may read."""
    return Scope(groups=frozenset(task.retrieval.groups), quarantine=task.retrieval.quarantine)


def question_of(conversation: Conversation) -> str:
    """What is looked for: the last turn of the user."""
    return conversation[-1].content


def with_passages(
    conversation: Conversation, passages: Sequence[Passage], form: str
) -> Conversation:
    """The conversation with the passages in its last turn."""
    last = conversation[-1]
    turn = Message("user", grounded(last.content, passages, form), last.weight)
    return (*conversation[:-1], turn)


def settled(
    answer: Answer,
    passages: Sequence[Passage],
    least_support: float,
    exists: Callable[[Citation], bool] | None = None,
) -> Answer:
    """What a model wrote as an answer that says what it rests on.

    `extra` gets "passages" (document, start, end, score of each), "citations" (see `cited`),
    "abstained" and "support"; "unsupported" is what the model wrote where that was not let pass.

    Args:
        answer: what the model wrote.
        passages: that it read.
        least_support: see `Reader`.
        exists: whether a citation is what its document says; an answer with one that is not does
            not pass. None takes that as given, as it is of passages that were just found.
    """
    found = read_answer(answer.text, passages)
    extra: dict[str, Any] = {
        "passages": [passage_of(passage) for passage in passages],
        "citations": [cited(citation, passages) for citation in found.citations],
        "abstained": found.abstained,
        "support": found.support,
    }
    text = found.answer
    passes = found.support >= least_support
    if exists is not None:
        passes = passes and all(exists(citation) for citation in found.citations)
    if not found.abstained and not passes:
        text = NOT_FOUND
        extra |= {"abstained": True, "unsupported": found.answer, "citations": []}
    return replace(answer, text=text, extra={**answer.extra, **extra})


def passage_of(passage: Passage) -> dict[str, Any]:
    """A passage that was read as plain values: which span of which document, and its score."""
    return {
        "document": passage.document,
        "start": passage.start,
        "end": passage.end,
        "score": round(passage.score, 5),
    }


def cited(citation: Citation, passages: Sequence[Passage]) -> dict[str, Any]:
    """A citation as plain values: "document", "start", "end" and "text", and of the passage that
    it was read in "passage" (as `luthier index search` names it), "heading", "title", "source"."""
    held = next(
        (
            one
            for one in passages
            if one.document == citation.document
            and one.start <= citation.start
            and citation.end <= one.end
        ),
        None,
    )
    if held is None:
        return citation.to_dict()
    return {
        **citation.to_dict(),
        "passage": f"{held.document}:{held.start}-{held.end}",
        "heading": list(held.heading),
        "title": str(held.metadata.get("title") or ""),
        "source": held.source,
    }


def look_again(index: Retriever, name: str) -> None:
    """Read the newest version of an index: while it is served it may be updated.

    Raises:
        RunError: it cannot be read. An answer from an older version could say what was removed.
    """
    refresh = getattr(index, "refresh", None)
    if refresh is None:
        return
    try:
        refresh()
    except Exception as error:  # paths of the server are nothing for a client
        _log.error("the index of %s cannot be read: %s", name, error)
        raise RunError("The documents cannot be read now; the server's log says why.") from None


class GroundedAnswerer(Answerer):
    """Finds passages, and lets another answerer read them.

    Args:
        name: of the arm.
        inner: reads and writes.
        index: of the documents.
        scope: what may be read.
        reader: how.
    """

    generates = True

    def __init__(
        self, name: str, inner: Answerer, index: Retriever, scope: Scope, reader: Reader
    ) -> None:
        self.name = name
        self.inner, self.index, self.scope, self.reader = inner, index, scope, reader
        self.context_length = inner.context_length

    @property
    def own_generator(self) -> Generator | None:
        """See `Answerer.own_generator`."""
        return self.inner.own_generator

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """See `Answerer.answer`."""
        began = time.perf_counter()
        look_again(self.index, self.name)
        scope = self.scope
        if options is not None and options.groups is not None:
            scope = replace(scope, groups=options.groups)
        found = self.index.search_many(
            [question_of(one) for one in conversations],
            self.reader.k,
            mode=self.reader.mode,
            scope=scope,
            rerank=self.reader.rerank,
        )
        searching = (time.perf_counter() - began) / max(1, len(conversations))
        asked = [
            with_passages(one, passages, self.reader.form)
            for one, passages in zip(conversations, found, strict=True)
        ]
        answers = self.inner.answer(asked, options, progress)
        texts: dict[str, str | None] = {}

        def exists(citation: Citation) -> bool:
            name = citation.document
            if name not in texts:
                texts[name] = self.index.text_of(name, scope=scope)
            return (texts[name] or "")[citation.start : citation.end] == citation.text

        said = []
        for answer, passages in zip(answers, found, strict=True):
            one = settled(answer, passages, self.reader.least_support, exists)
            version = {"index_version": getattr(self.index, "version", None)}
            said.append(
                replace(one, seconds=one.seconds + searching, extra={**one.extra, **version})
            )
        return said

    def close(self) -> None:
        """See `Answerer.close`."""
        self.inner.close()


def named_documents(
    examples: Sequence[Example], task: Task, run_folder: Path
) -> list[str | None] | None:
    """The document that each example's row says holds its answer, by id or by the passage's text,
    where it is one of the index; None where the run has no index."""
    from luthier.retrieval.index import Index

    if not task.documents or not is_index(place_of(task, run_folder)):
        return None
    index = Index.open(place_of(task, run_folder))
    known = index.ids()
    column = task.retrieval.gold or ""
    named = [str((example.fields or {}).get(column) or "") for example in examples]
    held = {
        name: name if name in known else _holder(name, index, scope_of(task)) for name in set(named)
    }
    return [held[name] for name in named]


def _holder(text: str, index: Retriever, scope: Scope) -> str | None:
    """The document that a passage is from."""
    wanted = " ".join(text.split())
    if len(wanted.split()) < _PASSAGE:
        return None
    for found in index.search(text[:1000], 5, mode="bm25", scope=scope):
        if wanted in " ".join((index.text_of(found.document, scope=scope) or "").split()):
            return found.document
    return None


def gold_of(example: Example, task: Task, index: Retriever) -> list[Passage]:
    """The passage that an example's row says holds the answer; none where it says nothing.

    Of a document that is longer than a passage, that piece which holds the answer, or which is
    most like a question that has none.

    Raises:
        InputError: the row names a document that is not indexed.
    """
    column = task.retrieval.gold
    named = (example.fields or {}).get(column or "")
    if not isinstance(named, str | int) or named == "":
        return []
    text = str(named)
    kept = index.text_of(text, scope=scope_of(task))
    if kept is None and len(text.split()) < _PASSAGE:
        raise InputError(
            f"{example.source or example.id}: `retrieval.gold` names the document {text!r}, which "
            "is not indexed, or which `retrieval.groups` may not read.",
            fix="Give its id as `luthier index list` shows it, or the passage itself.",
        )
    answer = "" if abstains(example.output) else right_answers(example.output)[0]
    wanted = answer or question_of(example.messages)
    if kept is None:
        return [_piece("gold", text, wanted, task)]
    return [_piece(text, kept, wanted, task)]


def _piece(document: str, text: str, wanted: str, task: Task) -> Passage:
    """The piece of a document that holds most of what is wanted, as the index would cut it."""
    from luthier.retrieval.chunks import Chunking, chunks_of
    from luthier.retrieval.documents import Document

    cut = Chunking(task.retrieval.size, task.retrieval.overlap)
    pieces = [
        Passage(document, chunk.start, chunk.end, text[chunk.start : chunk.end], 1.0)
        for chunk in chunks_of(Document(document, text), cut)
    ]
    whole = Passage(document, 0, len(text), text, 1.0)
    return max(pieces, key=lambda piece: support_of(wanted, piece.text), default=whole)
