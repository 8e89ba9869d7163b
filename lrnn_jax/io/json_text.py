"""JSON without NaN and infinities, which the format does not have."""

import json
import math
from typing import Any

__all__ = ["json_text"]


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON; numbers that are not finite become null."""
    return json.dumps(_with_null(value), indent=indent, allow_nan=False) + "\n"


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_with_null, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
