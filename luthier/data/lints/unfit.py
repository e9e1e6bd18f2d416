"""The judgement that several signs make together: should anybody train on this at all?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luthier.data.linting import COMBINED, LINTS, Finding, LintContext, shortened, sources
from luthier.data.lints import brevity, deferrals, relatedness, target_use

#: What the message begins with, and what a terminal and a report look for.
SENTENCE = "Do not fine-tune on this"
#: The lints that the signs are taken from.
SIGNS = frozenset({"brevity", "deferrals", "relatedness", "target_use", "wanted_length"})
#: How many signs must agree.
AGREE = 3
#: The share of outputs of at most three words that counts as a sign where no length is asked for.
CURT = 0.1


@dataclass(frozen=True)
class Sign:
    """One reason not to train: what was looked at, and the evidence in numbers."""

    name: str
    evidence: str


@LINTS.register(COMBINED)
def unfit(context: LintContext) -> Iterator[Finding]:
    """Data that would teach something else than what is wanted.

    Four signs are looked at: outputs unlike those wanted, outputs far shorter than asked for,
    outputs that only acknowledge or put off, and answers that hardly depend on their prompt. Each
    alone can be right for some task. Where three agree, and something says what is wanted
    (`wanted`, or a length in the instruction; else the three that need neither), a trained model
    would be worse than an untrained one.
    """
    signs = signs_of(context)
    if len(signs) < AGREE:
        return
    rows = _worst(context)
    listed = " ".join(f"({n}) {sign.evidence}" for n, sign in enumerate(signs, 1))
    yield Finding(
        COMBINED,
        "error",
        len(context.splits.train),
        rows,
        f"{SENTENCE}: {len(signs)} of 4 signs say that it teaches something else than "
        f"{_wish(context)}. {listed} A model trained on these rows learns to reply as they do.",
        "Collect rows in which the prompt is what will be asked and the output is what you want, "
        "written out (a few dozen do for a prompt with examples, a few hundred for training). "
        "These rows can still serve as `documents` for retrieval.",
    )


def signs_of(context: LintContext) -> list[Sign]:
    """The signs that are there, the plainest first."""
    signs = []
    length = brevity.measure(context)
    if length is not None and length.asked is not None and length.short > 0.5:
        signs.append(
            Sign(
                "brevity",
                f"Brevity: outputs have {length.typical:g} words in the middle, and "
                f"{length.by} {length.asked:,.0f}; {length.short:.0%} have less than half.",
            )
        )
    elif length is not None and length.asked is None and length.curt > CURT:
        signs.append(
            Sign(
                "brevity",
                f"Brevity: {length.curt:.0%} of the outputs have at most {brevity.FEW} words.",
            )
        )
    put_off = deferrals.measure(context)
    if put_off is not None and put_off.share > deferrals.MANY:
        first = put_off.rows[0]
        signs.append(
            Sign(
                "deferrals",
                f"Deferrals: {len(put_off.rows):,} of {put_off.of:,} outputs ({put_off.share:.1%}) "
                f"only acknowledge, put off or refuse, such as {shortened(first.output)!r}.",
            )
        )
    near = relatedness.measure(context)
    if near is not None and near.loose:
        signs.append(Sign("relatedness", f"Unrelated replies: {relatedness.in_words(near)}"))
    target = target_use.measure(context)
    if target is not None and target.mismatch:
        signs.append(Sign("target_use", f"Target mismatch: {target_use.in_words(target)}"))
    return signs


def _wish(context: LintContext) -> str:
    instruction = shortened(context.task.instruction, 70)
    return f"{instruction!r} asks for" if instruction else "what is wanted"


def _worst(context: LintContext) -> tuple[str, ...]:
    """Rows to look at first: those that put off, then those least like what is wanted."""
    put_off = deferrals.measure(context)
    rows = list(sources(put_off.rows)[:10]) if put_off else []
    near = relatedness.measure(context)
    more = sources(near.loosest) if near else ()
    return tuple(dict.fromkeys([*rows, *more]))[:20]
