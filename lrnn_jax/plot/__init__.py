"""Figures of fitted models.

This is the only package that imports matplotlib. Other modules import it inside the functions that
draw, because the import takes about half a second.
"""

from lrnn_jax.plot.comparison import draw_losses, draw_sections
from lrnn_jax.plot.figures import (
    save_figure,
    write_confusion,
    write_curves,
    write_error_map,
    write_frame_scores,
    write_predictions,
    write_slices,
    write_sound_error,
)
from lrnn_jax.plot.quick import activations, image, sections, sound, spectrum
from lrnn_jax.plot.results import show_result
from lrnn_jax.plot.volumes import write_volume_slices

__all__ = [
    "activations",
    "draw_losses",
    "draw_sections",
    "image",
    "save_figure",
    "sections",
    "show_result",
    "sound",
    "spectrum",
    "write_confusion",
    "write_curves",
    "write_error_map",
    "write_frame_scores",
    "write_predictions",
    "write_slices",
    "write_sound_error",
    "write_volume_slices",
]
