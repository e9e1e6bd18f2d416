"""Share of structured answers that are valid against a JSON schema (`data/schemas.py`).

Where the task gives the schema, an answer that breaks it is an invalid one, too, as one that is no
JSON is.
"""

from __future__ import annotations

from luthier.evaluation.metrics.fields import schema_problems
from luthier.evaluation.scoring import RowMean, ScoringRows, offer


class SchemaValid(RowMean):
    """Share of answers that are JSON and valid against the schema.

    It describes and does not decide: an answer may have the right form and be wrong throughout.
    """

    name, title, binary, decides = "schema_valid", "valid against the schema", True, False
    kinds = frozenset({"extraction"})

    def applies(self, rows: ScoringRows) -> bool:
        """Whether there is a schema."""
        return rows.schema is not None

    def scores(self, rows: ScoringRows) -> list[float]:
        """1 for an answer that is valid."""
        return [float(problem is None) for problem in schema_problems(rows)]


offer(SchemaValid())
