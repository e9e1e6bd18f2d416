"""Zip files of documents, looked at before another library opens them."""

from __future__ import annotations

import zipfile
import zlib

from luthier.data.reading import Place
from luthier.errors import InputError

#: Most members, most bytes that they unpack to, and how many times its packed size a large member
#: may unpack to: deflate makes at most 1,032 of one, spreadsheets 10 to 50.
MOST_MEMBERS = 10_000
MOST_BYTES = 2 * 2**30
MOST_TIMES, SMALL = 200, 16 * 2**20


def check_zip(place: Place) -> int:
    """How many bytes the members unpack to.

    zipfile never reads more of a member than its header says, so what the headers say holds.

    Raises:
        InputError: no zip file, or one that unpacks to far more than it is, or XML in it that
            declares a document type (which documents of this kind never do).
    """
    try:
        with zipfile.ZipFile(place.path) as file:
            members = file.infolist()
            total = sum(member.file_size for member in members)
            if len(members) > MOST_MEMBERS or total > MOST_BYTES:
                raise _bomb(place, f"{len(members):,} files of {total:,} bytes")
            for member in members:
                if member.file_size > max(SMALL, MOST_TIMES * member.compress_size):
                    raise _bomb(place, f"a file of {member.file_size:,} bytes")
                if member.filename.lower().endswith((".xml", ".rels", ".vml")):
                    _check_xml(file, member, place)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
    ) as error:
        raise InputError(
            f"{place.shown} cannot be opened as an Excel workbook: {error}.",
            fix="Check that it was copied whole, is not protected by a password, and that its "
            "ending is right.",
        ) from None
    return total


def has_formulas(place: Place) -> bool:
    """Whether any sheet of a workbook holds a formula."""
    with zipfile.ZipFile(place.path) as file:
        for member in file.infolist():
            if "worksheets/" not in member.filename:
                continue
            tail = b""
            with file.open(member) as sheet:
                while block := sheet.read(2**20):
                    data = tail + block
                    if b"<f>" in data or b"<f " in data or b":f>" in data:
                        return True
                    tail = data[-3:]
    return False


def _check_xml(file: zipfile.ZipFile, member: zipfile.ZipInfo, place: Place) -> None:
    tail = b""
    with file.open(member) as part:
        while block := part.read(2**20):
            # without its NULs UTF-16 reads as ASCII
            data = (tail + block).replace(b"\0", b"").upper()
            if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
                raise InputError(
                    f"{place.shown}: {member.filename} in it declares a document type, which "
                    "workbooks never do and which can fill a memory.",
                    fix="Open it in a spreadsheet program and save it again.",
                )
            tail = block[-32:]


def _bomb(place: Place, what: str) -> InputError:
    return InputError(
        f"{place.shown} has {place.path.stat().st_size:,} bytes and unpacks to {what}: it may be "
        "made to fill a machine's memory.",
        fix="If it is yours, save it as csv.",
    )
