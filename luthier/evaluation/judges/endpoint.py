"""A model behind an OpenAI-compatible server as the judge."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from luthier.errors import InputError, RunError
from luthier.evaluation.judges.asking import INSTRUCTION, question, read_reply
from luthier.evaluation.judging import JUDGES, Duel, Judge, JudgeSettings, Preference, Progress

#: Questions under way at once.
_AT_ONCE = 4
_TRIES = 4
_TIMEOUT = 120.0
#: Replies that may mean that another try will do.
_PASSING = frozenset({408, 409, 429, 500, 502, 503, 504})
#: Room for a reply; a model that reasons aloud writes its letter last, in brackets.
_MOST_TOKENS = 512


class EndpointJudge(Judge):
    """Asks `endpoint`/chat/completions, greedily.

    Args:
        settings: endpoint and model, and the variable that holds the key, which is sent where it
            is set.
        pause: seconds before the second try; doubled for each further one.

    Raises:
        InputError: the endpoint is no http address.
    """

    def __init__(self, settings: JudgeSettings, pause: float = 1.0) -> None:
        address = (settings.endpoint or "").rstrip("/")
        if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).netloc:
            raise InputError(
                f"The judge's endpoint {address!r} is no address.",
                fix="Give the base of an OpenAI-compatible server: https://host/v1.",
            )
        self.name = settings.model
        self.unreadable = 0
        self._address = f"{address}/chat/completions"
        self._key = os.environ.get(settings.key_env, "")
        self._pause = pause

    def prefer(self, duels: Sequence[Duel], progress: Progress | None = None) -> list[Preference]:
        """What it replies to each duel; a reply that names nothing is a tie, and counted."""
        found = []
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for reply in pool.map(self._ask, duels):
                preference = read_reply(reply)
                self.unreadable += preference is None
                found.append(preference or 0)
                if progress:
                    progress(1)
        return found

    def _ask(self, duel: Duel) -> str:
        body = {
            "model": self.name,
            "messages": [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": question(duel)},
            ],
            "temperature": 0,
            "max_tokens": _MOST_TOKENS,
        }
        request = urllib.request.Request(
            self._address,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {self._key}"} if self._key else {}),
        )
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self._pause * 2 ** (attempt - 1))
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
                    return self._text(json.load(reply))
            except urllib.error.HTTPError as error:
                why = f"it replied {error.code} {error.reason}"
                if error.code not in _PASSING:
                    break
            except ValueError:
                why = "its reply is not JSON"
            except OSError as error:
                why = str(getattr(error, "reason", error))
        raise RunError(
            f"The judge {self.name} at {self._address} cannot be asked: {why}.",
            fix="See that the server runs, knows the model, and has its key in the environment.",
        )

    def _text(self, reply: Any) -> str:
        try:
            return str(reply["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            raise ValueError("no answer in it") from None


@JUDGES.register("endpoint")
def make(settings: JudgeSettings) -> Judge:
    """The model that the settings' endpoint serves."""
    return EndpointJudge(settings)
