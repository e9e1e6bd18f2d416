"""What the stages made of what the model knew before: general probes after each of them.

```
OUT/base/probes.json  OUT/stages/NAME/probes.json     what was answered
OUT/forgetting.json    the change since the base and since the stage before, of every stage
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.aftermath import measured
from luthier.evaluation.forgetting import Measured, changed
from luthier.evaluation.probe_items import Probes
from luthier.files import read_json, write_json
from luthier.progress import Reporter
from luthier.staged.scores import BASE, row_folder


def probe(
    out: Path, row: str, model: str, base: Path | None, probes: Probes, reporter: Reporter
) -> None:
    """Ask a model the probes, unless that was done.

    Args:
        out: the chain's folder.
        row: "base", or the name of a stage.
        model: what is asked.
        base: where a relative model name starts.
        probes: what it is asked.
        reporter: hears of the progress.
    """
    from luthier.generation.local import Generator
    from luthier.models.allocator import give_back_memory
    from luthier.models.pool import answering_dtype
    from luthier.models.tuned import load_any

    path = row_folder(out, row) / "probes.json"
    if path.is_file() and read_json(path).get("probes") == probes.hash:
        return
    loaded = load_any(model, answering_dtype(), base=base, reporter=reporter)
    generator = Generator(loaded.model, loaded.tokenizer)
    found = measured(generator, probes, reporter, f"{row}: probing what the model knows")
    write_json(path, {"model": model, "probes": probes.hash, **found})
    del generator, loaded
    give_back_memory()


def write_forgetting(out: Path, stages: Sequence[str], probes: Probes, seed: int) -> dict[str, Any]:
    """forgetting.json of the stages that were probed.

    Returns:
        {stage: {"since_base", "since_previous"}}, each as `forgetting.changed` gives it.
    """
    rows = [BASE, *stages]
    paths = [row_folder(out, row) / "probes.json" for row in rows]
    done = [path for path in paths if path.is_file()]
    known = [Measured.from_dict(read_json(path)) for path in done]
    found = {
        row: {
            "since_base": changed(probes, known[0], known[number], seed=seed),
            "since_previous": changed(probes, known[number - 1], known[number], seed=seed),
        }
        for number, row in enumerate(rows[: len(known)])
        if number
    }
    write_json(out / "forgetting.json", found)
    return found
