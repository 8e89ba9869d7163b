"""Write the tables of docs/reliability.md from the stored measurements.

python docs/reliability.py
"""

import sys
from pathlib import Path

PAGE = Path(__file__).with_suffix(".md")
sys.path.insert(0, str(PAGE.parents[1] / "benchmarks"))

import bombs  # noqa: E402
import fuzz_coverage  # noqa: E402
import soak  # noqa: E402
import start  # noqa: E402


def tables() -> dict[str, str]:
    """The Markdown table for each marker of the page."""
    measured = soak.RESULTS.read()
    used = [row for row in measured if row["stage"] != "kills"]
    killed = [row for row in measured if row["stage"] == "kills"]
    return {
        "fuzz": fuzz_coverage.table(fuzz_coverage.results().read()),
        "bombs": bombs.table(bombs.RESULTS.read()),
        "kills": soak.table(killed),
        "soak": soak.table(used),
        "start": start.table(start.RESULTS.read()),
    }


def page(text: str) -> str:
    """The text of the page, with each table between its two markers replaced."""
    for name, table in tables().items():
        before, rest = text.split(f"<!-- {name} -->\n")
        _, after = rest.split(f"<!-- /{name} -->\n")
        text = f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->\n{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
