"""Row templates: from a row's columns to the text a model reads or writes.

Templates are Jinja in a sandbox (see `sandbox`). What they see: every column by its name, and
`row`, the whole row, for columns whose names are no plain words (`{{ row["Question text"] }}`).
A missing value is empty text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from jinja2 import Template, TemplateSyntaxError, meta
from jinja2.exceptions import SecurityError, TemplateAssertionError, UndefinedError

from luthier.data.annotated import written_column
from luthier.data.reading import MissingColumnError, SourceRow
from luthier.data.sandbox import BUDGET, LIMIT, RowEnvironment, row_values
from luthier.errors import InputError, did_you_mean

#: Longest template that is compiled, in characters.
LONGEST_TEMPLATE = 20_000


@dataclass(frozen=True)
class RowTemplate:
    """A compiled template.

    Attributes:
        text: the template as written.
        where: the key it was written under, for messages ("data.input").
        columns: the names it refers to, sorted. Those it reads through `row` are not among them.
    """

    text: str
    where: str
    columns: tuple[str, ...]
    _template: Template = field(repr=False)

    @property
    def _bare(self) -> bool:
        """Whether it refers to nothing."""
        return not self.columns and "{" not in self.text

    def render(self, row: SourceRow) -> str:
        """The template filled with a row.

        Raises:
            InputError: a column the row does not have, a value that is no text (a list, an
                object), an expression that fails, text over the size cap, or a column's name
                where the column is meant.
        """
        if self._bare and self.text.strip() in row.values:
            name = self.text.strip()
            raise InputError(
                f'`{self.where}` is the plain text "{name}", the same for every row.',
                fix=f'Write "{{{{ {written_column(name)} }}}}" for the column.',
            )
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._template.generate(row_values(row.values)):
                size += len(piece)
                if size > LIMIT:
                    raise InputError(
                        f"`{self.where}` makes a text of over {LIMIT:,} characters from "
                        f"{row.source}.",
                        fix="Leave the long column out, or cut the row into several.",
                    )
                pieces.append(piece)
        except InputError:
            raise
        except UndefinedError as error:
            raise self._undefined(error, row) from None
        except SecurityError as error:
            raise InputError(
                f"`{self.where}` may not do that: {(error.message or '').rstrip('.')}."
            ) from None
        except Exception as error:  # the template's own expressions can raise anything
            message = str(error).rstrip(".") or type(error).__name__
            raise InputError(f"`{self.where}` fails on {row.source}: {message}.") from None
        return "".join(pieces)

    def _undefined(self, error: UndefinedError, row: SourceRow) -> InputError:
        message = (error.message or "something is undefined").rstrip(".")
        name = re.match(r"'(.+)' is undefined$", message)
        if name and name[1] in self.columns:
            return MissingColumnError(self.where, name[1], row)
        inside = re.search(r"has no attribute '(.+)'$", message)
        if inside and "row" in self.columns and "row" not in row.values:
            return MissingColumnError(self.where, inside[1], row)
        return InputError(f"`{self.where}` fails on {row.source}: {message}.")


def compile_template(text: str, where: str) -> RowTemplate:
    """Compile a row template.

    Args:
        text: Jinja.
        where: the key it was written under, for messages.

    Raises:
        InputError: a syntax error, an unknown filter (with the nearest name), or something that
            row templates leave out.
    """
    if len(text) > LONGEST_TEMPLATE:
        raise InputError(f"`{where}` is longer than {LONGEST_TEMPLATE:,} characters.")
    environment = RowEnvironment()
    try:
        tree = environment.parse(text)
        names = meta.find_undeclared_variables(tree)
        template = environment.from_tree(tree)
    except TemplateAssertionError as error:
        message = (error.message or "").rstrip(".")
        filters = [name for name in environment.filters if not name.startswith(" ")]
        unknown = re.search(r"[Nn]o filter named '(.+?)'", message)
        raise InputError(
            f"`{where}`: {message}.",
            fix=did_you_mean(unknown[1], filters) if unknown else "",
        ) from None
    except TemplateSyntaxError as error:
        raise InputError(
            f"`{where}` line {error.lineno}: {(error.message or 'broken Jinja').rstrip('.')}.",
            fix='Columns are written {{ name }}, or {{ row["any name"] }} when not a plain word.',
        ) from None
    except RecursionError:
        raise InputError(f"`{where}` is nested too deeply.") from None
    columns = tuple(sorted(names - set(environment.globals)))
    return RowTemplate(text, where, columns, template)


__all__ = ["BUDGET", "LIMIT", "RowTemplate", "compile_template"]
