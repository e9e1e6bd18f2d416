"""What an index was made of: folders, and folders within folders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from luthier.errors import InputError
from luthier.retrieval.documents import name_below


def outer(sources: Sequence[str], kept: Sequence[str] = ()) -> list[str]:
    """The sources without those that an earlier one holds, which are read with that; but for those
    that are to be kept."""
    outer: list[str] = []
    for one in sources:
        if one in kept or not any(name_below(Path(root), Path(one)) for root in outer):
            outer.append(one)
    return list(dict.fromkeys(outer))


def must_keep_names(wanted: Sequence[str], sources: Sequence[str], place: object) -> None:
    """Refuse other sources that would give the files of an index other names: labels are by name,
    and would no longer close them.

    Args:
        wanted: sources that are to take the place of those there are; none where these stay.
        sources: of the index.
        place: of the index.

    Raises:
        InputError: one lies within or around another.
    """
    for one in map(Path, wanted):
        if str(one) in sources:
            continue
        for root in map(Path, sources):
            if one.is_relative_to(root) or root.is_relative_to(one):
                raise InputError(
                    f"{one} holds files of {root} under other names, and the labels of {place} "
                    "are by name: who may read them would change.",
                    fix=f"`luthier index update {place}` reads {root} anew; for {one} alone, build "
                    "an index of its own, with labels for its names.",
                )


def second_names(sources: Sequence[str], known: Collection[str]) -> list[str]:
    """Ids of files that an earlier source calls otherwise: in indexes of before 2026-11-27, a
    folder within an indexed one gave its documents names of its own."""
    found = []
    for place, source in enumerate(map(Path, sources)):
        earlier = [Path(one) for one in sources[:place]]
        around = [r for r in earlier if r.is_relative_to(source) or source.is_relative_to(r)]
        for name in known if around else ():
            path = name.partition("#")[0]
            file = source if source.name == path and source.is_file() else source / path
            first = next(filter(None, (name_below(root, file) for root in around)), None)
            if first and first != path and file.is_file():
                found.append(name)
    return sorted(found)


def told_of(double: Sequence[str], place: object, held: Collection[str]) -> str:
    """What is said of second ids.

    Args:
        double: see `second_names`.
        place: of the index.
        held: the ids that it holds now.
    """
    shown = ", ".join(double[:5]) + ", ..." * (len(double) > 5)
    said = f"{len(double)} documents were held under two ids, as a folder within another was added"
    if set(double) & set(held):
        return (
            f"{said}; `luthier index update {place}` takes the second ones out: {shown}. Labels "
            "for their first ids do not hold for these."
        )
    return f"{said}; the second ones were taken out: {shown}."
