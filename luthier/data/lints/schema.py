"""Outputs that break the schema the task gives."""

from __future__ import annotations

import json
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, number, shortened, sources
from luthier.data.schemas import AnswerSchema, given_schema


@LINTS.register("schema")
def schema(context: LintContext) -> Iterator[Finding]:
    """Outputs of any split that are not valid against the task's `schema`."""
    given = given_schema(context.task)
    if given is None:
        return
    held = AnswerSchema(given, given=True)
    broken, first = [], ""
    for example in context.everything:
        try:
            problem = held.problem(json.loads(example.output))
        except (ValueError, RecursionError):
            problem = "it is not JSON"
        if problem is not None:
            broken.append(example)
            first = first or problem
    if broken:
        one = len(broken) == 1
        yield Finding(
            "schema",
            "error",
            len(broken),
            sources(broken),
            f"{number(len(broken), 'output')} {'breaks' if one else 'break'} the task's schema, "
            f"the first so: {shortened(first, 160)}. An arm that learned from such rows would "
            "write answers that are then counted as invalid.",
            "Correct the outputs, or let the schema allow them.",
        )
