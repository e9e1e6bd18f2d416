"""Recall and precision of the detectors of personal data, by type of entity.

    python benchmarks/privacy.py DATA [--half development|held-out|all] [--misses TYPE]

DATA is a folder with presidio_pii/synth_dataset_v2.json and presidio_pii/generated_small.json
(microsoft/presidio-research: sentences made from templates, with spans). The sentences of the first
file are halved by the SHA-256 of their template's number, so that no sentence of the held-out half
was made from a template of the other: the detectors were written with an eye on the development
half and the second file only.

How it is counted. An entity is found when spans of a fitting type cover at least half of its
characters; "hidden" counts it when spans of any type do, which is what matters where values are
replaced. A span of ours is right when entities of a fitting type cover at least half of its
characters. An address of ours may cover street, town and postcode, which are entities of their own
in these files. Prints a markdown table for each part.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: Their type -> ours that fit. Others of theirs (TITLE: "Mr", professions) are not looked for.
FITTING: dict[str, frozenset[str]] = {
    "PERSON": frozenset({"PERSON"}),
    "STREET_ADDRESS": frozenset({"ADDRESS", "ZIP_CODE"}),
    "ADDRESS": frozenset({"ADDRESS", "ZIP_CODE"}),
    "ZIP_CODE": frozenset({"ZIP_CODE", "ADDRESS"}),
    "GPE": frozenset({"LOCATION", "ADDRESS"}),
    "LOCATION": frozenset({"LOCATION", "ADDRESS"}),
    "ORGANIZATION": frozenset({"ORGANIZATION"}),
    "CREDIT_CARD": frozenset({"CREDIT_CARD"}),
    "PHONE_NUMBER": frozenset({"PHONE"}),
    "EMAIL_ADDRESS": frozenset({"EMAIL"}),
    "DOMAIN_NAME": frozenset({"URL"}),
    "IBAN_CODE": frozenset({"IBAN"}),
    "US_SSN": frozenset({"US_SSN"}),
    "IP_ADDRESS": frozenset({"IP_ADDRESS"}),
    "US_DRIVER_LICENSE": frozenset({"DRIVER_LICENSE"}),
    "DATE_TIME": frozenset({"DATE", "DATE_OF_BIRTH"}),
    "AGE": frozenset({"AGE"}),
    "NRP": frozenset({"NATIONALITY"}),
    "TITLE": frozenset(),
}
#: Ours -> theirs that make a span of ours right.
RIGHT: dict[str, frozenset[str]] = {
    "PERSON": frozenset({"PERSON", "TITLE"}),
    "ADDRESS": frozenset({"STREET_ADDRESS", "ADDRESS", "GPE", "LOCATION", "ZIP_CODE"}),
    "ZIP_CODE": frozenset({"STREET_ADDRESS", "ADDRESS", "ZIP_CODE"}),
    "LOCATION": frozenset({"GPE", "LOCATION", "STREET_ADDRESS", "ADDRESS"}),
    "ORGANIZATION": frozenset({"ORGANIZATION"}),
    "CREDIT_CARD": frozenset({"CREDIT_CARD"}),
    "PHONE": frozenset({"PHONE_NUMBER"}),
    "EMAIL": frozenset({"EMAIL_ADDRESS"}),
    "URL": frozenset({"DOMAIN_NAME"}),
    "IBAN": frozenset({"IBAN_CODE"}),
    "US_SSN": frozenset({"US_SSN"}),
    "IP_ADDRESS": frozenset({"IP_ADDRESS"}),
    "DRIVER_LICENSE": frozenset({"US_DRIVER_LICENSE"}),
    "DATE": frozenset({"DATE_TIME"}),
    "DATE_OF_BIRTH": frozenset({"DATE_TIME"}),
    "AGE": frozenset({"AGE"}),
    "NATIONALITY": frozenset({"NRP"}),
}
#: The row of the table that a type of ours is counted in.
ROW = {ours: theirs for theirs, all_ours in reversed(FITTING.items()) for ours in all_ours} | {
    "ADDRESS": "STREET_ADDRESS",
    "ZIP_CODE": "ZIP_CODE",
    "LOCATION": "GPE",
    "PERSON": "PERSON",
}


def half_of(row: dict[str, Any]) -> str:
    digest = hashlib.sha256(str(row["template_id"]).encode()).hexdigest()
    return "held-out" if int(digest, 16) % 2 else "development"


def covered(start: int, end: int, others: Iterable[tuple[int, int]]) -> float:
    """The share of a span that others cover."""
    inside = bytearray(end - start)
    for low, high in others:
        for at in range(max(start, low), min(end, high)):
            inside[at - start] = 1
    return sum(inside) / max(1, end - start)


def measure(rows: list[dict[str, Any]], misses: str | None = None) -> dict[str, list[int]]:
    """For each type: entities, found, hidden, our spans, right ones."""
    from luthier.data.privacy import find_many

    counts: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    answers = find_many(row["full_text"] for row in rows)
    for row, spans in zip(rows, answers, strict=True):
        gold = [(s["start_position"], s["end_position"], s["entity_type"]) for s in row["spans"]]
        for start, end, kind in gold:
            fitting = FITTING.get(kind, frozenset())
            count = counts[kind]
            count[0] += 1
            found = covered(start, end, [(s.start, s.end) for s in spans if s.type in fitting])
            count[1] += found >= 0.5
            count[2] += covered(start, end, [(s.start, s.end) for s in spans]) >= 0.5
            if misses == kind and found < 0.5:
                print(f"missed {row['full_text'][start:end]!r} in {row['full_text'][:160]!r}")
        for span in spans:
            right = RIGHT.get(span.type, frozenset())
            name = ROW.get(span.type, span.type)
            # an address in a file that has ADDRESS instead of STREET_ADDRESS, and so on
            kinds = {kind for _, _, kind in gold}
            for other, same in (("STREET_ADDRESS", "ADDRESS"), ("GPE", "LOCATION")):
                if name == other and other not in kinds and same in kinds:
                    name = same
            count = counts[name]
            count[3] += 1
            good = covered(
                span.start, span.end, [(low, high) for low, high, kind in gold if kind in right]
            )
            count[4] += good >= 0.5
            if misses == name and good < 0.5:
                shown = row["full_text"][:160]
                print(f"wrong {span.type} {span.text!r} ({span.evidence}) in {shown!r}")
    return counts


def table(counts: dict[str, list[int]]) -> str:
    lines = [
        "| type | entities | recall | hidden | our spans | precision | F1 |",
        "|---|---|---|---|---|---|---|",
    ]

    def ratio(part: int, whole: int) -> str:
        return f"{part / whole:.3f}" if whole else "-"

    def line(name: str, count: list[int]) -> str:
        entities, found, hidden, ours, right = count
        recall, precision = found / max(1, entities), right / max(1, ours)
        f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
        return (
            f"| {name} | {entities} | {ratio(found, entities)} | {ratio(hidden, entities)} "
            f"| {ours} | {ratio(right, ours)} | {f'{f1:.3f}' if entities and ours else '-'} |"
        )

    for name in sorted(counts, key=lambda name: -counts[name][0]):
        lines.append(line(name, counts[name]))
    looked_for = [count for name, count in counts.items() if name != "TITLE"]
    lines.append(line("all but TITLE", [sum(column) for column in zip(*looked_for, strict=True)]))
    direct = [
        counts[name]
        for name in counts
        if name not in ("TITLE", "GPE", "LOCATION", "ORGANIZATION", "DATE_TIME", "AGE", "NRP")
    ]
    lines.append(line("what points at a person", [sum(c) for c in zip(*direct, strict=True)]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--half", choices=("development", "held-out", "all"))
    parser.add_argument("--misses", help="show what of a type was missed or wrong")
    arguments = parser.parse_args()
    folder = arguments.data / "presidio_pii"
    rows = json.loads((folder / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    small = json.loads((folder / "generated_small.json").read_text(encoding="utf-8"))
    parts = {
        "development": [row for row in rows if half_of(row) == "development"],
        "held-out": [row for row in rows if half_of(row) == "held-out"],
        "all": rows,
    }
    wanted = [arguments.half] if arguments.half else ["held-out", "development", "all"]
    for name in wanted:
        began = time.perf_counter()
        counts = measure(parts[name], arguments.misses)
        seconds = time.perf_counter() - began
        print(f"\nsynth_dataset_v2, {name} ({len(parts[name])} sentences, {seconds:.1f} s)\n")
        print(table(counts))
    if not arguments.half:
        print(f"\ngenerated_small ({len(small)} sentences)\n")
        print(table(measure(small, arguments.misses)))


if __name__ == "__main__":
    main()
