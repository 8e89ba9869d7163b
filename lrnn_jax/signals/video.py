"""Videos as fields: map time, row and column to colours."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from einops import rearrange
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import check_types, require_at_least, require_positive
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    PAN,
    Clip,
    SourceField,
    as_source,
    make_folder,
    read_video,
    resize,
    write_video,
)
from lrnn_jax.metrics import psnr, psnr_from_mse
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field, Section

__all__ = ["Video", "VideoData"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VideoData:
    """The pixels of a video as points, frame by frame and row by row.

    Attributes:
      x: pixel centres (time, row, column); each axis spans [-1, 1].
      y: colours, mapped from [0, 1] to [-1, 1].
      shape: (frames, height, width).
      rate: frames per second.
    """

    x: Float[ArrayLike, "n 3"]
    y: Float[ArrayLike, "n c"]
    shape: tuple[int, int, int] = dataclasses.field(metadata={"static": True})
    rate: float = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Video(Pointwise):
    """Fit a video: minimise the mean squared error of u(time, row, column) over its pixels.

    The loss is in units of the network's range [-1, 1], so PSNR = 10 log10(4 / loss).

    Args:
      source: 'pan', a window moving over a sample image, the path of a GIF, a video file, or a
        folder of images, which are read in the order of their names, or an array
        (frames, height, width) or (frames, height, width, channels).
      fps: frames per second of an array, > 0, by default 12; None for files, which state it.
      frames: number of frames to read from the start, >= 2; None reads all.
      size: (width, height) in pixels to resize to, anti-aliased; None keeps the resolution.

    Raises:
      InputError: the video is missing or unusable, or a field is out of its range.
    """

    main_score: ClassVar[str | None] = "psnr"
    decoded_file: ClassVar[str] = "decoded.gif"

    source: SourceField = dataclasses.field(default=as_source(PAN), kw_only=False)
    fps: float | None = None
    frames: int | None = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_source(self.source))
        require_at_least(self, 2, "frames")
        require_positive(self, "fps")
        require_at_least(self, 1, "size")
        check_types(self)

    @property
    def in_dim(self) -> int:
        """3: time, row and column."""
        return 3

    @property
    def out_dim(self) -> int:
        """Number of channels; reads the file."""
        return read_video(self.source, 2, self.fps).frames.shape[-1]

    def load(self) -> VideoData:
        """Reads and resizes the video."""
        video = read_video(self.source, self.frames, self.fps)
        pixels = video.frames
        if self.size is not None:
            pixels = np.clip(np.stack([resize(frame, self.size) for frame in pixels]), 0, 1)
        shape = pixels.shape[:3]
        return VideoData(
            x=_centres(shape),
            y=in_precision(rearrange(2 * pixels - 1, "t h w c -> (t h w) c")),
            shape=shape,
            rate=video.rate,
        )

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB (peak 2), computed from the loss."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: VideoData | None = None) -> dict[str, float]:
        """PSNR in dB (peak 1) of the full video and of its worst frame, not rounded."""
        data = self.loaded(data)
        value, truth = _frames(predict(field, data.x), data.shape), _frames(data.y, data.shape)
        return {"psnr": psnr(value, truth), "psnr_worst": min(_by_frame(value, truth))}

    def section(self, field: Field, data: VideoData | None = None) -> Section:
        """The middle frame."""
        data = self.loaded(data)
        middle = data.shape[0] // 2
        value = _frames(predict(field, data.x), data.shape)
        return Section(_frames(data.y, data.shape)[middle], value[middle])

    def render(
        self, field: Field, data: VideoData | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`reconstruction.gif`, and `frames.png` with the PSNR of each frame."""
        from lrnn_jax.plot import write_frame_scores

        data = self.loaded(data)
        folder = make_folder(folder)
        value, truth = _frames(predict(field, data.x), data.shape), _frames(data.y, data.shape)
        return [
            write_video(folder / "reconstruction.gif", Clip(value, data.rate)),
            write_frame_scores(folder / "frames.png", _by_frame(value, truth)),
        ]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes a video of `size` (frames, width, height); None: the size of the source.

        The duration is that of the source.
        """
        path = path or self.decoded_file
        data = self.load()
        if size is None:
            shape = data.shape
        elif len(size) == 3 and min(size) >= 1 and size[0] >= 2:
            shape = (size[0], size[2], size[1])
        else:
            raise InputError(f"size: expected frames >= 2, a width and a height, got {size}")
        rate = data.rate * shape[0] / data.shape[0]
        return write_video(path, Clip(_frames(predict(field, _centres(shape)), shape), rate))


def _centres(shape: tuple[int, ...]) -> Float[np.ndarray, "n 3"]:
    return rearrange(grid(shape), "t h w d -> (t h w) d")


def _frames(y: ArrayLike, shape: tuple[int, ...]) -> Float[np.ndarray, "t h w c"]:
    """Frames mapped from [-1, 1] to [0, 1], in float64."""
    return (np.asarray(y, np.float64).reshape(*shape, -1) + 1) / 2


def _by_frame(value: np.ndarray, truth: np.ndarray) -> list[float]:
    """PSNR of each frame."""
    return [psnr(one, other) for one, other in zip(value, truth, strict=True)]
