"""YAML that a person wrote: read strictly, and every mistake named with its line.

YAML itself is lenient where a person would want to know: of a key given twice it keeps the last,
and it reads `yes`, `no`, `on` and `off` as true and false. The first is refused here, the second
where a value has its place (`luthier.task`).
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from luthier.errors import InputError


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """See `yaml.SafeLoader`; merged keys (`<<`) may be given again, as YAML means them to be.

        Raises:
            yaml.constructor.ConstructorError: a key given twice.
        """
        first: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in first:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key `{key.value}` is given twice, first in line "
                        f"{first[key.value]}",
                        problem_mark=key.start_mark,
                    )
                first[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, missing: str = "") -> Any:
    """The one document of a YAML file, as plain values.

    Args:
        path: the file.
        missing: what to do when it does not exist.

    Raises:
        InputError: missing, not UTF-8, not YAML, or a key given twice. The message names the file
            and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist.", fix=missing) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} line {line} is not UTF-8 text (byte {error.start}).",
            fix="Save it as UTF-8.",
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return yaml.load(text, _Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        name = "a NUL byte" if code == 0 else f"the control character U+{code:04X}"
        raise InputError(f"{path} line {line} holds {name}.", fix="Take it out.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "broken YAML"
        raise InputError(f"{path}{where}: {problem}.") from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply.") from None
    except (ValueError, OverflowError) as error:
        # a date such as 2024-99-99, or a number of thousands of digits
        raise InputError(
            f"{path} holds a value that YAML cannot read: {error}.",
            fix="Put quotes around it if it is meant as text.",
        ) from None
