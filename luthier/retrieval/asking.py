"""One question to an index: passages, an answer that rests on them, or that they do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.retrieval.grounding import (
    FORM,
    NOT_FOUND,
    Citation,
    grounded,
    read_answer,
    support_of,
)
from luthier.retrieval.passages import OPEN, Passage, Scope
from luthier.retrieval.quoting import nearest_sentence

if TYPE_CHECKING:
    from luthier.data.examples import Conversation
    from luthier.generation.local import Generator
    from luthier.retrieval.index import Index

#: How near the nearest sentence must be for the passages to be about the question at all
#: (`nearest_sentence`), and the share of an answer's content words that this sentence must hold
#: for the model's own words to pass. Chosen on half of the articles of SQuAD 2.0, with the
#: embedded model (benchmarks/asking.py, benchmarks/RESULTS.md).
ABOUT = 0.38
LEAST_SUPPORT = 1.0
_NEW_TOKENS = 48


@dataclass(frozen=True)
class Asked:
    """What came of a question.

    Attributes:
        answer: see `Grounded.answer`.
        why: of an abstention: "nothing relevant", "the model says so", "not supported".
        passages: that the model read.
        quoted: whether the answer is a sentence of a document as it stands there, because the
            model's own words did not pass.
    """

    answer: str
    abstained: bool
    citations: tuple[Citation, ...]
    support: float
    why: str
    passages: tuple[Passage, ...]
    quoted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """What `luthier ask --json` prints."""
        return {
            "answer": self.answer,
            "abstained": self.abstained,
            "quoted": self.quoted,
            "citations": [citation.to_dict() for citation in self.citations],
        }


def ask(
    index: Index,
    question: str,
    generator: Generator,
    *,
    k: int = 3,
    scope: Scope = OPEN,
    form: str = FORM,
    about: float = ABOUT,
    least_support: float = LEAST_SUPPORT,
    quote: bool = True,
    before: Conversation = (),
) -> Asked:
    """Ask a model what the documents say.

    The sentence of the passages that is nearest to the question decides whether they are about it.
    What the model writes passes where that sentence holds it; where it does not, the sentence
    itself is the answer, or, without `quote`, there is none. Small models read badly, and a
    sentence of a document is never made up.

    Args:
        index: of the documents.
        question: one.
        generator: of the model that reads.
        k: passages that it is given.
        scope: what may be read.
        form: how it is asked, a name in `FORMS`.
        about: see `ABOUT`; 0 takes any passage for relevant.
        least_support: see `LEAST_SUPPORT`.
        quote: whether a sentence may stand in for the model's words.
        before: turns that the model reads in front of the question; nothing is searched for them.

    Raises:
        PromptTooLongError: the question does not fit the model, with a passage beside it.
    """
    passages = index.search(question, k, scope=scope)
    nearest = nearest_sentence(index.encoder, question, passages)
    if nearest is None or nearest[0] < about:
        return _silent("nothing relevant", passages)
    sentence = nearest[1]
    found = read_answer(written(generator, question, passages, form, before), passages)
    if found.abstained:
        return _silent("the model says so", passages)
    citations = found.citations
    passes = bool(citations) and support_of(found.answer, sentence.text) >= least_support
    if passes:
        # where the model's words stand: what was cited, and the sentence where that was not
        citations = tuple(dict.fromkeys([sentence, *citations]))
    elif quote:
        citations = (sentence,)
    else:
        return _silent("not supported", passages)
    for citation in citations:  # offsets count characters of the document that is kept
        kept = index.text_of(citation.document, scope=scope)
        if kept is None or kept[citation.start : citation.end] != citation.text:
            return _silent("not supported", passages)
    answer, support = (found.answer, found.support) if passes else (sentence.text, 1.0)
    return Asked(answer, False, citations, support, "", tuple(passages), quoted=not passes)


def written(
    generator: Generator,
    question: str,
    passages: Sequence[Passage],
    form: str,
    before: Conversation = (),
) -> str:
    """What the model writes, greedily."""
    from luthier.data.examples import Message
    from luthier.generation.options import PromptTooLongError, Stopping
    from luthier.models.heads import stop_ids
    from luthier.prompts.prompt import Prompt

    prompt = Prompt(generator.tokenizer, stop_ids=stop_ids(generator.model))
    ids = prompt.ask(
        (
            *before,
            Message("user", grounded(question, passages, form)),
        )
    )
    room = int(getattr(generator.model.config, "max_position_embeddings", 2048)) - len(ids)
    kept = list(passages)
    while room < _NEW_TOKENS and len(kept) > 1:  # the last ones are the least like the question
        kept.pop()
        ids = prompt.ask(
            (
                *before,
                Message("user", grounded(question, kept, form)),
            )
        )
        room = int(getattr(generator.model.config, "max_position_embeddings", 2048)) - len(ids)
    if room < 1:
        raise PromptTooLongError(len(ids), len(ids) + room)
    stopping = Stopping(
        ids=prompt.stop_ids, strings=prompt.stop_strings, max_new_tokens=min(_NEW_TOKENS, room)
    )
    return generator.generate([ids], stopping)[0].text


def _silent(why: str, passages: Sequence[Passage]) -> Asked:
    return Asked(NOT_FOUND, True, (), 1.0, why, tuple(passages))
