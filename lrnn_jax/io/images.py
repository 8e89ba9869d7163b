"""Read and write images: grey, grey + alpha, RGB, RGBA; 8 and 16 bits, and float TIFF."""

import dataclasses
import functools
import importlib.resources
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lrnn_jax.errors import InputError
from lrnn_jax.io.files import decoding, read_bytes, require_suffix, write_bytes
from lrnn_jax.io.memory import require_memory
from lrnn_jax.io.quiet import quiet
from lrnn_jax.io.sources import ArraySource, Source

SAMPLES = ("astronaut", "camera", "phantom")
"""Names of sample images that are installed with scikit-image.

A photograph in RGB and one in grey, 512 x 512, public domain; the Shepp-Logan phantom, 400 x 400,
grey."""

_CHANNELS = (1, 2, 3, 4)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # number of channels by the colour type in the header
_EXPANDED = ("P", "PA", "CMYK", "YCbCr")
_TIFF_BITS = (1, 8, 16, 32, 64)
_TIFF_COMPRESSIONS = (
    *("NONE", "CCITTRLE", "CCITTFAX3", "CCITTFAX4", "LZW", "JPEG"),
    *("ADOBE_DEFLATE", "DEFLATE", "PACKBITS", "LZMA", "ZSTD"),
)
"""JPEG, and the compressions to whose decoders tifffile passes the size.

Other decoders take the size from the data."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image: pixels in [0, 1], and the number of bits per channel of its source."""

    pixels: Float[np.ndarray, "height width channels"]
    bits: int


def read_picture(source: Source) -> Picture:
    """Read an image from a file or an array, or one of SAMPLES by its name.

    Args:
      source: the name of a sample, or a path. Palettes are expanded, black-and-white is
        converted to grey and CMYK to RGB, and the EXIF orientation is applied. 8 and 16 bits map
        0..255 and 0..65535 to [0, 1]; floats must be in [0, 1]. An array has shape
        (height, width) or (height, width, channels).

    Raises:
      InputError: the file is missing, unreadable or not a single image, or has invalid values.
    """
    if isinstance(source, ArraySource):
        return _picture(source.values, source)
    if source == "phantom":
        import skimage.data

        return _picture(skimage.data.shepp_logan_phantom(), source)
    path = _photograph(source) if source in SAMPLES else Path(source)
    content = read_bytes(path)
    with decoding(source, "image"):
        pixels = _decode(content, path)
    return _picture(pixels, source)


def count_channels(source: Source) -> int:
    """The number of channels of `read_picture(source)`.

    It is remembered for files of the same name, size and time of the last change, because a problem
    asks for it several times.

    Raises:
      InputError: as `read_picture`.
    """
    if isinstance(source, ArraySource):
        return read_picture(source).pixels.shape[-1]
    if source in SAMPLES:
        return _channels_of_file(source)
    try:
        state = Path(source).stat()
    except (OSError, ValueError):
        return read_picture(source).pixels.shape[-1]  # which says what is wrong
    return _channels_of_file(source, state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=1024)
def _channels_of_file(source: str, *state: int) -> int:
    del state
    return read_picture(source).pixels.shape[-1]


def _photograph(name: str) -> Path:
    """The file of a photograph among SAMPLES; `skimage.data` would import twice what is needed."""
    return Path(str(importlib.resources.files("skimage") / "data" / f"{name}.png"))


def _decode(content: bytes, path: Path) -> np.ndarray:
    """Decode an image in its display orientation; raise an error if that is not possible."""
    if content.startswith(_PNG) and content[24:25] == b"\x10":
        if b"eXIf" in content:
            raise InputError(f"{path} is a 16-bit PNG with EXIF data: save it without them")
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        _require_pixels(path, _PNG_CHANNELS.get(content[25], 4) * width * height, 2)
        import imagecodecs

        with quiet("imagecodecs"):  # libpng reads files in spite of its warnings
            return imagecodecs.png_decode(content)
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _decode_tiff(content, path)
    reader = _pillow_reader(content)
    if reader is None:
        raise InputError(f"cannot read {path}: expected a PNG, JPEG, GIF, BMP, WebP or TIFF file")
    with quiet("PIL"):  # Pillow reads files in spite of its warnings
        return _decode_by_pillow(reader(io.BytesIO(content)), path)


def _pillow_reader(content: bytes) -> Callable[[io.BytesIO], Any] | None:
    """Return the Pillow reader for the first bytes of a file; None if there is no lossless one.

    The reader is called directly. `PIL.Image.open` would try forty other readers, one of which
    starts Ghostscript, and would reject more than 179 million pixels regardless of free memory.
    """
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    readers = {
        _PNG: PngImagePlugin.PngImageFile,
        b"\xff\xd8\xff": JpegImagePlugin.jpeg_factory,
        b"GIF87a": GifImagePlugin.GifImageFile,
        b"GIF89a": GifImagePlugin.GifImageFile,
        b"BM": BmpImagePlugin.BmpImageFile,
        b"RIFF": WebPImagePlugin.WebPImageFile,
    }
    return next((reader for start, reader in readers.items() if content.startswith(start)), None)


def _decode_by_pillow(image: Any, path: Path) -> np.ndarray:
    from PIL import ImageOps

    frames = getattr(image, "n_frames", 1)
    if frames > 1 or image.format == "MPO":
        raise InputError(f"{path} has {frames} frames: expected a single image")
    channels = len(image.getbands()) + 4 * (image.mode in _EXPANDED)
    _require_pixels(path, channels * math.prod(image.size), 1)
    try:
        image.load()
    except OSError as error:
        raise InputError(f"cannot read {path}: damaged, or no image") from error
    if image.mode in _EXPANDED:
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    return np.asarray(ImageOps.exif_transpose(image))


def _require_pixels(path: Path, values: int, itemsize: int, more: int = 0) -> None:
    """Check the memory for decoded values, two copies, their float64 array, and `more` bytes."""
    require_memory(path, values * (8 + 3 * itemsize) + more)


def _decode_tiff(content: bytes, path: Path) -> np.ndarray:
    """Decode a TIFF with one page in normal orientation, grey or RGB, 1, 8 or 16 bits or float."""
    import tifffile

    with quiet("tifffile"), tifffile.TiffFile(io.BytesIO(content)) as file:
        if len(file.pages) != 1:
            raise InputError(f"{path} has {len(file.pages)} pages: expected a single image")
        page: Any = file.pages[0]
        orientation = page.tags.get("Orientation")
        compression = getattr(page.compression, "name", page.compression)
        colours = getattr(page.photometric, "name", page.photometric)
        for name, value, choices in (
            ("colours", colours, ("MINISBLACK", "RGB") + ("YCBCR",) * (compression == "JPEG")),
            ("bits", page.bitspersample, _TIFF_BITS),
            ("orientation", 1 if orientation is None else int(orientation.value), (1,)),
            ("compression", compression, _TIFF_COMPRESSIONS),
        ):
            if value not in choices:
                known = ", ".join(map(str, choices))
                raise InputError(f"{path} is a TIFF of {name} {value}: expected {known}")
        if not all(isinstance(n, int) and n > 0 for n in (*page.shape, *page.chunks)):
            raise InputError(f"{path} is damaged: its size is no number of pixels")
        itemsize = max(1, page.bitspersample // 8)
        segment = 3 * itemsize * math.prod(page.chunks)
        _require_pixels(path, math.prod(page.shape), itemsize, segment + len(content))
        if compression == "JPEG":
            _check_jpeg_segments(content, page, path)
        pixels = page.asarray(maxworkers=1)
    separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3
    return np.moveaxis(pixels, 0, -1) if separate else pixels


def _check_jpeg_segments(content: bytes, page: Any, path: Path) -> None:
    """Check that the JPEG streams of a TIFF are complete and fit into its strips or tiles.

    Otherwise a decoder would fill in missing data, or allocate the size that a stream declares.
    """
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else page.shape[:2]
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream = content[offset : offset + count]
        if len(stream) < count or b"\xff\xd9" not in stream[-16:]:
            raise InputError(f"{path} is cut short: a JPEG stream in it has no end")
        high, wide = _jpeg_size(stream)
        if high > height or wide > width:
            raise InputError(f"{path} is damaged: a strip of {wide} x {high} in {width} x {height}")


def _jpeg_size(stream: bytes) -> tuple[int, int]:
    """Return the (height, width) that a JPEG stream declares.

    Raises:
      ValueError: the stream declares no size.
    """
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = stream[at + 5 : at + 9]
            return int.from_bytes(size[:2], "big"), int.from_bytes(size[2:], "big")
        at += 2 + length
    raise ValueError("a JPEG stream without a size")


def _picture(pixels: np.ndarray, source: Source) -> Picture:
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in _CHANNELS:
        raise InputError(
            f"{source} has shape {pixels.shape}: expected an image (height, width) or "
            "(height, width, 1 to 4 channels)"
        )
    if math.prod(pixels.shape[:2]) < 2:
        raise InputError(
            f"{source} has {pixels.shape[0]} x {pixels.shape[1]} pixels: expected 2 or more"
        )
    return Picture(_to_unit(pixels, source), 16 if pixels.dtype.itemsize > 1 else 8)


def _to_unit(pixels: np.ndarray, source: Source) -> np.ndarray:
    if pixels.dtype == np.bool_:
        return pixels.astype(np.float64)
    if pixels.dtype in (np.uint8, np.uint16):
        return pixels / float(np.iinfo(pixels.dtype).max)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(
            f"{source} holds {pixels.dtype}: expected 8 or 16 bits, or floats in [0, 1]"
        )
    bad = np.argwhere(~np.isfinite(pixels))
    if len(bad):
        row, column, channel = bad[0]
        raise InputError(
            f"{source} has {len(bad)} values that are not finite, the first at row {row}, "
            f"column {column}, channel {channel}: expected floats in [0, 1]"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        raise InputError(f"{source} has values in [{low:g}, {high:g}]: expected floats in [0, 1]")
    return pixels.astype(np.float64)


def write_png(
    path: Path, pixels: Float[np.ndarray, "height width channels"], bits: int = 8
) -> Path:
    """Write pixels in [0, 1], clipped and rounded, as a PNG with 8 or 16 bits per channel.

    Raises:
      InputError: the file cannot be written, or a value is not finite.
    """
    counts = _counts(path, pixels, bits)
    import imagecodecs

    return write_bytes(path, bytes(imagecodecs.png_encode(counts)))


def write_picture(
    path: str | Path, pixels: Float[np.ndarray, "height width channels"], bits: int = 8
) -> Path:
    """Write pixels in [0, 1], clipped and rounded, in the format of the suffix: PNG or TIFF.

    Raises:
      InputError: the suffix is another, the file cannot be written, or a value is not finite.
    """
    path = require_suffix(path, ".png", ".tif", ".tiff")
    if path.suffix.lower() == ".png":
        return write_png(path, pixels, bits)
    counts = _counts(path, pixels, bits)
    import tifffile

    buffer = io.BytesIO()
    colours = "minisblack" if counts.ndim == 2 or counts.shape[-1] < 3 else "rgb"
    tifffile.imwrite(buffer, counts, photometric=colours)
    return write_bytes(path, buffer.getvalue())


def _counts(path: Path, pixels: np.ndarray, bits: int) -> np.ndarray:
    """Pixels in [0, 1] as integers, without a single channel."""
    if not np.isfinite(pixels).all():
        raise InputError(f"cannot write {path}: it would hold values that are not finite")
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    counts = np.round(np.clip(pixels, 0, 1) * np.iinfo(dtype).max).astype(dtype)
    return np.ascontiguousarray(counts[..., 0] if counts.shape[-1] == 1 else counts)


def resize(
    pixels: Float[np.ndarray, "height width *c"], size: tuple[int, int]
) -> Float[np.ndarray, "new_height new_width *c"]:
    """Resample an image to `size` (width, height), with a low-pass filter when shrinking.

    Raises:
      InputError: there is not enough memory for the result.
    """
    from skimage.transform import resize as resample

    width, height = size
    values = width * height * math.prod(pixels.shape[2:])
    require_memory(f"size: {width} x {height} pixels", 3 * 8 * values)  # two copies
    resized: Any = resample(pixels, (height, width), anti_aliasing=True)
    return resized
