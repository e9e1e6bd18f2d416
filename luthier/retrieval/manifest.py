"""index.json: what an index is, and which versions of its tables belong together.

It is the only thing that is ever replaced, and it is replaced whole. A reader opens it once and
reads the versions that it names, whatever a writer does meanwhile; a writer that is killed leaves
tables that nobody names.
"""

from __future__ import annotations

import datetime
import json
import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.errors import InputError
from luthier.retrieval.chunks import Chunking
from luthier.retrieval.places import NAME, Place, Turn, place_at

#: Raised when an older reader could not read what is written.
FORMAT = 1


#: A folder, an address, or the place itself.
Where = str | Path | Place


class Change(BaseModel):
    """One version of an index, and what it changed."""

    model_config = ConfigDict(extra="forbid")

    version: int
    time: str
    action: str
    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    documents: int
    chunks: int
    tables: dict[str, int]


class Manifest(BaseModel):
    """What index.json holds.

    Attributes:
        encoder: name of the model that made the vectors, and their length.
        chunking: how documents were cut.
        sources: what was indexed, absolute paths.
        labels: the file that labels documents, if one was given.
        history: every version, the oldest first; the last is the one that is read.
    """

    model_config = ConfigDict(extra="forbid")

    luthier_index: int = FORMAT
    encoder: str
    dimension: int
    chunking: dict[str, int]
    sources: list[str] = Field(default_factory=list)
    labels: str | None = None
    history: list[Change] = Field(default_factory=list)

    @property
    def now(self) -> Change:
        """The version that is read."""
        return self.history[-1]

    def changed(self, action: str, tables: dict[str, int], **counts: int) -> Manifest:
        """The next version."""
        number = self.history[-1].version + 1 if self.history else 1
        stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        change = Change(version=number, time=stamp, action=action, tables=tables, **counts)
        return self.model_copy(update={"history": [*self.history, change]})

    def must_match(self, encoder: str, chunking: Chunking, folder: Where) -> None:
        """Refuse another encoder or chunking than the index was made with.

        Raises:
            InputError: with the command that builds it anew.
        """
        labels = ["--labels", self.labels] if self.labels else []
        again = ["luthier", "index", "build", *self.sources, "--out", f"{folder}-new", *labels]
        again += ["--encoder", encoder]
        again += ["--size", str(chunking.size), "--overlap", str(chunking.overlap)]
        fix = f"Build it anew: {shlex.join(again)}"
        if encoder != self.encoder:
            raise InputError(
                f"{folder} was made with the encoder {self.encoder}, not {encoder}: their vectors "
                "cannot be compared.",
                fix=fix,
            )
        if chunking.to_dict() != self.chunking:
            raise InputError(
                f"{folder} holds passages of {self.chunking['size']} characters that overlap by "
                f"{self.chunking['overlap']}, not {chunking.size} and {chunking.overlap}.",
                fix=fix,
            )


def must_fit(encoder: Any, manifest: Manifest, folder: Where) -> None:
    """Refuse an encoder whose vectors are of another length: a folder may hold another model than
    it did.

    Raises:
        InputError: with what to do.
    """
    width = int(encoder.model.config.hidden_size)
    if width != manifest.dimension:
        raise InputError(
            f"{folder} holds vectors of length {manifest.dimension}, and {manifest.encoder} makes "
            f"vectors of length {width} now.",
            fix="Put the encoder back that it was made with, or build the index anew.",
        )


def read_manifest(where: Where) -> Manifest:
    """The manifest of an index.

    Raises:
        InputError: there is none, or of a newer format.
    """
    place = place_at(where)
    data = place.read(NAME)
    if data is None:
        raise InputError(
            f"{place} is no index.", fix=f"Make one: luthier index build DOCUMENTS --out {place}"
        )
    try:
        held = json.loads(data)
    except ValueError as error:  # UnicodeDecodeError is one
        raise InputError(f"{place}/{NAME} is not valid JSON: {error}.") from None
    if isinstance(held, dict) and held.get("luthier_index", 0) > FORMAT:
        raise InputError(
            f"{place} was written by a newer version of Luthier.", fix="Update Luthier."
        )
    try:
        return Manifest.model_validate(held)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{place}/{NAME} is damaged: {at}: {first['msg']}.") from None


def write_manifest(turn: Turn, manifest: Manifest) -> None:
    """Replace it, whole."""
    value = manifest.model_dump(mode="json")
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    turn.replace(text.encode("utf-8", errors="replace"))


def writing(where: Where) -> AbstractContextManager[Turn]:
    """The only writer of an index, while the block lasts.

    Raises:
        InputError: another process writes it.
    """
    return place_at(where).writing()


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Metadata as JSON can hold it."""
    return {k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in values.items()}
