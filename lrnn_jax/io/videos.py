"""Read and write videos: a folder of frames, GIF, MP4 and other containers, through FFmpeg."""

import io
import itertools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from lrnn_jax.errors import InputError
from lrnn_jax.io.containers import require_container
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import atomic, decoding, io_errors, read_bytes, require_suffix
from lrnn_jax.io.images import read_picture
from lrnn_jax.io.memory import require_memory
from lrnn_jax.io.sources import ArraySource, Source

PAN = "pan"
"""Name of a synthetic video: a window that moves over scikit-image's cameraman image."""

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
# FFmpeg's names of the demuxers, as `format_whitelist` compares them.
_DEMUXERS = {
    "mov": "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska": "matroska,webm",
    "avi": "avi",
    "ogg": "ogg",
    "flv": "flv",
    "mpeg": "mpeg",
    "mpegts": "mpegts",
    "asf": "asf",
    "yuv4mpegpipe": "yuv4mpegpipe",
}
_RATE = 12.0  # frames per second if the source does not state it


class Clip(NamedTuple):
    """A video: frames in [0, 1], and the frame rate in frames per second."""

    frames: Float[np.ndarray, "t height width c"]
    rate: float


def read_video(source: Source, count: int | None = None, rate: float | None = None) -> Clip:
    """Read the first `count` frames of a video file, a folder of images, an array, or PAN.

    The images of a folder are sorted by name. An array has shape (frames, height, width) or
    (frames, height, width, channels), with values as for an image; `rate` is its number of frames
    per second, by default 12.

    Raises:
      InputError: the source is missing, damaged or too large, has only one frame, or has frames of
        different sizes; or PyAV, which video files other than GIF need, is not installed.
    """
    if isinstance(source, ArraySource):
        if source.values.ndim not in (3, 4):
            raise InputError(f"source: expected frames (t, h, w) or (t, h, w, c), got {source}")
        pictures = [read_picture(ArraySource(frame)).pixels for frame in source.values[:count]]
        video = Clip(np.stack(pictures), _RATE if rate is None else rate)
    elif rate is not None:
        raise InputError(f"fps: {source} has a frame rate of its own; leave it out")
    elif source == PAN:
        video = _pan()
        return video._replace(frames=video.frames[:count])
    else:
        path = Path(source)
        with io_errors(path, "read"):
            video = _folder(path, count) if path.is_dir() else _film(path, count)
    if len(video.frames) < 2:
        raise InputError(f"{source} has one frame: for a single image take the problem 'image'")
    return video


def write_video(path: str | Path, video: Clip) -> Path:
    """Write frames, clipped and rounded to 8 bits, as a GIF or, for another suffix, as H.264 video.

    H.264 video has no transparency and needs even sides: an odd last row or column is repeated.

    Raises:
      InputError: the file cannot be written, or a value is not finite.
    """
    path = require_suffix(path, ".gif", ".mp4", ".mkv", ".mov")
    if not np.isfinite(video.frames).all():
        raise InputError(f"cannot write {path}: it would hold values that are not finite")
    import imageio.v3 as imageio

    counts = np.round(255 * np.clip(video.frames, 0, 1)).astype(np.uint8)
    grey = counts.shape[-1] == 1
    with atomic(path) as temporary:
        if path.suffix.lower() == ".gif":
            frames = counts[..., 0] if grey else counts
            imageio.imwrite(temporary, frames, duration=1000 / video.rate, loop=0, is_batch=True)
        else:
            extra("av", "video")
            colours = counts[..., : 1 if counts.shape[-1] < 3 else 3]  # without transparency
            frames = np.broadcast_to(colours, (*counts.shape[:3], 3))
            even = tuple((0, side % 2) for side in counts.shape[1:3])  # the codec needs even sides
            frames = np.pad(frames, ((0, 0), *even, (0, 0)), mode="edge")
            options: dict[str, Any] = {"codec": "libx264", "fps": max(1, round(video.rate))}
            try:
                imageio.imwrite(temporary, frames, plugin="pyav", **options)
            except Exception as error:  # the encoder raises its own types
                raise InputError(f"cannot write {path}: {error}") from error
    return path


def _pan() -> Clip:
    """Generate 16 frames of 64 x 64 pixels."""
    image = read_picture("camera").pixels[..., 0]
    corners = [(80 + 3 * t, 180 + 5 * t) for t in range(16)]
    frames = [image[row : row + 64, column : column + 64, None] for row, column in corners]
    return Clip(np.stack(frames), _RATE)


def _folder(path: Path, count: int | None) -> Clip:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)[:count]
    if not files:
        raise InputError(f"{path} holds no images: expected {', '.join(_IMAGES)}")
    first = read_picture(str(files[0])).pixels
    require_memory(path, 2 * 8 * first.size * len(files))  # the frames and the stacked copy
    frames = []
    for file in files:
        pixels = read_picture(str(file)).pixels
        if pixels.shape != first.shape:
            raise InputError(f"{file} has shape {pixels.shape}, the first frame {first.shape}")
        frames.append(pixels)
    return Clip(np.stack(frames), _RATE)


def _film(path: Path, count: int | None) -> Clip:
    content = read_bytes(path)
    container = require_container(content, str(path))
    frames: list[np.ndarray] = []
    with decoding(path, "video"):
        is_gif = container == "gif"
        rate, decoded = _gif(content, path) if is_gif else _stream(content, container, path)
        for frame in itertools.islice(decoded, count):
            if frames and frame.shape != frames[0].shape:
                raise InputError(
                    f"{path}: frame {len(frames)} has shape {frame.shape}, the first "
                    f"{frames[0].shape}"
                )
            frames.append(frame)
            # The stacked copy and its float64 values; the frames themselves are already allocated.
            require_memory(path, (1 + 8) * frame.nbytes * len(frames))
    if not frames:
        raise InputError(f"cannot read {path}: it holds no frames")
    return Clip(np.stack(frames) / 255, rate)


def _gif(content: bytes, path: Path) -> tuple[float, Iterator[np.ndarray]]:
    from PIL import Image, ImageSequence

    width, height = struct.unpack_from("<HH", content, 6)
    require_memory(path, (4 + 4 + 3 + 1 + 8 * 3) * width * height)  # Pillow's canvases, one frame
    file = Image.open(io.BytesIO(content), formats=["GIF"])
    duration = float(file.info.get("duration") or 0)
    frames = (np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file))
    return 1000 / duration if duration else _RATE, frames


def _stream(content: bytes, container: str, path: Path) -> tuple[float, Iterator[np.ndarray]]:
    """Open a video from memory with a fixed demuxer, so that FFmpeg cannot open other files."""
    av = extra("av", "video")
    av.logging.set_level(av.logging.PANIC)  # the exception has the message
    options = {"format_whitelist": _DEMUXERS[container], "protocol_whitelist": "none"}
    file = av.open(io.BytesIO(content), format=container, container_options=options)
    if not file.streams.video:
        raise InputError(f"{path} has no video stream")
    stream = file.streams.video[0]
    require_memory(path, (3 + 3 + 1 + 8 * 3) * stream.width * stream.height)
    frames = (frame.to_ndarray(format="rgb24") for frame in file.decode(stream))
    return float(stream.average_rate or 0) or _RATE, frames
