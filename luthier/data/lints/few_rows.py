"""Splits too small to tell anything from."""

from __future__ import annotations

import math
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number

#: Test rows below which differences between arms are mostly chance.
FEW_TEST = 100
#: With fewer than these no interval is worth a number.
_A_HANDFUL = 10
#: Training rows below which training mostly teaches form.
FEW_TRAIN = 50


@LINTS.register("few_rows")
def few_rows(context: LintContext) -> Iterator[Finding]:
    """A test or a training split with few rows."""
    test, train = len(context.splits.test), len(context.splits.train)
    if test < FEW_TEST:
        # half the width of a 95 % normal interval for a rate of one half: 1.96 sqrt(.25 / n)
        width = 100 * 0.98 / math.sqrt(test) if test else 100
        uncertain = "a score on so few says next to nothing"
        if test >= _A_HANDFUL:
            uncertain = (
                f"a score near 50 % is then uncertain by about {width:.0f} points either way"
            )
        yield Finding(
            "few_rows",
            "warning" if test < FEW_TEST / 2 else "note",
            test,
            (),
            f"The test has {number(test, 'row')}: {uncertain}, and the verdict will often be "
            "'undecided'.",
            "Add test rows: 200 tell differences of about 10 points apart, 1,000 of 3.",
        )
    if train < FEW_TRAIN:
        yield Finding(
            "few_rows",
            "note",
            train,
            (),
            f"There {'is' if train == 1 else 'are'} {number(train, 'training row')}: enough for "
            "examples in a prompt, few for training.",
            "Add rows when you can; a few hundred are a good start.",
        )
