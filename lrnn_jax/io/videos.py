"""Video in and out: a folder of frames, GIF, MP4 and what else FFmpeg reads."""

import io
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as imageio
import numpy as np
import PIL.GifImagePlugin
import skimage.data
from jaxtyping import Float

from lrnn_jax.errors import InputError
from lrnn_jax.io.containers import require_whole, video_format
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import atomic, io_errors
from lrnn_jax.io.images import read_picture
from lrnn_jax.io.memory import require_memory

__all__ = ["PAN", "Clip", "read_video", "write_video"]

PAN = "pan"
"""The name of a video that needs no file: a window that moves over scikit-image's camera man."""

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_RATE = 12.0  # frames a second where the source does not say


class Clip(NamedTuple):
    """Frames in [0, 1], shape (t, height, width, channels), and how many a second."""

    frames: Float[np.ndarray, "t height width c"]
    rate: float


def read_video(source: str, count: int | None = None) -> Clip:
    """The first `count` frames of a video, of a folder of pictures in the order of names, or PAN.

    Raises:
      InputError: it is missing, damaged, too large, of one frame, or of frames of several sizes;
        a film needs PyAV, which is not installed.
    """
    if source == PAN:
        video = _pan()
        return video._replace(frames=video.frames[:count])
    path = Path(source)
    with io_errors(path, "read"):
        video = _folder(path, count) if path.is_dir() else _film(path, count)
    if len(video.frames) < 2:
        raise InputError(f"{source} has one frame: for a single picture take the problem 'image'")
    return video


def write_video(path: Path, video: Clip) -> Path:
    """Writes frames, clipped and rounded to 8 bits, as a GIF or, by its suffix, as a film.

    A film has no transparency, and sides that are even: a last row or column is repeated.

    Raises:
      InputError: the file cannot be written, or a value is not finite.
    """
    if not np.isfinite(video.frames).all():
        raise InputError(f"cannot write {path}: it would hold values that are not finite")
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
            even = tuple((0, side % 2) for side in counts.shape[1:3])  # what the codec asks for
            frames = np.pad(frames, ((0, 0), *even, (0, 0)), mode="edge")
            options: dict[str, Any] = {"codec": "libx264", "fps": max(1, round(video.rate))}
            try:
                imageio.imwrite(temporary, frames, plugin="pyav", **options)
            except Exception as error:  # the encoder has exceptions of its own
                raise InputError(f"cannot write {path}: {error}") from error
    return path


def _pan() -> Clip:
    """16 frames of 64 x 64 pixels."""
    picture = skimage.data.camera() / 255
    places = [(80 + 3 * t, 180 + 5 * t) for t in range(16)]
    frames = [picture[row : row + 64, column : column + 64, None] for row, column in places]
    return Clip(np.stack(frames), _RATE)


def _folder(path: Path, count: int | None) -> Clip:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _PICTURES)[:count]
    if not files:
        raise InputError(f"{path} holds no pictures: expected {', '.join(_PICTURES)}")
    first = read_picture(str(files[0])).pixels
    require_memory(path, 2 * 8 * first.size * len(files))  # the frames, and their stack
    frames = []
    for file in files:
        pixels = read_picture(str(file)).pixels
        if pixels.shape != first.shape:
            raise InputError(f"{file} has shape {pixels.shape}, the first frame {first.shape}")
        frames.append(pixels)
    return Clip(np.stack(frames), _RATE)


def _film(path: Path, count: int | None) -> Clip:
    content = path.read_bytes()
    require_whole(content, str(path))
    kind = video_format(content)
    try:
        if content.startswith(b"GIF8"):
            frames, rate = _gif(content, path, count)
        elif kind is None:
            raise InputError(
                f"cannot read {path}: damaged, or no video (expected GIF, MP4, QuickTime, "
                "Matroska, WebM, AVI, Ogg, FLV, ASF, MPEG or Y4M)"
            )
        else:
            frames, rate = _decoded(content, kind, path, count)
    except InputError:
        raise
    except Exception as error:  # each decoder has exceptions of its own; all mean the same here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read {path}: damaged, or no video ({reason[:100]})") from error
    if not frames:
        raise InputError(f"cannot read {path}: damaged, or no video (no frame in it)")
    return Clip(np.stack(frames) / 255, rate)


def _gif(content: bytes, path: Path, count: int | None) -> tuple[list[np.ndarray], float]:
    """The frames of a GIF in RGB, and its rate from the milliseconds of a frame."""
    image = PIL.GifImagePlugin.GifImageFile(io.BytesIO(content))
    frames: list[np.ndarray] = []
    for index in range(image.n_frames if count is None else min(count, image.n_frames)):
        _require_frame(path, 3 * image.width * image.height, len(frames), copies=4)
        image.seek(index)
        frames.append(np.asarray(image.convert("RGB")))
    duration = float(image.info.get("duration") or 0)
    return frames, 1000 / duration if duration else _RATE


def _decoded(
    content: bytes, kind: str, path: Path, count: int | None
) -> tuple[list[np.ndarray], float]:
    """The frames in RGB of the first video stream, and their rate.

    FFmpeg is given the bytes and the name of the container: what a path or the content could make
    it open besides, as playlists do, it has no means to open.
    """
    av, frames = extra("av", "video"), []
    av.logging.set_level(None)  # what it would print, it raises as well
    options = {"protocol_whitelist": "none", "enable_drefs": "0"}
    options = options if kind == "mov" else {"protocol_whitelist": "none"}
    with av.open(io.BytesIO(content), format=kind, options=options) as container:
        stream = container.streams.video[0]
        _require_frame(path, 3 * stream.width * stream.height, max(0, (count or stream.frames) - 1))
        for frame in itertools.islice(container.decode(stream), count):
            _require_frame(path, 3 * frame.width * frame.height, len(frames))
            frames.append(frame.to_ndarray(format="rgb24"))
            if frames[-1].shape != frames[0].shape:
                raise InputError(f"{path} has frames of several sizes")
        if count is None and stream.frames > len(frames):
            raise InputError(f"{path} is cut short: {len(frames)} of {stream.frames} frames")
        return frames, float(stream.guessed_rate or stream.average_rate or _RATE)


def _require_frame(path: Path, size: int, before: int, copies: int = 2) -> None:
    """Memory for one more frame of `size` bytes, and for what is made of all of them in the end.

    That is the frames, their stack, and its float64: 9 bytes more for each byte that is there.
    """
    require_memory(path, 9 * size * (before + 1) + copies * size)
