"""The question without the documents: what the model knows by itself."""

from __future__ import annotations

from luthier.arms.base import ARMS
from luthier.arms.grounded import without_documents
from luthier.arms.zero_shot import ZeroShot
from luthier.task import Task


@ARMS.register("closed-book")
class ClosedBook(ZeroShot):
    """As zero-shot, by the name it has beside arms that read documents."""

    name = "closed-book"
    title = "Prompt without documents"
    order = 21

    def unsuited(self, task: Task) -> str | None:
        """See `Arm.unsuited`."""
        return without_documents(self.name, task)
