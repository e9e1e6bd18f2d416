"""Any model by name: those of the catalogue, folders and hubs, and those a training stage stored.

A stage stores a whole model, or what it trained (an adapter, a delta) and the name of its base; the
base may be the result of an earlier stage in its turn.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import ModelError
from luthier.files import read_json
from luthier.models.catalogue import CATALOGUE
from luthier.models.form import Form, form_of

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
        adapters: folders of what stages trained (adapters, or what else `models/forms` knows), to
            be put into it, the first one first.
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
        if (folder / "head.json").is_file():
            raise ModelError(
                f"{folder} holds a model with a head for labels (head.json), which writes no text.",
                fix="Answer, evaluate or serve with it; to train, start from its base model.",
            )
        if form_of(folder) is None:
            return Lineage(str(folder), None, tuple(reversed(adapters)))
        if folder in adapters:
            raise ModelError(f"{folder} names itself as the base of its adapter.")
        if adapters:
            _refuse_beside(folder)
        adapters.append(folder)
        name, base = named_base(folder, base)


def load_any(
    name: str,
    dtype: torch.dtype,
    device: str = "auto",
    *,
    attention: Attention = "sdpa",
    base: Path | None = None,
    reporter: Reporter | None = None,
) -> LoadedModel:
    """Load a causal model by any name, a training stage's folder included, adapters merged where
    they can be.

    Args:
        name: a catalogue name, a folder, a hub id, or the folder of a training stage.
        dtype: what the weights are cast to; adapters are merged in it. (What lies below a stage
            that packed its base in 4 bits is loaded in the precision that it was packed from, so
            that the same weights come out.)
        device: "auto" takes a GPU when there is one; else a torch device.
        attention: see `loading.load_causal`.
        base: where relative names start.
        reporter: told of downloads.

    Raises:
        ModelError: see `lineage`, `loading.load_causal` and `adapters.merge`.
    """
    import torch

    from luthier.models.loading import load_causal

    made_of = lineage(name, base)
    # from the last to the first: what each gives, and so what the one below has to give
    precisions = [dtype]
    for folder in reversed(made_of.adapters):
        asked = _form(folder).base_precision(folder)
        precisions.insert(0, getattr(torch, asked) if asked else precisions[0])
    loaded = load_causal(
        made_of.name,
        precisions[0],
        device,
        attention=attention,
        base=made_of.base,
        reporter=reporter,
    )
    for folder, precision in zip(made_of.adapters, precisions[1:], strict=True):
        loaded = _with_stage(loaded, folder, precision)
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
    sizes, unless what a stage stored says otherwise.

    Raises:
        ModelError: see `lineage` and `loading.describe`.
    """
    from luthier.models.loading import describe

    made_of = lineage(name, base)
    info = describe(made_of.name, base=made_of.base)
    for folder in made_of.adapters:
        info = _form(folder).describe(info, folder)
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
    import torch

    from luthier.models import adapters
    from luthier.models.pool import answering_dtype

    if (folder / _PROMPT).is_file():
        return load_any(str(folder.absolute()), answering_dtype(), base=base)
    if not adapters.is_adapter(folder):
        return load_any(str(folder.absolute()), answering_dtype())
    asked = _form(folder).base_precision(folder)
    dtype = answering_dtype()
    loaded = load_any(base_name, getattr(torch, asked) if asked else dtype, base=base)
    return _with_stage(loaded, folder, dtype)


def base_record(
    name: str, base: Path | None = None, *, beside: Path | None = None
) -> dict[str, str]:
    """What a stage writes down about the model it started from, to find it again.

    The name as it was given, and for a folder where that was: a relative name means nothing to
    whoever opens the stage from another folder. Of an earlier stage also the way there from
    `beside`, the new stage's model folder, so that both may be moved together.
    """
    record = {"model": name}
    if name not in CATALOGUE and (stage := stage_folder(name, base)) is not None:
        if beside is not None:
            record["model_beside"] = os.path.relpath(stage, beside.absolute())
        return {**record, "model_folder": str(stage)}
    from luthier.models.loading import resolve

    source = resolve(name, base)
    if source.kind == "folder" and source.path is not None:
        record["model_folder"] = str(source.path)
    return record


def check_tunable(name: str, base: Path | None = None) -> None:
    """Refuse a model that no further stage can start from.

    Raises:
        ModelError: see `lineage`; or what its last stage trained is not part of its weights.
    """
    made_of = lineage(name, base)
    if made_of.adapters:
        _refuse_beside(made_of.adapters[-1])


def _refuse_beside(folder: Path) -> None:
    if (form := form_of(folder)) and form.beside:
        raise ModelError(
            f"{folder} cannot be tuned further: {form.beside}.",
            fix="Start from its base model, or train the first stage with lora or full.",
        )


def _with_stage(loaded: LoadedModel, folder: Path, dtype: torch.dtype) -> LoadedModel:
    """The model with what a stage trained, which may take positions from the context."""
    from luthier.models import adapters
    from luthier.models.heads import virtual_tokens

    model = adapters.restore(loaded.model, folder, dtype)
    length = loaded.context_length - virtual_tokens(model)
    return replace(loaded, model=model, path=folder, context_length=length)


def _form(folder: Path) -> Form:
    form = form_of(folder)
    if form is None:
        raise ModelError(f"{folder} no longer holds what a stage trained.")
    return form


def named_base(folder: Path, base: Path | None) -> tuple[str, Path | None]:
    """(the base model that a stage's prompt.json names, where a relative name starts).

    Raises:
        ModelError: it names none.
    """
    stored = read_json(folder / _PROMPT)
    name = stored.get("model") if isinstance(stored, dict) else None
    if not isinstance(name, str):
        raise ModelError(f"{folder / _PROMPT} does not name the base model of the adapter.")
    recorded = stored.get("model_folder")
    if isinstance(recorded, str) and Path(recorded).is_dir():
        return recorded, None
    beside = stored.get("model_beside")  # both were moved together
    if isinstance(beside, str) and (folder / beside / _PROMPT).is_file():
        return str((folder / beside).resolve()), None
    return name, base
