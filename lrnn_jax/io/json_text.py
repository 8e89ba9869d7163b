"""JSON without NaN and infinities, which the format does not have."""

import json
import math
from typing import Any

__all__ = ["finite_or_none", "json_text"]


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON; numbers that are not finite become null."""
    return json.dumps(finite_or_none(value), indent=indent, allow_nan=False) + "\n"


def finite_or_none(value: Any) -> Any:
    """A copy of nested dicts and lists in which numbers that are not finite are None."""
    if isinstance(value, dict):
        return {name: finite_or_none(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return list(map(finite_or_none, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
