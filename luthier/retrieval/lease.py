"""One writer at a time in an object store: a lock that its holder renews, and that runs out.

The lock is one object that is only ever written on the condition that it is still what was seen of
it, and never deleted. Whether it has run out is reckoned by the store's clock alone: when the
object was last written, against when a new object is written now.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from typing import Any

from luthier.errors import InputError, RunError

#: How long a writer may give no sign of life before another takes over.
SECONDS = 60.0


def mark_of(held: Mapping[str, Any]) -> dict[str, str]:
    """What a conditional put compares, of the metadata of an object or the result of a put."""
    return {key: held[key] for key in ("e_tag", "version") if held.get(key)}


class Lease:
    """A lock under `name`; held from `take` to `give_back`.

    Args:
        store: of obstore.
        name: of the object.
        shown: what is locked, for messages.
        seconds: see `SECONDS`.
    """

    def __init__(self, store: Any, name: str, shown: str, seconds: float | None = None) -> None:
        self._store, self._name, self._shown = store, name, shown
        self._seconds = SECONDS if seconds is None else seconds
        self._owner, self._beats = uuid.uuid4().hex, 0
        self._mark: dict[str, str] = {}
        self._lost = False
        self._renewed = 0.0
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="index lock", daemon=True)

    def take(self) -> None:
        """Take the lock, or say who has it.

        Raises:
            InputError: another writer holds it.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._put("create")
        except AlreadyExistsError:
            held, mark, written = self._read()
            if held.get("owner") == self._owner:  # the answer to the first try was lost
                self._mark = mark
            elif held.get("free") or self._ran_out(held, written):
                try:
                    self._put(mark)
                except PreconditionError:
                    raise self._taken(self._read()[0]) from None
            else:
                raise self._taken(held) from None
        self._thread.start()

    def still(self) -> None:
        """Make sure that the lock is held.

        Raises:
            RunError: another writer took it.
        """
        with self._guard:
            if not self._lost and time.monotonic() - self._renewed > self._seconds / 2:
                self._renew()
            if self._lost:
                raise RunError(
                    f"Another process took over the writing of {self._shown}: this one gave no "
                    f"sign of life for {self._seconds:g} seconds.",
                    fix="Nothing of what it wrote is seen by anybody. Run it again.",
                )

    def give_back(self) -> None:
        """Let others write; where that cannot be said, the lock runs out."""
        from obstore.exceptions import BaseError

        self._ended.set()
        self._thread.join()
        if not self._lost:
            with contextlib.suppress(BaseError, OSError):
                self._put(self._mark, free=True)

    def _keep(self) -> None:
        from obstore.exceptions import BaseError

        while not self._ended.wait(self._seconds / 4):
            with self._guard:
                if self._lost:
                    return
                with contextlib.suppress(BaseError, OSError):  # `still` says so, if it lasts
                    self._renew()

    def _renew(self) -> None:
        from obstore.exceptions import PreconditionError

        try:
            self._put(self._mark)
        except (PreconditionError, FileNotFoundError):
            held, mark, _ = self._read()
            self._lost = held.get("owner") != self._owner
            self._mark = mark

    def _put(self, mode: Any, free: bool = False) -> None:
        import obstore

        self._beats += 1  # no two writings are equal, so neither are their marks
        said = {
            "owner": self._owner,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "beat": self._beats,
            "seconds": self._seconds,
            "free": free,
        }
        before = time.monotonic()
        self._mark = mark_of(
            obstore.put(self._store, self._name, json.dumps(said).encode(), mode=mode)
        )
        self._renewed = before

    def _read(self) -> tuple[dict[str, Any], dict[str, str], float]:
        """(what it says, its mark, when it was written by the store's clock)."""
        import obstore

        try:
            found = obstore.get(self._store, self._name)
            said = json.loads(bytes(found.bytes()))
        except FileNotFoundError:
            return {}, {}, 0.0
        except ValueError:  # not of ours: it runs out like any other
            said = {}
        held = said if isinstance(said, dict) else {}
        return held, mark_of(found.meta), found.meta["last_modified"].timestamp()

    def _ran_out(self, held: Mapping[str, Any], written: float) -> bool:
        import obstore

        probe = f"{self._name}.{self._owner}"
        obstore.put(self._store, probe, b"")
        now = obstore.head(self._store, probe)["last_modified"].timestamp()
        obstore.delete(self._store, probe)
        lasts = held.get("seconds")
        # times of a store may be whole seconds
        return bool(now - written > (lasts if isinstance(lasts, int | float) else SECONDS) + 1)

    def _taken(self, held: Mapping[str, Any]) -> InputError:
        who = f"process {held.get('pid')} on {held.get('host')}" if held else "Another process"
        lasts = held.get("seconds", SECONDS)
        return InputError(
            f"Another process is writing {self._shown} ({who}).",
            fix="Wait for it to end, and try again. If it has died, its lock runs out "
            f"{lasts:g} seconds after its last sign of life.",
        )
