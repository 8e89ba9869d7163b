"""The one exception that means "the caller's input is wrong"."""

import difflib
import re
from collections.abc import Iterable

__all__ = ["InputError", "suggest"]

_LIMIT = 300  # characters of a line that a terminal shows at a glance


class InputError(ValueError):
    """Input that cannot be used; the message is one line: what is wrong and what would be right.

    The command line prints it as it is and exits with 2; from Python it is an ordinary ValueError.
    Whatever it quotes, the line is printable and has fewer than 300 characters: control characters
    are escaped, and the middle of a longer line is left out.

    Args:
      message: the line.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_printable_line(str(message)))


def _printable_line(text: str) -> str:
    # The end says what would be right, so both ends are kept. Escapes make a line longer.
    text = text if len(text) < 2000 else text[:1000] + text[-900:]
    text = re.sub(r"\s*\n\s*", " ", text.strip())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) < _LIMIT else f"{text[:160]} ... {text[-130:]}"


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown `word`: the nearest known one, or all of them.

    >>> suggest("rnak", ["rank", "depth"])
    "did you mean 'rank'?"
    >>> suggest("zzz", ["rank", "depth"])
    'known: depth, rank'
    """
    names = sorted(known)
    word = word[:100]  # the search takes the square of the length
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
