"""Personal data and secrets: where they stand in a text, and what to write in their place.

`find` says what stands where, with a confidence and the evidence for it; `pseudonyms.py` says what
to write instead, and `redacting.py` writes files without it and brings it back. Detectors are one
file each in `detectors/`, found by a folder scan.
"""

from __future__ import annotations

from luthier.data.privacy.finding import find, find_many, kinds
from luthier.data.privacy.masking import hide, masked
from luthier.data.privacy.spans import Kind, Span

__all__ = ["Kind", "Span", "find", "find_many", "hide", "kinds", "masked"]
