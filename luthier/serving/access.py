"""Who may ask a server, and which documents are read to answer them.

A client has the groups of its key, or those of the server where that asks for no key. A request
may name fewer of them (`access_groups`), never others.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from pathlib import Path

from luthier.errors import InputError
from luthier.serving.api_errors import ApiError


class Access:
    """Keys and groups of one server.

    Args:
        keys: the groups of each key that lets in; None lets everybody in, without a key.
        groups: of everybody, where there are no keys.

    None for groups leaves what is read to each model.

    Raises:
        InputError: a key that is empty or cannot stand in a header, or no key at all.
    """

    def __init__(
        self,
        keys: Mapping[str, Collection[str] | None] | None = None,
        groups: Collection[str] | None = None,
    ) -> None:
        self._keys: list[tuple[bytes, frozenset[str] | None]] | None = None
        self._groups = None if groups is None else frozenset(groups)
        if keys is None:
            return
        if not keys:
            raise InputError("There are no keys.", fix="Name one at least, or none at all.")
        self._keys = []
        for key, own in keys.items():
            if not key.strip():
                raise InputError("The API key is empty.", fix="Give one, or none at all.")
            groups_of_key = None if own is None else frozenset(own)
            self._keys.append((key.strip().encode(), groups_of_key))

    @property
    def has_key(self) -> bool:
        """Whether a key is asked for."""
        return self._keys is not None

    def groups_of(self, authorization: str) -> frozenset[str] | None:
        """The groups of a client, by its Authorization header.

        Raises:
            ApiError: 401: no key, or none that is known.
        """
        if self._keys is None:
            return self._groups
        scheme, _, key = authorization.encode("latin-1", "replace").partition(b" ")
        given = key.strip()
        # all are compared, so that the time says nothing of which one is near
        right = [own for known, own in self._keys if hmac.compare_digest(given, known)]
        if not right or scheme.lower() != b"bearer":
            said = (
                "Incorrect API key provided." if authorization else "You didn't provide an API key."
            )
            raise ApiError(
                401, f"{said} Send the header Authorization: Bearer KEY.", code="invalid_api_key"
            )
        return right[0]


def narrowed(own: frozenset[str] | None, wanted: Collection[str] | None) -> frozenset[str] | None:
    """The groups that a request is answered for.

    Args:
        own: of the client; None where the server was not told of any.
        wanted: that the request names; None for all of its own.

    Raises:
        ApiError: 403: one that is not its own; whether there is such a group is not said.
    """
    if wanted is None:
        return own
    if not frozenset(wanted) <= (own or frozenset()):
        raise ApiError(
            403,
            "`access_groups` may only name groups of this client.",
            code="group_not_allowed",
            param="access_groups",
        )
    return frozenset(wanted)


def read_keys(path: Path) -> dict[str, list[str]]:
    """Keys and their groups from a YAML file, one line each: "KEY": [hr, board]

    Raises:
        InputError: it is no such file.
    """
    from luthier.yaml_files import read_yaml

    held = read_yaml(path)
    fix = 'One line for each key: "KEY": [hr, board]; [] for open documents alone.'
    if not isinstance(held, dict) or not held:
        raise InputError(f"{path} is no table of keys.", fix=fix)
    for number, (key, groups) in enumerate(held.items(), 1):
        if not isinstance(key, str):
            raise InputError(f"{path}: key {number} is no text.", fix="Write it in quotes.")
        if not isinstance(groups, list) or not all(isinstance(one, str) for one in groups):
            raise InputError(f"{path}: the groups of key {number} are no list of names.", fix=fix)
    return held
