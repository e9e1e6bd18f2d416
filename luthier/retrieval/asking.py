"""One question to an index: passages, an answer that rests on them, or that they do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.retrieval.grounding import (
    FORM,
    NOT_FOUND,
    Citation,
    Grounded,
    content_words,
    grounded,
    read_answer,
)
from luthier.retrieval.passages import OPEN, Passage, Retriever, Scope

if TYPE_CHECKING:
    from luthier.generation.local import Generator

#: A question is taken to be of something else where the nearest passage is further away than this
#: (cosine) and holds less than this share of its content words. Judgements, not fitted.
FAR, FEW = 0.3, 0.5
#: The least share of an answer's content words that the passages must hold.
LEAST_SUPPORT = 0.5
_NEW_TOKENS = 48


@dataclass(frozen=True)
class Asked:
    """What came of a question.

    Attributes:
        answer: see `Grounded.answer`.
        why: of an abstention: "nothing relevant", "the model says so", "not supported".
        passages: that the model read.
    """

    answer: str
    abstained: bool
    citations: tuple[Citation, ...]
    support: float
    why: str
    passages: tuple[Passage, ...]

    def to_dict(self) -> dict[str, Any]:
        """What `luthier ask --json` prints."""
        return {
            "answer": self.answer,
            "abstained": self.abstained,
            "citations": [citation.to_dict() for citation in self.citations],
        }


def ask(
    index: Retriever,
    question: str,
    generator: Generator,
    *,
    k: int = 3,
    scope: Scope = OPEN,
    form: str = FORM,
    least_support: float = LEAST_SUPPORT,
) -> Asked:
    """Ask a model what the documents say.

    Args:
        index: of the documents.
        question: one.
        generator: of the model that reads.
        k: passages that it is given.
        scope: what may be read.
        form: how it is asked, a name in `FORMS`.
        least_support: see `LEAST_SUPPORT`; 0 lets any answer pass.
    """
    passages = index.search(question, k, scope=scope)
    if not relevant(index, question, passages, scope):
        return Asked(NOT_FOUND, True, (), 1.0, "nothing relevant", tuple(passages))
    found = read_answer(written(generator, question, passages, form), passages)
    if found.abstained:
        return _asked(found, "the model says so", passages)
    if found.support < least_support or (least_support and not found.citations):
        return _asked(Grounded(NOT_FOUND, True), "not supported", passages)
    for citation in found.citations:  # offsets count characters of the document that is kept
        kept = index.text_of(citation.document, scope=scope)
        if kept is None or kept[citation.start : citation.end] != citation.text:
            return _asked(Grounded(NOT_FOUND, True), "not supported", passages)
    return _asked(found, "", passages)


def relevant(
    index: Retriever, question: str, passages: Sequence[Passage], scope: Scope = OPEN
) -> bool:
    """Whether the passages are about the question at all."""
    if not passages:
        return False
    words = content_words(question)
    texts = [set(content_words(" ".join([*p.heading, p.text]))) for p in passages]
    if max(sum(word in held for word in words) for held in texts) >= FEW * max(1, len(words)):
        return True
    nearest = index.search(question, 1, mode="vectors", scope=scope)
    return bool(nearest) and nearest[0].score >= FAR


def written(generator: Generator, question: str, passages: Sequence[Passage], form: str) -> str:
    """What the model writes, greedily."""
    from luthier.data.examples import Message
    from luthier.generation.options import Stopping
    from luthier.models.heads import stop_ids
    from luthier.prompts.prompt import Prompt

    prompt = Prompt(generator.tokenizer, stop_ids=stop_ids(generator.model))
    ids = prompt.ask((Message("user", grounded(question, passages, form)),))
    room = int(getattr(generator.model.config, "max_position_embeddings", 2048)) - len(ids)
    kept = list(passages)
    while room < _NEW_TOKENS and len(kept) > 1:  # the last ones are the least like the question
        kept.pop()
        ids = prompt.ask((Message("user", grounded(question, kept, form)),))
        room = int(getattr(generator.model.config, "max_position_embeddings", 2048)) - len(ids)
    stopping = Stopping(
        ids=prompt.stop_ids, strings=prompt.stop_strings, max_new_tokens=min(_NEW_TOKENS, room)
    )
    return generator.generate([ids], stopping)[0].text


def _asked(found: Grounded, why: str, passages: Sequence[Passage]) -> Asked:
    return Asked(
        found.answer, found.abstained, found.citations, found.support, why, tuple(passages)
    )
