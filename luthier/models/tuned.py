"""Any model by name: those of the catalogue, folders and hubs, and those a training stage stored.

A stage stores a whole model, or an adapter and the name of its base; the base may be the result of
an earlier stage in its turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError
from luthier.files import read_json
from luthier.models.catalogue import CATALOGUE

if TYPE_CHECKING:
    import torch

    from luthier.models.info import ModelInfo
    from luthier.models.loading import Attention, LoadedModel
    from luthier.progress import Reporter

_PROMPT = "prompt.json"


@dataclass(frozen=True)
class Lineage:
    """What a model is made of.

    Attributes:
        name: a name that `loading` knows: a catalogue name, a hub id, or the folder of a whole
            model.
        base: where a relative name starts.
        adapters: folders of the adapters to be merged into it, the first one first.
    """

    name: str
    base: Path | None
    adapters: tuple[Path, ...] = ()


def stage_folder(name: str | Path, base: Path | None = None) -> Path | None:
    """The folder in which a training stage called `name` keeps its model, or None.

    Args:
        name: the stage's folder, or the model folder in it.
        base: where a relative name starts; then the working directory is tried.
    """
    given = Path(name).expanduser()
    for folder in dict.fromkeys([(base or Path()) / given, given]):
        for candidate in (folder, folder / "model"):
            if (candidate / _PROMPT).is_file():
                return candidate.absolute()
    return None


def lineage(name: str, base: Path | None = None) -> Lineage:
    """Follow a name through the stages that made it, down to a whole model.

    Raises:
        ModelError: an adapter whose base is not named, or stages that name each other in a circle.
    """
    adapters: list[Path] = []
    while True:
        folder = None if name in CATALOGUE else stage_folder(name, base)
        if folder is None:
            return Lineage(name, base, tuple(reversed(adapters)))
        if not (folder / "adapter_config.json").is_file():
            return Lineage(str(folder), None, tuple(reversed(adapters)))
        if folder in adapters:
            raise ModelError(f"{folder} names itself as the base of its adapter.")
        adapters.append(folder)
        name, base = _named_base(folder, base)


def load_any(
    name: str,
    dtype: torch.dtype,
    device: str = "auto",
    *,
    attention: Attention = "sdpa",
    base: Path | None = None,
    reporter: Reporter | None = None,
) -> LoadedModel:
    """Load a causal model by any name, a training stage's folder included, adapters merged.

    Args:
        name: a catalogue name, a folder, a hub id, or the folder of a training stage.
        dtype: what the weights are cast to; adapters are merged in it.
        device: "auto" takes a GPU when there is one; else a torch device.
        attention: see `loading.load_causal`.
        base: where relative names start.
        reporter: told of downloads.

    Raises:
        ModelError: see `lineage`, `loading.load_causal` and `adapters.merge`.
    """
    from luthier.models import adapters
    from luthier.models.loading import load_causal

    made_of = lineage(name, base)
    loaded = load_causal(
        made_of.name, dtype, device, attention=attention, base=made_of.base, reporter=reporter
    )
    for folder in made_of.adapters:
        merged = adapters.merge(loaded.model, folder)
        loaded = replace(loaded, model=merged, path=folder)
    return replace(loaded, name=name)


def load_any_tokenizer(
    name: str, base: Path | None = None, reporter: Reporter | None = None
) -> Any:
    """The tokenizer of `load_any(name)`.

    Raises:
        ModelError: see `lineage` and `loading.load_tokenizer`.
    """
    from luthier.models.loading import load_tokenizer

    made_of = lineage(name, base)
    return load_tokenizer(made_of.name, base=made_of.base, reporter=reporter)


def describe_any(name: str, base: Path | None = None) -> ModelInfo:
    """What `load_any(name)` is, without loading weights: adapters are merged, so it has its base's
    sizes.

    Raises:
        ModelError: see `lineage` and `loading.describe`.
    """
    from luthier.models.loading import describe

    made_of = lineage(name, base)
    info = describe(made_of.name, base=made_of.base)
    path = made_of.adapters[-1] if made_of.adapters else info.path
    return replace(info, name=name, path=path)


def load_tuned(folder: Path, base_name: str, base: Path | None = None) -> LoadedModel:
    """Load what was trained, with its weights merged, in the precision that answers are given in.

    Args:
        folder: what a training stage stored: adapter files, or a whole model.
        base_name: the model an adapter belongs to, should the folder not say.
        base: where a relative base name starts.

    Raises:
        ModelError: the base is not to be had, or the adapter does not fit it.
    """
    from luthier.models import adapters
    from luthier.models.pool import answering_dtype

    if (folder / _PROMPT).is_file():
        return load_any(str(folder.absolute()), answering_dtype(), base=base)
    if not adapters.is_adapter(folder):
        return load_any(str(folder.absolute()), answering_dtype())
    loaded = load_any(base_name, answering_dtype(), base=base)
    return replace(loaded, model=adapters.merge(loaded.model, folder), path=folder)


def base_record(name: str, base: Path | None = None) -> dict[str, str]:
    """What a stage writes down about the model it started from, to find it again.

    The name as it was given, and for a folder where that was: a relative name means nothing to
    whoever opens the stage from another folder.
    """
    record = {"model": name}
    if name not in CATALOGUE and (stage := stage_folder(name, base)) is not None:
        return {**record, "model_folder": str(stage)}
    from luthier.models.loading import resolve

    source = resolve(name, base)
    if source.kind == "folder" and source.path is not None:
        record["model_folder"] = str(source.path)
    return record


def _named_base(folder: Path, base: Path | None) -> tuple[str, Path | None]:
    stored = read_json(folder / _PROMPT)
    name = stored.get("model") if isinstance(stored, dict) else None
    if not isinstance(name, str):
        raise ModelError(f"{folder / _PROMPT} does not name the base model of the adapter.")
    recorded = stored.get("model_folder")
    if isinstance(recorded, str) and Path(recorded).is_dir():
        return recorded, None
    return name, base
