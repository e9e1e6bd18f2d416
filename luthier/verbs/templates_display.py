"""How the template library looks in a terminal of eighty columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from luthier.data.instruction_data import Built
from luthier.data.template_evidence import Column
from luthier.data.template_library import LibraryTemplate, Phrasing
from luthier.data.template_matching import Fit
from luthier.data.template_rendering import BoundTemplate, Written
from luthier.data.template_trial import Trial
from luthier.display import out

#: Templates that may fit, and lines of one text, that are shown unless all are asked for.
_FEW, _LINES = 8, 24


def library(groups: Mapping[str, Sequence[LibraryTemplate]]) -> None:
    """All templates by group, one line and a bit each."""
    width = max(len(t.name) for kept in groups.values() for t in kept)
    for group, kept in groups.items():
        out.print(Text(group, style="bold"))
        table = _table(width)
        for one in kept:
            table.add_row(one.name, Text(one.about, style="dim"))
        out.print(Padding(table, (0, 0, 1, 2)))
    count = sum(map(len, groups.values()))
    _dim(
        f"{count} templates. What fits a file: luthier templates list FILE\n"
        "One of them:      luthier templates show NAME"
    )


def fits(
    sentence: str, file: str, columns: Sequence[Column], found: Sequence[Fit], every: bool
) -> None:
    """Which templates fit a file, which may, and, where asked for, what the others lack."""
    rows = columns[0].rows if columns else 0
    out.print(Text(sentence.rstrip(".") + f"; {rows:,} rows looked at."), soft_wrap=False)
    out.print()
    by_level: dict[str, list[Fit]] = {"fits": [], "may fit": [], "no": []}
    for fit in found:
        by_level[fit.level].append(fit)
    width = max((len(fit.template.name) for fit in found), default=0)
    sure, maybe, no = by_level["fits"], by_level["may fit"], by_level["no"]
    out.print(Text("Fits" if sure else "Nothing fits by the names of the columns.", style="bold"))
    _matches(sure, width)
    if maybe:
        shown = maybe if every else maybe[:_FEW]
        out.print(Text("May fit", style="bold"), Text("(guessed from what is in the columns)"))
        _matches(shown, width)
        if len(maybe) > len(shown):
            _dim(f"  and {len(maybe) - len(shown)} more: add --all\n")
    if every and no:
        out.print(Text("Does not fit", style="bold"))
        table = _table(width)
        for fit in no:
            near = [f"{name} (nearest: {column})" for name, column in fit.near.items()]
            rest = [name for name in fit.missing if name not in fit.near]
            table.add_row(fit.template.name, Text("lacks " + ", ".join([*near, *rest]), "dim"))
        out.print(Padding(table, (0, 0, 1, 2)))
    elif no:
        _dim(f"{len(no)} others lack a field; --all says which.")
    if sure or maybe:
        best = (sure or maybe)[0]
        out.print(f"Look at one: luthier templates try {best.template.name} {file}", soft_wrap=True)
    if sure:
        out.print(f"Use them:    luthier templates build {file} --out data.jsonl", soft_wrap=True)


def _matches(found: Sequence[Fit], width: int) -> None:
    table = _table(width)
    for fit in found:
        table.add_row(fit.template.name, Text(_mapping(fit.columns), style="dim"))
    out.print(Padding(table, (0, 0, 1, 2)))


def template(one: LibraryTemplate) -> None:
    """Everything about one template."""
    title = Text(one.name, style="bold")
    title.append(f"  version {one.version}, {one.group}, kind {one.kind}", style="not bold dim")
    out.print(title)
    out.print(Text(one.about))
    out.print()
    table = _table(max(len(name) for name in one.fields))
    for name, field in one.fields.items():
        about = Text(field.about + (" (may be absent)" if name in one.optional else ""))
        if field.also:
            about.append(f"\nalso: {', '.join(field.also)}", style="dim")
        for label, others in (field.values or {}).items():
            about.append(f"\n{label}: written as {', '.join((label, *others))}", style="dim")
        table.add_row(name, about)
    out.print(Text("Fields", style="bold"))
    out.print(Padding(table, (0, 0, 1, 2)))
    if one.choices:
        said = (
            ", ".join(one.choices)
            if isinstance(one.choices, tuple)
            else "the letters of the options"
            if one.choices == "letters"
            else f"what the field {one.choices} holds"
        )
        out.print(Text.assemble(("Choices  ", "bold"), said))
    for _, why in one.unless:
        out.print(Text.assemble(("Left out ", "bold"), f"rows where {why}"))
    if one.answer_in_input:
        out.print(Text.assemble(("Note     ", "bold"), one.answer_in_input))
    if one.choices or one.unless or one.answer_in_input:
        out.print()
    total = sum(phrasing.weight for phrasing in one.phrasings.values())
    for number, phrasing in enumerate(one.phrasings.values(), 1):
        share = f"{phrasing.weight / total:.0%}"
        out.print(Text.assemble((f"{number} {phrasing.name}", "bold"), (f"  {share}", "dim")))
        _block("in ", phrasing.input, "dim")
        _block("out", phrasing.output, "green")
        out.print()
    written = _example(one, one.first)
    if written is not None:
        out.print(Text(f"Example ({one.first.name})", style="bold"))
        _pair(written)


def _example(one: LibraryTemplate, phrasing: Phrasing) -> Written | None:
    from luthier.data.reading import SourceRow

    row = SourceRow(dict(one.example), "the example")
    bound = BoundTemplate(one, {name: name for name in one.fields if name in one.example})
    label = bound.label_of(row)
    if label is not None:
        values = one.fields[str(one.choices)].values
        bound.choose_from(list(values) if values else [label])
    written = bound.write(row, phrasing)
    return written if isinstance(written, Written) else None


def trial(sentence: str, fit: Fit, tried: Trial) -> None:
    """A few rows as the model would read them, and what it should answer."""
    guessed = " (guessed from what is in the columns)" if fit.level == "may fit" else ""
    out.print(Text(sentence), style="dim")
    out.print(Text(f"{fit.template.name}: {_mapping(tried.columns)}{guessed}"))
    out.print()
    for source, written in tried.written:
        out.print(Text.assemble((source, "bold"), (f"  phrasing {written.phrasing}", "dim")))
        _pair(written)
        out.print()
    if tried.left_out:
        out.print(f"Of {tried.looked_at:,} rows looked at, left out:")
        for reason, count in Counter(tried.left_out).most_common():
            detail = f" ({tried.details[reason]})" if reason in tried.details else ""
            out.print(Text(f"  {count:>6,}  {reason}"), Text(detail.strip(), style="dim"))
    if not tried.written:
        out.print("None of the rows could be written.")


def built(
    sentence: str,
    path: Path,
    chosen: Sequence[tuple[LibraryTemplate, Mapping[str, str]]],
    done: Built,
) -> None:
    """How many examples each template made, what was left out, and how to train on it."""
    out.print(Text(sentence), style="dim")
    out.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("template", no_wrap=True)
    table.add_column("kind")
    for column in ("examples", "phrasings", "left out"):
        table.add_column(column, justify="right")
    for one, _ in chosen:
        counted = done.counts[one.name]
        left = sum(done.left_out[one.name].values())
        shown = f"{left:,}" if left else ""
        table.add_row(
            one.name,
            one.kind,
            f"{counted.total():,}",
            f"{len(counted)}",
            shown,
        )
    table.add_row(Text("all", style="bold"), "", Text(f"{done.written:,}", style="bold"), "", "")
    out.print(table)
    out.print()
    for one, columns in chosen:
        out.print(Text(f"{one.name}: {_mapping(columns)}", style="dim"))
        for reason, count in done.left_out[one.name].most_common():
            out.print(Text(f"  {count:,} left out: {reason}", style="yellow"))
    out.print()
    group = f"equal {done.group_by}" if done.group_by else "rows"
    number = f"{done.groups:,}"
    out.print(
        Text(
            f"{done.rows:,} rows became {done.written:,} examples in {number} groups "
            f"({group}); {done.unused:,} rows became none."
        )
    )
    if done.refused.count:
        out.print(Text(f"{done.refused.count:,} rows could not be read:", style="yellow"))
        for reason, count in done.refused.reasons.most_common(5):
            out.print(Text(f"  {count:,}: {reason}", style="yellow"))
    out.print(f"\nWritten: {path}\nTrain on it with, in task.yaml:", soft_wrap=True)
    out.print(
        f"  kind: generation\n  data: {{train: {path.name}, messages: messages, group: group}}",
        soft_wrap=True,
    )


def _pair(written: Written) -> None:
    _block("in ", written.input, "dim")
    _block("out", written.output, "bold green")
    if written.choices is not None:
        few = ", ".join(written.choices[:8]) + f", ... ({len(written.choices)})" * (
            len(written.choices) > 8
        )
        _block("of ", few, "dim")


def _block(label: str, text: str, style: str) -> None:
    """A text behind a mark on each of its lines, so that it is plain where it ends."""
    lines = text.split("\n")
    hidden = len(lines) - _LINES
    if hidden > 1:
        lines = [*lines[:_LINES], f"... {hidden} more lines"]
    for number, line in enumerate(lines):
        head = Table.grid(padding=0)
        head.add_column(width=6, no_wrap=True)
        head.add_column(overflow="fold")
        mark = f"{label if number == 0 else '   '} │ "
        wrapped = Text(line).wrap(out, max(20, out.width - 6))
        for index, piece in enumerate(wrapped or [Text("")]):
            head.add_row(
                Text(mark if index == 0 else "    │ ", style="cyan"),
                Text(piece.plain.rstrip(), style=style),
            )
        out.print(head)


def _table(width: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    return table


def _mapping(columns: Mapping[str, str]) -> str:
    return ", ".join(
        field if field == column else f"{field} = {column}" for field, column in columns.items()
    )


def _dim(text: str) -> None:
    out.print(Text(text, style="dim"))
