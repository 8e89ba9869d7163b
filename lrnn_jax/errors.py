"""The one exception that means "the caller's input is wrong"."""

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "suggest"]


class InputError(ValueError):
    """Input that cannot be used; the message is one line: what is wrong and what would be right.

    The command line prints it as it is and exits with 2; from Python it is an ordinary ValueError.
    """


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown `word`: the nearest known one, or all of them.

    >>> suggest("rnak", ["rank", "depth"])
    "did you mean 'rank'?"
    >>> suggest("zzz", ["rank", "depth"])
    'known: depth, rank'
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
