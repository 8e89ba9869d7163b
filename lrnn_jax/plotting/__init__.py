"""Figures of fitted models.

This is the only package that imports matplotlib. Other modules import it inside the functions that
draw, because the import takes about half a second.
"""

from lrnn_jax.plotting.figures import (
    save_figure,
    write_confusion,
    write_curves,
    write_error_map,
    write_frame_scores,
    write_predictions,
    write_slices,
    write_sound_error,
)
from lrnn_jax.plotting.results import show_result
from lrnn_jax.plotting.volumes import write_volume_slices

__all__ = [
    "save_figure",
    "show_result",
    "write_confusion",
    "write_curves",
    "write_error_map",
    "write_frame_scores",
    "write_predictions",
    "write_slices",
    "write_sound_error",
    "write_volume_slices",
]
