"""`lj.interop.to_torch` and `from_torch` against the modules of the authors, in float64.

    git clone https://github.com/liuzhen0212/FINER; git clone https://github.com/vishwa91/wire
    python benchmarks/exchange.py FINER wire        # needs torch and pykan

For each module: the largest difference of its values and ours, relative to the largest value, with
its weights read by us, and with our weights loaded by it.
"""

import argparse
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from common import markdown

import lrnn_jax as lj

WIDTH, X = 32, np.random.default_rng(0).uniform(-1, 1, (50, 2))
SIZES: dict[str, Any] = {"in_dim": 2, "out_dim": 3}


def load(path: Path) -> types.ModuleType:
    """A module of a clone; what it imports and does not use for its networks is left empty."""
    for unused in ("tqdm", "pdb"):
        sys.modules.setdefault(unused, types.ModuleType(unused))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pairs(finer: Path, wire: Path) -> list[tuple[str, Any, Any]]:
    """A name, the authors' module, and our model of the same structure."""
    import kan  # pyright: ignore[reportMissingImports]

    theirs = load(finer / "models.py")
    found: list[tuple[str, Any, Any]] = [
        ("Siren", theirs.Siren(2, WIDTH, 3, 3), lj.Siren(**SIZES, width=WIDTH, depth=4)),
        ("Finer", theirs.Finer(2, WIDTH, 3, 3), lj.Finer(**SIZES, width=WIDTH, depth=4)),
        ("Gauss", theirs.Gauss(2, WIDTH, 3, 3, 10.0), lj.Gauss(**SIZES, width=WIDTH, depth=4)),
    ]
    for name, kind, width in (("wire", lj.Wire, 22), ("wire2d", lj.Wire2D, 16)):
        module = load(wire / "modules" / f"{name}.py").INR(
            2, WIDTH, 2, 3, first_omega_0=10.0, hidden_omega_0=8.0, scale=6.0
        )
        model = kind(**SIZES, width=width, omega0=8.0, first_omega0=10.0, sigma0=6.0)
        found.append((kind.__name__, double(module), model))
    splines = kan.MultKAN(width=[2, 6, 6, 3], seed=0, auto_save=False)
    splines.update_grid_from_samples(torch.tensor(X))
    model, _ = lj.interop.from_torch(lj.KAN, splines.state_dict())  # with its knots
    return [*found, ("KAN", splines, model)]


def double(module: torch.nn.Module) -> torch.nn.Module:
    """Complex layers in complex128; `module.double()` leaves them in complex64."""
    module.double()
    for part in module.modules():
        if isinstance(part, torch.nn.Linear) and part.weight.is_complex():
            part.to(torch.complex128)
    return module


def differences(module: torch.nn.Module, model: Any) -> tuple[float, float]:
    """Relative differences of the values: weights read by us, and weights loaded by the module."""
    read, params = lj.interop.from_torch(type(model), module.state_dict())
    reading = difference(module, read, params)
    with jax.enable_x64(True):
        drawn = model.init(jax.random.key(0))
        params = jax.tree.map(lambda leaf: leaf.astype(np.float64), drawn)
    state = lj.interop.to_torch(model, params)
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    module.load_state_dict(tensors, strict=not isinstance(model, lj.KAN))
    return reading, difference(module, model, params)


def difference(module: torch.nn.Module, model: Any, params: Any) -> float:
    with torch.no_grad():
        theirs = module(torch.tensor(X)).numpy()
    ours = np.asarray(lj.BoundModel(model, params)(X))
    return float(abs(theirs - ours).max() / abs(theirs).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("finer", type=Path)
    parser.add_argument("wire", type=Path)
    options = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    lines = [
        (name, *(f"{value:.0e}" for value in differences(module, model)))
        for name, module, model in pairs(options.finer, options.wire)
    ]
    print(markdown("model | read from PyTorch | written for PyTorch", lines))


if __name__ == "__main__":
    main()
