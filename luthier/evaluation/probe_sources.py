"""Where probes come from: the project itself, files in the usual formats, tasks of lm-eval.

A source is named in the task file under `forgetting.probes`:

    general         the questions and passages that come with the project
    probes/x.jsonl  a file of rows; a folder stands for all files in it
    lm-eval:piqa    a task of lm-eval, where the library is installed and its data can be reached

A row of a file is one of

    {query, choices, gold}              a question; gold is the index of the right choice
    {context_options, continuation, gold}   ways to begin, one of which goes on as given
    {context, continuation}             right where the model would write just that continuation
    {text}                              general text, measured in bits per byte

A query and its choice are put together by `delimiter` where the row has one. Else a query that
begins with "Question:" is followed by a line "Answer:", as in lm-eval and MosaicML's gauntlet, and
any other by a space.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from luthier.data.reading import SourceRow, endings, read_rows
from luthier.errors import InputError
from luthier.evaluation.probe_items import Gap, Passage, Probe, Probes, spread

GENERAL = "general"
LM_EVAL = "lm-eval:"

_FORMS = (
    "{query, choices, gold}, {context_options, continuation, gold}, {context, continuation} "
    "or {text}"
)


def general_probes() -> tuple[Probe, ...]:
    """The questions that come with the project."""
    return tuple(
        Probe(r["id"], r["area"], r["query"], tuple(r["choices"]), r["gold"])
        for r in _own("general.jsonl")
    )


def general_passages() -> tuple[Passage, ...]:
    """The texts that come with the project."""
    return tuple(Passage(r["id"], r["area"], r["text"]) for r in _own("text.jsonl"))


def read_probes(sources: Sequence[str], base: Path, limit: int | None = None) -> Probes:
    """The probes of all sources.

    Args:
        sources: as described above.
        base: where relative paths start.
        limit: the most items of one file or task; they are taken at even distances.

    Raises:
        InputError: a source is missing, broken or named twice; lm-eval is not installed or has no
            such task, or its data cannot be had.
    """
    found = Probes()
    for name in dict.fromkeys(sources):
        if name == GENERAL:
            found += Probes(questions=general_probes(), passages=general_passages())
        elif name.startswith(LM_EVAL):
            from luthier.evaluation.lm_eval_tasks import lm_eval_probes

            found += lm_eval_probes(name.removeprefix(LM_EVAL), limit)
        else:
            for file in _files(name, base):
                found += _of_file(file, base, limit)
    return found


def anchored_sources(sources: Sequence[str], base: Path) -> list[str]:
    """The sources with the paths of files and folders made absolute."""
    named = [name == GENERAL or name.startswith((LM_EVAL, "hub:")) for name in sources]
    return [
        name if known else str((base / Path(name).expanduser()).absolute())
        for name, known in zip(sources, named, strict=True)
    ]


def _own(name: str) -> list[dict[str, Any]]:
    text = (resources.files("luthier.evaluation") / "probes" / name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _files(name: str, base: Path) -> list[str]:
    """The files of a folder, or the file itself."""
    folder = base / Path(name).expanduser()
    if not folder.is_dir():
        return [name]
    known = set(endings())
    files = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in known and p.is_file())
    if not files:
        raise InputError(
            f"`forgetting.probes`: {name} holds no file of rows.",
            fix=f"Put .jsonl files with rows {_FORMS} into it.",
        )
    return [f"{name.rstrip('/')}/{file}" for file in files]


def _of_file(name: str, base: Path, limit: int | None) -> Probes:
    area = Path(name).stem
    rows = read_rows(name, base)
    numbered = spread(list(enumerate(rows, 1)), limit)
    items = [_item(row, f"{area}-{number}", area) for number, row in numbered]
    notes = (f"{name}: {len(items):,} of {len(rows):,} rows are asked.",)
    return Probes(
        tuple(item for item in items if isinstance(item, Probe)),
        tuple(item for item in items if isinstance(item, Gap)),
        tuple(item for item in items if isinstance(item, Passage)),
        notes if len(items) < len(rows) else (),
    )


def _item(row: SourceRow, name: str, area: str) -> Probe | Gap | Passage:
    values = row.values
    if "query" in values:
        query = _text(row, "query")
        between = _delimiter(row, query)
        choices = _texts(row, "choices")
        # the delimiter stands in place of white space at the end
        query = query.rstrip() if between[:1].isspace() else query
        return Probe(name, area, query, choices, _gold(row, len(choices)), between)
    if "context_options" in values:
        contexts = _texts(row, "context_options")
        continuation = (_text(row, "continuation"),) * len(contexts)
        between = _delimiter(row, "")
        gold = _gold(row, len(contexts))
        return Probe(name, area, "", continuation, gold, between, contexts)
    if "context" in values:
        return Gap(
            name,
            area,
            _text(row, "context").rstrip(),
            _delimiter(row, "") + _text(row, "continuation").lstrip(),
        )
    if "text" in values:
        return Passage(name, area, _text(row, "text"))
    raise InputError(
        f"{row.source}: no probe: its columns are {', '.join(sorted(values)) or 'none'}.",
        fix=f"A row of probes is {_FORMS}.",
    )


def _delimiter(row: SourceRow, query: str) -> str:
    given = row.values.get("delimiter")
    if isinstance(given, str):
        return given
    return "\nAnswer: " if query.startswith("Question:") else " "


def _text(row: SourceRow, key: str) -> str:
    value = row.values.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{row.source}: `{key}` is {_shown(value)}, and a text is expected.")
    return value


def _texts(row: SourceRow, key: str) -> tuple[str, ...]:
    value = row.values.get(key)
    texts = value if isinstance(value, list) else []
    if len(texts) < 2 or not all(isinstance(one, str) and one.strip() for one in texts):
        raise InputError(
            f"{row.source}: `{key}` is {_shown(value)}, and a list of two texts at least is "
            "expected."
        )
    return tuple(texts)


def _gold(row: SourceRow, count: int) -> int:
    value = row.values.get("gold")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise InputError(
            f"{row.source}: `gold` is {_shown(value)}, and the index of the right choice is "
            f"expected, 0 to {count - 1}."
        )
    return value


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    said = json.dumps(value, ensure_ascii=False, default=str)
    return said if len(said) <= 60 else said[:57] + "..."
