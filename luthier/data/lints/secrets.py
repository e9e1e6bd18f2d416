"""Keys, tokens and passwords in the data."""

from __future__ import annotations

from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number
from luthier.data.privacy.finding import LEAST
from luthier.data.privacy.scanning import Tally, scan

#: Confidence from which on a secret is one: an unmistakable form, or random characters behind a
#: name for a key. Short passwords are guessed from their looks and only warned of.
SURE = 0.8
#: Rows with what may be passwords, and their share, below which it is only noted.
FEW_ROWS, FEW = 5, 0.001


@LINTS.register("secrets")
def secrets(context: LintContext) -> Iterator[Finding]:
    """API keys, tokens, private keys, passwords in addresses; passwords that are given a name.

    All rows are searched. No message shows a secret whole.
    """
    sure, doubtful = Tally(), Tally()
    for example, _, spans in scan(context.everything, ["secret"], LEAST):
        sure.add(example, [span for span in spans if span.confidence >= SURE])
        doubtful.add(example, [span for span in spans if span.confidence < SURE])
    if sure.rows:
        yield Finding(
            "secrets",
            "error",
            sure.rows,
            tuple(sure.places),
            f"{number(sure.rows, 'row')} {'holds' if sure.rows == 1 else 'hold'} secrets: "
            f"{sure.listed()}, such as {sure.shown}. A tuned model can be made to say them, and "
            "the run folder keeps a copy of the data.",
            "Revoke them first: they have been in a file that was passed around. Then take them "
            "out: luthier redact FILE --types secret --out NEW.jsonl",
        )
    if doubtful.rows:
        yield Finding(
            "secrets",
            "note" if doubtful.rows < max(FEW_ROWS, FEW * len(context.everything)) else "warning",
            doubtful.rows,
            tuple(doubtful.places),
            f"{number(doubtful.rows, 'row')} {'holds' if doubtful.rows == 1 else 'hold'} what "
            f"looks like {doubtful.listed()}, such as {doubtful.shown}. A tuned model can be made "
            "to say them.",
            "Look at the rows. If they are real: change them where they are used, and take them "
            "out with luthier redact FILE --types secret --out NEW.jsonl",
        )
