"""Values of other libraries as plain ones, which JSON can hold and templates can print."""

from __future__ import annotations

import base64
import datetime
import decimal
import math
import uuid
from typing import Any


def plain(value: Any) -> Any:
    """The value, at any depth, as text, number, truth value, None, list or dict.

    NaN and infinities are None. Dates and times are ISO 8601 text, a duration is seconds, a
    decimal is text (it is exact, a float is not), bytes are text where they are UTF-8, else
    base64. Pairs, as Arrow's maps give them, become lists.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    item = getattr(value, "item", None)  # a number of numpy's
    return plain(item()) if callable(item) else str(value)
