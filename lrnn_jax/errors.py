"""`InputError`, the exception for invalid input, and suggestions for misspelt names."""

import difflib
import re
from collections.abc import Iterable, Mapping

_LIMIT = 300  # characters of a message; longer ones are hard to read in a terminal


class InputError(ValueError):
    """Invalid input. The message is one line that says what is wrong and what is allowed.

    The command line prints the message and exits with code 2. In Python, it is an ordinary
    ValueError. The message is always printable and shorter than 300 characters, whatever input it
    quotes: control characters are escaped, and the middle of a longer message is omitted.

    Args:
      message: the message.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(_printable_line(str(message)))


def _printable_line(text: str) -> str:
    # Keep both ends, because the end of a message says what is allowed. Cut the text first, and
    # again after escaping, which makes it longer.
    text = text if len(text) < 2000 else text[:1000] + text[-900:]
    text = re.sub(r"\s*\n\s*", " ", text.strip())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) < _LIMIT else f"{text[:160]} ... {text[-130:]}"


def elsewhere(name: str, packages: Mapping[str, Iterable[str]]) -> str:
    """The end of a message about a missing name of `lrnn_jax`: where it is in another spelling.

    Args:
      name: the name that was asked for.
      packages: the public names by package, such as {"pde.": ["Box", "Poisson"]}.

    >>> elsewhere("poisson", {"pde.": ["Box", "Poisson"]})
    "; did you mean 'lrnn_jax.pde.Poisson'?"
    """
    for package, names in packages.items():
        for known in names:
            if known.lower() == name.lower():
                return f"; did you mean 'lrnn_jax.{package}{known}'?"
    return ""


_SYNONYMS = {
    "batch_size": "batch",
    "data": "source",
    "epochs": "steps",
    "features": "source",
    "file": "source",
    "hidden_dim": "width",
    "hidden_features": "width",
    "hidden_layers": "depth",
    "hidden_size": "width",
    "image": "source",
    "in_channels": "in_dim",
    "in_features": "in_dim",
    "input_dim": "in_dim",
    "iterations": "steps",
    "labels": "target",
    "layers": "depth",
    "lr": "learning_rate",
    "max_iter": "steps",
    "num_layers": "depth",
    "num_steps": "steps",
    "omega": "omega0",
    "omega_0": "omega0",
    "optim": "optimizer",
    "out_channels": "out_dim",
    "out_features": "out_dim",
    "output_dim": "out_dim",
    "path": "source",
    "sampling_rate": "rate",
    "w0": "omega0",
    "y": "target",
}
"""Names that other libraries use, and ours for the same thing."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown `word`.

    It suggests the known word of the same meaning, or the most similar one, or lists all known
    words if none is similar.

    >>> suggest("lr", ["learning_rate", "steps"])
    "did you mean 'learning_rate'?"

    >>> suggest("rnak", ["rank", "depth"])
    "did you mean 'rank'?"
    >>> suggest("zzz", ["rank", "depth"])
    'known: depth, rank'
    """
    names = sorted(known)
    word = word[:100]  # the time of the search is quadratic in the length
    near = difflib.get_close_matches(word, names, n=1)
    near = [_SYNONYMS[word]] if _SYNONYMS.get(word) in names else near
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
