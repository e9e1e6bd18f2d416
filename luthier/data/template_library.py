"""Row templates for the column names that public data sets use: `data.template: NAME`."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.errors import InputError, did_you_mean


@dataclass(frozen=True)
class LibraryTemplate:
    """How rows of a known shape become an input and an output.

    Attributes:
        name: what the task file calls it.
        about: which columns it expects, for people.
        input: Jinja over a row.
        output: Jinja over a row.
    """

    name: str
    about: str
    input: str
    output: str


TEMPLATES: dict[str, LibraryTemplate] = {}


def _offer(name: str, about: str, input: str, output: str) -> None:
    TEMPLATES[name] = LibraryTemplate(name, about, input, output)


def library_template(name: str) -> LibraryTemplate:
    """The template called `name`.

    Raises:
        InputError: no such template; the message suggests the nearest name.
    """
    if name not in TEMPLATES:
        raise InputError(
            f"`data.template` is {name!r}, which is not in the library.",
            fix=did_you_mean(name, TEMPLATES),
        )
    return TEMPLATES[name]


_offer(
    "alpaca",
    "instruction, output, and an input that may be empty or absent (Stanford Alpaca)",
    "{{ instruction }}{% if input is defined and input %}\n\n{{ input }}{% endif %}",
    "{{ output }}",
)
_offer(
    "squad-with-context",
    "context, question, and answers.text (SQuAD) or answer; no answers: 'unanswerable'",
    "{{ context }}\n\nQuestion: {{ question }}",
    "{% if answers is defined %}{{ answers.text[0] if answers.text else 'unanswerable' }}"
    "{% else %}{{ answer }}{% endif %}",
)
_offer("prompt-completion", "prompt, completion", "{{ prompt }}", "{{ completion }}")
_offer("prompt-response", "prompt, response", "{{ prompt }}", "{{ response }}")
_offer("question-answer", "question, answer", "{{ question }}", "{{ answer }}")
_offer("text-label", "text, label", "{{ text }}", "{{ label }}")
_offer("document-summary", "document, summary", "{{ document }}", "{{ summary }}")
_offer(
    "tokens-tags",
    "tokens and BIO tags as names: lists, JSON lists, or words with spaces between",
    "{{ tokens if tokens is string else tokens | join(' ') }}",
    "{{ tokens | entities(tags) }}",
)
