"""A reduced run of benchmarks/fuzz.py: mutated files give values or refusals in one line."""

import importlib.util
import sys
from pathlib import Path

import pytest

for _package in ("soundfile", "av", "trimesh", "rtree", "nibabel"):
    pytest.importorskip(_package)
if sys.platform == "win32":
    pytest.skip("no resource limits", allow_module_level=True)

_path = Path(__file__).parents[1] / "benchmarks" / "fuzz.py"
_spec = importlib.util.spec_from_file_location("fuzz", _path)
fuzz = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fuzz)


@pytest.mark.parametrize("reader", fuzz.SEEDS)
def test_mutated_files_are_values_or_refusals(reader):
    row = fuzz.fuzz(reader, range(40))
    assert row["findings"] == []
    assert row["values"] + row["refusals"] == 40
    assert row["refusals"] > 0
