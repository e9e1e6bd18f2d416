"""An index behind the server, without a run: what `luthier ask` answers, with its citations."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from luthier.arms.base import Answerer, Progress
from luthier.arms.grounded import cited, look_again, passage_of, question_of
from luthier.data.examples import Conversation
from luthier.generation.answers import Answer
from luthier.generation.local import Generator
from luthier.generation.options import AnswerOptions, Sampling, Stopping
from luthier.retrieval.asking import ask
from luthier.retrieval.index import Index
from luthier.retrieval.passages import OPEN, Scope


class IndexAnswerer(Answerer):
    """Answers questions from the documents of an index, as it is when they are asked.

    Args:
        name: model id.
        index: of the documents.
        generator: of the model that reads.
        scope: what is read where a question comes without groups.
        k: passages that the model is given.
        quote: whether a sentence of a document may stand in for the model's own words.
    """

    generates = True

    def __init__(
        self,
        name: str,
        index: Index,
        generator: Generator,
        scope: Scope = OPEN,
        k: int = 3,
        *,
        quote: bool = True,
    ) -> None:
        self.name = name
        self.index, self.generator, self.scope, self.k = index, generator, scope, k
        self.quote = quote

    def answer(
        self,
        conversations: Sequence[Conversation],
        options: AnswerOptions | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """See `Answerer.answer`."""
        options = options or AnswerOptions()
        scope = self.scope
        if options.groups is not None:
            scope = replace(scope, groups=options.groups)
        said = []
        look_again(self.index, self.name)
        for conversation in conversations:
            said.append(self._answer(conversation, options, scope))
            if progress:
                progress(1)
        return said

    def _answer(self, conversation: Conversation, options: AnswerOptions, scope: Scope) -> Answer:
        began = time.perf_counter()
        reader: Any = _Reader(self.generator, options)
        asked = ask(
            self.index,
            question_of(conversation),
            reader,
            k=self.k,
            scope=scope,
            before=conversation[:-1],
            quote=self.quote,
        )
        read = reader.answer
        return Answer(
            asked.answer,
            seconds=time.perf_counter() - began,
            prompt_tokens=read.prompt_tokens if read else 0,
            completion_tokens=read.completion_tokens if read else 0,
            # a sentence of a document is whole, whatever the model's own words were
            finish_reason=read.finish_reason if read and not asked.quoted else "stop",
            extra={
                "passages": [passage_of(passage) for passage in asked.passages],
                "citations": [cited(citation, asked.passages) for citation in asked.citations],
                "abstained": asked.abstained,
                "support": asked.support,
                "quoted": asked.quoted,
                "index_version": self.index.version,
            },
        )


class _Reader:
    """A generator that writes as a request wishes, and keeps what it wrote."""

    def __init__(self, generator: Generator, options: AnswerOptions) -> None:
        self.model, self.tokenizer = generator.model, generator.tokenizer
        self._generator, self._options = generator, options
        self.answer: Answer | None = None

    def generate(self, prompts: Sequence[Sequence[int]], stopping: Stopping) -> list[Answer]:
        """See `Generator.generate`."""
        wish = self._options
        wanted = wish.max_new_tokens or stopping.max_new_tokens
        stopping = replace(
            stopping,
            strings=(*stopping.strings, *wish.stop),
            max_new_tokens=min(wanted, stopping.max_new_tokens),
        )
        sampling = Sampling(
            0.0 if wish.temperature is None else wish.temperature,
            1.0 if wish.top_p is None else wish.top_p,
            wish.seed or 0,
        )
        answers = self._generator.generate(prompts, stopping, sampling)
        self.answer = answers[0]
        return answers
