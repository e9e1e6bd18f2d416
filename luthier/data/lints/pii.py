"""Personal data: what points at one person, one account or one machine."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, Severity, number
from luthier.data.privacy.finding import find_many
from luthier.data.privacy.scanning import Tally, scan
from luthier.data.privacy.spans import Span, words

#: Confidence from which on something is counted. What is kept for examples (example.com, test
#: cards, 555-01xx, private networks) lies below it.
COUNTED = 0.7
#: Numbers of accounts and of papers: one of them is enough for harm.
ACCOUNTS = words("CREDIT_CARD IBAN US_SSN NATIONAL_ID PASSPORT DRIVER_LICENSE")
CONTACTS = words("EMAIL PHONE ADDRESS IP_ADDRESS MAC_ADDRESS DATE_OF_BIRTH CRYPTO_WALLET")
#: Alone they are as often a company's, or of somebody who is known ("born on March 14, 1879").
PUBLIC = frozenset({"ADDRESS", "DATE_OF_BIRTH"})
#: The share of rows with nothing but these from which on they are warned of all the same.
MUCH = 0.02
#: Confidence (a checksum, in a fitting context) from which on an account number that the model
#: would learn to write stops a check.
CERTAIN = 0.9
#: Kinds of task whose outputs repeat what stands in the input, so that such numbers are meant.
REPEATING = frozenset({"ner", "extraction"})
#: Rows with contacts, and their share, below which it is only noted: a public address or two.
FEW_ROWS, FEW = 5, 0.001
#: Names are looked for in at most so many rows that hold something else, and in a sample.
MOST_NAMED, NAME_SAMPLE = 2_000, 3_000
_INTRODUCTIONS = frozenset({"behind what introduces it", "behind 'my name is'"})
#: The share of rows with people who are introduced ("my name is ...") from which on it is noted.
INTRODUCED = 0.02
_ROLES = words(
    "info contact support sales help office admin service hello mail press jobs careers team "
    "noreply no-reply webmaster postmaster enquiries inquiries feedback marketing billing"
)


@LINTS.register("pii")
def pii(context: LintContext) -> Iterator[Finding]:
    """Account numbers with checksums, contact data; names only beside these, or introduced.

    A name alone is no finding: "Who wrote Dracula?" is about a person and harms nobody. All rows
    are searched for identifiers; for names a sample.
    """
    trained_inputs = context.task.training.loss_on == "all"
    learned, private, public = Tally(), Tally(), Tally()
    beside: list[str] = []
    for name, examples in context.splits.items():
        for example, where, spans in scan(examples, ACCOUNTS | CONTACTS, COUNTED):
            counted = [span for span in spans if not _of_a_role(span)]
            written = name == "train" and (where == "output" or trained_inputs)
            sure = [
                span
                for span in counted
                if written and span.type in ACCOUNTS and span.confidence >= CERTAIN
            ]
            rest = [span for span in counted if span not in sure]
            learned.add(example, sure)
            if all(span.type in PUBLIC for span in rest):
                public.add(example, rest)
            else:
                private.add(example, rest)
                if len(beside) < MOST_NAMED:
                    beside.append(example.output if where == "output" else example.input)
    if learned.rows:
        yield _finding(
            learned,
            "warning" if context.task.kind in REPEATING else "error",
            f"{number(learned.rows, 'training row')} {_has(learned.rows)} numbers that the model "
            f"would learn to write: {learned.listed()}, such as {learned.shown}.",
        )
    total = len(context.everything)
    if private.rows:
        few = private.rows < max(FEW_ROWS, FEW * total)
        yield _finding(
            private,
            "note" if few and not ACCOUNTS & private.types.keys() else "warning",
            f"{number(private.rows, 'row')} {_has(private.rows)} personal data: "
            f"{private.listed()}{_names_beside(beside)}, such as {private.shown}. A tuned model "
            "can repeat them, and whoever gets the data or the run folder has them.",
        )
    if public.rows:
        yield _finding(
            public,
            "warning" if public.rows >= max(FEW_ROWS, MUCH * total) else "note",
            f"{number(public.rows, 'row')} {_has(public.rows)} {public.listed()}, which may be "
            f"private or not, such as {public.shown}.",
        )
    yield from _introduced(context)


def _finding(tally: Tally, severity: Severity, message: str) -> Finding:
    return Finding(
        "pii",
        severity,
        tally.rows,
        tuple(tally.places),
        message,
        "If they are not public: luthier redact FILE --out NEW.jsonl --map MAP replaces them by "
        "pseudonyms, and --undo brings them back.",
    )


def _introduced(context: LintContext) -> Iterator[Finding]:
    """People who say their names, in a sample of the training rows."""
    sample = context.sample("train", NAME_SAMPLE)
    people = Tally()
    for example, _, spans in scan(sample.examples, ["PERSON"], COUNTED):
        people.add(example, [s for s in spans if s.evidence in _INTRODUCTIONS])
    if people.rows >= FEW_ROWS and people.rows >= INTRODUCED * len(sample.examples):
        yield Finding(
            "pii",
            "note",
            people.rows,
            tuple(people.places),
            f"{number(people.rows, 'training row')}{sample.said} "
            f"{'introduces' if people.rows == 1 else 'introduce'} people by name, such as "
            f"{people.shown}.",
            "If they are real and private: luthier redact FILE --types PERSON --out NEW.jsonl "
            "--map MAP",
        )


def _of_a_role(span: Span) -> bool:
    """Whether an e-mail address is a desk's and nobody's own."""
    return span.type == "EMAIL" and span.text.partition("@")[0].lower() in _ROLES


def _names_beside(texts: list[str]) -> str:
    found = find_many(texts, types=["PERSON", "ADDRESS"], least=0.6)
    named = sum(any(span.type == "PERSON" for span in spans) for spans in found)
    if not named:
        return ""
    share = "all" if named == len(texts) else f"{named:,} of {len(texts):,}"
    return f" ({share} of these texts name a person too)"


def _has(count: int) -> str:
    return "holds" if count == 1 else "hold"
