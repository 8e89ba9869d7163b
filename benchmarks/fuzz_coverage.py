"""Coverage-guided fuzz test of every reader, by atheris (libFuzzer): pip install atheris

    python benchmarks/fuzz_coverage.py [reader ...] --inputs 100000 --record
    python benchmarks/fuzz_coverage.py table

libFuzzer mutates the valid files of `fuzz.py` and keeps each input that reaches new Python code of
the readers and of the libraries that are written in Python. What counts as a finding is stated in
`fuzz.py`; the watch on opened files and connections is there alone. An input is the number of a
suffix (one byte) and the content of a file. Inputs with findings are saved in `--keep`.
"""

import argparse
import collections
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fuzz

# `common` is imported by the parent alone: the child must not import what it instruments before.
LIBRARIES = (
    *("tifffile", "trimesh", "nibabel", "scipy.io", "numpy.lib", "imageio", "PIL", "zipfile"),
    *("gzip", "json", "csv", "tomllib", "safetensors", "lrnn_jax.io", "lrnn_jax.experiments"),
)
SECONDS = 20  # of one input


# The child ---------------------------------------------------------------------------------------


def suffixes(reader: str) -> list[str]:
    """The suffixes of the reader's valid files."""
    return sorted({name.split(".")[-1] for name in fuzz.SEEDS[reader]()})


def serve(reader: str, inputs: int, folder: Path) -> None:
    """Fuzz in this process, and write the counts to `counts.json` of the folder."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=list(LIBRARIES), enable_loader_override=False):
        read = fuzz._readers()[reader]
        arrays: Any = importlib.import_module("lrnn_jax.io.arrays")
        arrays.subprocess = fuzz._Forks(folder)
        for library in LIBRARIES:
            importlib.import_module(library)
    fuzz.limit_memory()
    names = suffixes(reader)
    counts: dict[str, Any] = collections.Counter()
    findings: dict[str, str] = {}

    def one_input(content: bytes) -> None:
        path = folder / f"input.{names[content[0] % len(names)] if content else names[0]}"
        path.write_bytes(content[1:])
        kind, text = fuzz._answer(read, path)
        path.unlink(missing_ok=True)
        counts[kind] += 1
        if kind == "finding":
            name = hashlib.sha256(text.encode()).hexdigest()[:12]
            findings[name] = text
            (folder / f"finding-{name}").write_bytes(content)
        total = counts["value"] + counts["refusal"] + counts["finding"]
        if total % 500 == 0 or total == inputs:
            (folder / "counts.json").write_text(json.dumps([counts, findings]))
        if total == inputs:
            os._exit(0)

    longest = 2 * max(len(content) for content in fuzz.SEEDS[reader]().values())
    options = ["-rss_limit_mb=0", f"-timeout={SECONDS}", f"-max_len={longest}", "-seed=1"]
    options += [f"-artifact_prefix={folder}/crash-", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], one_input)
    atheris.Fuzz()


# The parent --------------------------------------------------------------------------------------


def results() -> Any:
    """The stored rows; the import of `common` takes `--record` from the command line."""
    from common import FOLDER, Results

    return Results(FOLDER / "fuzz_coverage.json", identity=("reader", "machine"))


def run(reader: str, inputs: int, keep: Path) -> dict[str, Any]:
    """Fuzz one reader; a process that dies is a finding, and is started again."""
    begun, names = time.perf_counter(), suffixes(reader)
    totals: collections.Counter[str] = collections.Counter()
    findings: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        for number, (file, content) in enumerate(fuzz.SEEDS[reader]().items()):
            first = bytes([names.index(file.split(".")[-1])])
            (folder / "corpus" / f"seed-{number}").write_bytes(first + content)
        while sum(totals.values()) < inputs:
            left = inputs - sum(totals.values())
            (folder / "counts.json").write_text("[{}, {}]")
            command = [sys.executable, __file__, "--serve", reader, str(left), name]
            done = subprocess.run(command, capture_output=True, text=True)
            counts, found = json.loads((folder / "counts.json").read_text())
            totals.update(counts)
            findings |= found
            for path in [*folder.glob("finding-*"), *folder.glob("crash-*")]:
                keep.mkdir(parents=True, exist_ok=True)
                path.replace(keep / f"{reader}-{path.name}")
            if done.returncode:
                findings[f"exit code {done.returncode}"] = done.stderr[-1500:]
                if not counts:
                    break  # it does not get on
        kept = len(list((folder / "corpus").iterdir()))
    return {
        "reader": reader,
        "inputs": sum(totals.values()),
        "values": totals["value"],
        "refusals": totals["refusal"],
        "findings": findings,
        "kept": kept,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each reader, with both fuzz tests."""
    from common import markdown

    guided = {row["reader"]: row for row in rows}
    mutated = {row["reader"]: row for row in json.loads(fuzz.RESULTS.read_text())}
    header = (
        "reader | mutated files | read | refused | findings | "
        "guided files | read | refused | findings"
    )
    lines = []
    for reader in fuzz.SEEDS:
        cells = [reader]
        for row in (mutated.get(reader), guided.get(reader)):
            if row is None:
                cells += ["", "", "", ""]
            else:
                counts = (row["inputs"], row["values"], row["refusals"], len(row["findings"]))
                cells += [f"{count:,}" for count in counts]
        lines.append(cells)
    machines = sorted({row["machine"] for row in (*guided.values(), *mutated.values())})
    return f"On {', '.join(machines)}:\n\n{markdown(header, lines)}"


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        reader, inputs, folder = sys.argv[2:]
        return serve(reader, int(inputs), Path(folder))
    stored = results()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("readers", nargs="*", default=list(fuzz.SEEDS))
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    if options.readers == ["table"]:
        return print(table(stored.read()))
    if unknown := set(options.readers) - set(fuzz.SEEDS):
        parser.error(f"unknown readers {sorted(unknown)}: expected {', '.join(fuzz.SEEDS)}")
    findings = 0
    for reader in options.readers:
        row = run(reader, options.inputs, options.keep)
        findings += len(row["findings"])
        stored.add(row)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
