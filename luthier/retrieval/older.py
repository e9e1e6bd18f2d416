"""Older versions of an index: what was closed since stays closed.

The newest version alone does not say it: a document may have been closed and then taken out, or
not be there because a version from before it was restored. What counts is the last version that
held it.
"""

from __future__ import annotations

import itertools

from luthier.retrieval.manifest import Manifest
from luthier.retrieval.places import Place
from luthier.retrieval.store import Store


def labels_since(place: Place, manifest: Manifest, version: int) -> dict[str, frozenset[str]]:
    """The groups that may read each document of a version, as it was last labelled.

    Args:
        place: of the index.
        manifest: as it is now.
        version: one of its versions.

    Returns:
        By id, the groups in the last version that holds the document; none for everybody.
    """
    later = [change for change in manifest.history if change.version >= version]
    # the last version that held a document is the newest, or one that the next took it out of
    last = [
        change
        for change, following in itertools.pairwise(later)
        if following.removed or following.action.startswith("restore")
    ]
    wanted = set(Store(place, later[0].tables).labels())
    found: dict[str, frozenset[str]] = {}
    for change in (later[-1], *reversed(last)):
        missing = wanted - found.keys()
        if not missing:
            break
        held = Store(place, change.tables).labels()
        found |= {name: held[name] for name in missing & held.keys()}
    return found


def opened_by(place: Place, manifest: Manifest, version: int) -> list[str]:
    """The documents that more groups may read in a version than where they were held last."""
    since = labels_since(place, manifest, version)
    found = []
    for name, then in Store(place, _change(manifest, version)).labels().items():
        if (own := since[name]) and (not then or then - own):  # no groups at all: everybody
            found.append(name)
    return sorted(found)


def _change(manifest: Manifest, version: int) -> dict[str, int]:
    return next(change.tables for change in manifest.history if change.version == version)
