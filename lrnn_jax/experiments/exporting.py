"""Export of the network of a run folder, for the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from safetensors.numpy import save

from lrnn_jax.experiments.saving import load_run
from lrnn_jax.fields import BoundModel
from lrnn_jax.interop.programs import to_onnx, to_stablehlo
from lrnn_jax.interop.torch import to_torch
from lrnn_jax.io import write_bytes

__all__ = ["FORMATS", "export_run"]


def _torch_file(field: BoundModel) -> bytes:
    return save(to_torch(cast("Any", field.model), field.params))


FORMATS: dict[str, tuple[str, Callable[[BoundModel], bytes]]] = {
    "onnx": ("model.onnx", to_onnx),
    "stablehlo": ("model.stablehlo", to_stablehlo),
    "torch": ("model_torch.safetensors", _torch_file),
}
"""For each format, the default name of the file and the function that makes its content."""


def export_run(folder: Path, to: str, path: Path | None = None) -> Path:
    """Write the network of a finished run in one of `FORMATS`; returns the path.

    Raises:
      InputError: as `load_run` and the function of the format, or the file cannot be written.
    """
    name, content = FORMATS[to]
    target = folder / name if path is None else path
    made = content(load_run(folder).field)
    write_bytes(target, made)
    return target
