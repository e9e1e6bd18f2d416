"""Tasks of lm-eval as probes: its prompts and its data, asked by our own model code."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from luthier.errors import InputError, did_you_mean
from luthier.evaluation.probe_items import Gap, Passage, Probe, Probes


def lm_eval_probes(name: str, limit: int | None = None) -> Probes:
    """The items of a task of lm-eval, or of all tasks of a group.

    Questions with choices, continuations and rolling likelihood (text) are taken over; what is
    answered by writing is not, because it would say as much of style as of knowledge.

    Args:
        name: as lm-eval knows it: "piqa".
        limit: the most items of a task; lm-eval takes the first.

    Raises:
        InputError: lm-eval is not installed, has no such task, cannot reach its data, or the task
            is answered by writing.
    """
    try:
        tasks_of = importlib.import_module("lm_eval.tasks")
    except ImportError:
        raise InputError(
            f"`forgetting.probes` names lm-eval:{name}, and lm-eval is not installed.",
            fix="Install it (pip install lm-eval), or name a file of probes.",
        ) from None
    manager = tasks_of.TaskManager()
    if name not in manager.all_tasks:
        raise InputError(
            f"`forgetting.probes` names lm-eval:{name}, and lm-eval has no such task.",
            fix=did_you_mean(name, manager.all_tasks)
            if len(manager.all_tasks) < 50
            else "`lm_eval ls tasks` lists them.",
        )
    found = Probes()
    try:
        tasks = dict(_tasks(tasks_of.get_task_dict([name], manager)))
        for own, task in tasks.items():
            task.build_all_requests(limit=limit, rank=0, world_size=1)
            found += _probes(own, task)
    except InputError:
        raise
    except Exception as error:  # a hub that is away, a data set that is gone: all kinds come here
        raise InputError(
            f"lm-eval:{name} cannot be used: {type(error).__name__}: {error}".rstrip(".") + ".",
            fix="Its data come from the Hugging Face hub: see that it can be reached, or name a "
            "file of probes.",
        ) from error
    return found


def _tasks(held: Any) -> Iterator[tuple[str, Any]]:
    """The tasks in lm-eval's nested dictionary of groups."""
    for key, value in held.items():
        if isinstance(value, dict):
            yield from _tasks(value)
        else:
            yield str(key), value


def _probes(name: str, task: Any) -> Probes:
    by_item: dict[int, list[Any]] = defaultdict(list)
    for instance in task.instances:
        by_item[int(instance.doc_id)].append(instance)
    kind = str(task.OUTPUT_TYPE)
    questions, gaps, passages = [], [], []
    for number, instances in sorted(by_item.items()):
        item = f"{name}-{number}"
        asked = [tuple(one.arguments) for one in sorted(instances, key=lambda one: int(one.idx))]
        if kind == "multiple_choice":
            questions.append(_question(item, name, task, instances[0].doc, asked))
        elif kind == "loglikelihood":
            gaps.append(Gap(item, name, asked[0][0], asked[0][1]))
        elif kind == "loglikelihood_rolling":
            passages.append(Passage(item, name, asked[0][0]))
        else:
            raise InputError(
                f"lm-eval:{name} is answered by writing ({kind}), and forgetting is measured by "
                "likelihood.",
                fix="Name a task with choices, such as lm-eval:arc_easy.",
            )
    return Probes(tuple(questions), tuple(gaps), tuple(passages))


def _question(item: str, name: str, task: Any, doc: Any, asked: list[tuple[Any, ...]]) -> Probe:
    choices = [str(choice) for choice in task.doc_to_choice(doc)]
    # behind the choices may come the same ones without their question (mutual information)
    asked = asked[: len(choices)]
    contexts = tuple(str(before) for before, _ in asked)
    after = [str(text) for _, text in asked]
    if len(set(contexts)) > 1:
        # ways to begin, and one end; the task's target is that end, and its gold the beginning
        return Probe(
            item, name, "", tuple(after), _index(task.doc_to_text(doc), choices), "", contexts
        )
    first = after[0].removesuffix(choices[0])
    whole = all(text == first + choice for text, choice in zip(after, choices, strict=True))
    return Probe(
        item,
        name,
        contexts[0],
        tuple(choices if whole else after),
        _index(task.doc_to_target(doc), choices),
        first if whole else "",
    )


def _index(target: Any, choices: list[str]) -> int:
    """Where the right choice stands: lm-eval names it by index or by its text."""
    if isinstance(target, list):
        target = target[0]
    if isinstance(target, str):
        target = choices.index(target) if target in choices else int(target)
    return int(target)
