"""Pictures in and out: no bit is lost, and a file is read right or refused, never read wrong."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image as Pillow

from lrnn_jax import InputError
from lrnn_jax.io import memory, read_picture, write_png

DTYPE = {8: np.uint8, 16: np.uint16}
HEIGHT, WIDTH = 6, 5
ORIENTATION = 274  # the tag of EXIF and TIFF; 6: turn a quarter clockwise to see it upright


def drawn(bits=8, channels=3, height=HEIGHT, width=WIDTH):
    """Random counts, (height, width, channels)."""
    shape = (height, width, channels)
    return np.random.default_rng(bits + channels).integers(0, 2**bits, shape, DTYPE[bits])


def counts(picture):
    """The integers that the pixels of a picture stand for."""
    return np.round(picture.pixels * (2**picture.bits - 1)).astype(DTYPE[picture.bits])


def unit(image):
    """Counts as pixels in [0, 1], by a formula of our own."""
    return image.astype(np.float64) / {1: 255, 2: 65535}[image.dtype.itemsize]


def shades(image):
    """A picture of 8 bits as a palette of 8 colours, and those colours."""
    palette = Pillow.fromarray(image).quantize(8)
    return palette, unit(np.asarray(palette.convert("RGB")))


def png_by_hand(image):
    """A PNG of 8 or 16 bits made of zlib and struct alone; filter 0, one IDAT."""

    def piece(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    height, width, channels = image.shape
    depth, colour = 8 * image.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in image)
    pieces = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(piece(*both) for both in pieces)


def encoded(image, kind, **options):
    """The file that Pillow makes of an array or of a Pillow picture."""
    file = io.BytesIO()
    picture = image if isinstance(image, Pillow.Image) else Pillow.fromarray(image)
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(image, photometric="rgb", **options):
    """The file that tifffile makes of an array."""
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric=photometric, **options)
    return file.getvalue()


def rotation(orientation):
    exif = Pillow.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture
def stored(tmp_path):
    """Writes bytes under a name and returns the path as a string."""

    def store(name, content):
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return store


# Out and in again ---------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_is_written_is_read_again(tmp_path, bits, channels):
    image = drawn(bits, channels)
    path = write_png(tmp_path / "a.png", unit(image), bits)
    picture = read_picture(str(path))
    assert picture.bits == bits
    np.testing.assert_array_equal(picture.pixels, unit(image))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@given(data=st.data(), bits=st.sampled_from([8, 16]), channels=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_again_at_any_size(scratch, data, bits, channels):
    height = data.draw(st.integers(1, 9))
    width = data.draw(st.integers(2 if height == 1 else 1, 9))
    image = data.draw(arrays(DTYPE[bits], (height, width, channels)))
    picture = read_picture(str(write_png(scratch / "any.png", unit(image), bits)))
    assert picture.bits == bits
    np.testing.assert_array_equal(counts(picture), image)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_png_made_by_hand_loses_no_bit(stored, bits, channels):
    image = drawn(bits, channels)
    picture = read_picture(stored("hand.png", png_by_hand(image)))
    assert picture.bits == bits
    np.testing.assert_array_equal(counts(picture), image)


def test_neighbouring_counts_of_16_bits_stay_apart(stored):
    image = np.arange(30_000, 30_000 + 12, dtype=np.uint16).reshape(2, 2, 3)
    picture = read_picture(stored("near.png", png_by_hand(image)))
    assert len(np.unique(picture.pixels)) == 12


@pytest.mark.parametrize(("bits", "top"), [(8, 255), (16, 65535)])
def test_values_are_clipped_and_rounded_when_written(tmp_path, bits, top):
    pixels = np.array([[[-0.5], [0.4 / top], [0.6 / top], [1.0], [7.0]]])
    picture = read_picture(str(write_png(tmp_path / "a.png", pixels, bits)))
    assert counts(picture).ravel().tolist() == [0, 0, 1, top, top]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_not_written(tmp_path, bad):
    with pytest.raises(InputError, match=r"cannot write .*a\.png: .*not finite"):
        write_png(tmp_path / "a.png", np.full((2, 2, 1), bad))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["astronaut", "camera"])
def test_samples_are_read_by_name(name):
    pixels = read_picture(name).pixels
    assert pixels.shape == (512, 512, {"astronaut": 3, "camera": 1}[name])
    assert 0 <= pixels.min() < pixels.max() <= 1


# What a user may bring ----------------------------------------------------------------------------

RGB, DEEP = drawn(), drawn(bits=16)
GREY, BLACK = RGB[..., 0].copy(), RGB[..., 0] > 127
PALETTE, COLOURS = shades(RGB)
FLAT = np.full((16, 16, 3), (200, 100, 50), np.uint8)
FLOATS = np.random.default_rng(1).random((HEIGHT, WIDTH, 3)).astype(np.float32)
TURNED = np.rot90(RGB, -1)

READ = {
    "palette.png": (encoded(PALETTE, "PNG"), COLOURS, 8),
    "palette.gif": (encoded(PALETTE, "GIF"), COLOURS, 8),
    "one-bit.png": (encoded(BLACK, "PNG"), BLACK[..., None] * 1.0, 8),
    "one-bit.tif": (encoded(BLACK, "TIFF"), BLACK[..., None] * 1.0, 8),
    "one-bit-fax.tif": (encoded(BLACK, "TIFF", compression="group4"), BLACK[..., None] * 1.0, 8),
    "lossless.webp": (encoded(RGB, "WEBP", lossless=True), unit(RGB), 8),
    "colour.bmp": (encoded(RGB, "BMP"), unit(RGB), 8),
    "upper.PNG": (encoded(RGB, "PNG"), unit(RGB), 8),
    "no suffix": (encoded(RGB, "PNG"), unit(RGB), 8),
    "16-bit no suffix": (png_by_hand(DEEP), unit(DEEP), 16),
    "ünï 文.png": (encoded(RGB, "PNG"), unit(RGB), 8),
    "grey.tif": (tiff(GREY, "minisblack"), unit(GREY)[..., None], 8),
    "plain.tif": (tiff(DEEP), unit(DEEP), 16),
    "lzw.tif": (tiff(DEEP, compression="lzw"), unit(DEEP), 16),
    "deflate.tif": (tiff(DEEP, compression="zlib", predictor=True), unit(DEEP), 16),
    "big-endian.TIFF": (tiff(DEEP, byteorder=">"), unit(DEEP), 16),
    "alpha.tif": (
        tiff(drawn(16, 4), extrasamples=["unassalpha"]),
        unit(drawn(16, 4)),
        16,
    ),
    "float32.tif": (tiff(FLOATS), FLOATS.astype(np.float64), 16),
    "float64.tif": (tiff(FLOATS.astype(np.float64)), FLOATS.astype(np.float64), 16),
    "turned.png": (encoded(RGB, "PNG", exif=rotation(6)), unit(TURNED), 8),
}

if not hasattr(tifffile.COMPRESSION, "CCITTFAX4"):  # an older tifffile has no decoder for it
    del READ["one-bit-fax.tif"]


@pytest.mark.parametrize("name", READ)
def test_pictures_of_many_kinds_are_read_exactly(stored, name):
    content, expected, bits = READ[name]
    picture = read_picture(stored(name, content))
    assert picture.bits == bits
    assert picture.pixels.dtype == np.float64
    np.testing.assert_array_equal(picture.pixels, expected)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: np.swapaxes(a, 0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
        8: np.rot90,
    }.items(),
)
def test_a_cameras_rotation_mark_is_applied(stored, orientation, turn):
    """Blocks of 16 x 16 pixels, which a JPEG of high quality keeps to a level or two."""
    blocks = np.kron(drawn(height=3, width=2), np.ones((16, 16, 1), np.uint8))
    options = {"quality": 100, "subsampling": 0}
    jpeg = encoded(blocks, "JPEG", exif=rotation(orientation), **options)
    pixels = read_picture(stored("camera.jpg", jpeg)).pixels
    assert pixels.shape == turn(blocks).shape
    np.testing.assert_allclose(pixels, unit(turn(blocks)), atol=3 / 255)


def test_cmyk_becomes_rgb(stored):
    jpeg = encoded(Pillow.fromarray(FLAT).convert("CMYK"), "JPEG", quality=100)
    picture = read_picture(stored("print.jpg", jpeg))
    np.testing.assert_allclose(picture.pixels, unit(FLAT), atol=3 / 255)


LEVELS = np.arange(0, 4096, 140, np.uint16).reshape(HEIGHT, WIDTH)
SEPARATE = {"planarconfig": "separate"}
NARROW = RGB[:, :3]
TRICKY = {
    "palette.tif": (encoded(PALETTE, "TIFF"), COLOURS),
    "cmyk.tif": (encoded(Pillow.fromarray(FLAT).convert("CMYK"), "TIFF"), unit(FLAT)),
    "white-is-zero.tif": (tiff(GREY, "miniswhite"), 1 - unit(GREY)[..., None]),
    "turned.tif": (tiff(RGB, extratags=[(ORIENTATION, "H", 1, 6, True)]), unit(TURNED)),
    "turned-16-bit.png": (
        encoded(DEEP[..., 0].copy(), "PNG", exif=rotation(6)),
        unit(np.rot90(DEEP[..., :1], -1)),
    ),
    "planes.tif": (tiff(np.moveaxis(RGB, -1, 0).copy(), **SEPARATE), unit(RGB)),
    "planes-3-wide.tif": (tiff(np.moveaxis(NARROW, -1, 0).copy(), **SEPARATE), unit(NARROW)),
    "16-bit-tiff-called.png": (tiff(DEEP), unit(DEEP)),
    "16-bit.ppm": (b"P6 5 6 65535\n" + DEEP.astype(">u2").tobytes(), unit(DEEP)),
    "16-bit.pgm": (b"P5 5 6 65535\n" + DEEP[..., 0].astype(">u2").tobytes(), unit(DEEP[..., :1])),
    "16-bit.jp2": (imagecodecs.jpeg2k_encode(DEEP, reversible=True), unit(DEEP)),
}


with contextlib.suppress(NotImplementedError):  # an older tifffile cannot write it
    TRICKY["12-bit.tif"] = (
        tiff(LEVELS, "minisblack", bitspersample=12),
        LEVELS[..., None] / 4095,
    )


@pytest.mark.parametrize("name", TRICKY)
def test_an_unusual_file_is_read_right_or_refused(stored, name):
    """The bound is a level of 8 bits where inks are mixed, and half a level of 16 elsewhere."""
    content, expected = TRICKY[name]
    try:
        pixels = read_picture(stored(name, content)).pixels
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert pixels.shape == expected.shape
    atol = 1 / 255 if "cmyk" in name else 0.5 / 65535
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=atol)


def test_a_tiff_in_lab_is_not_taken_for_rgb(stored):
    """Grey alone: the other colours depend on a profile."""
    grey = Pillow.fromarray(np.full((4, 4, 3), 120, np.uint8)).convert("LAB")
    try:
        pixels = read_picture(stored("lab.tif", encoded(grey, "TIFF"))).pixels
    except InputError:
        return
    np.testing.assert_allclose(pixels, 120 / 255, atol=3 / 255)


# What is refused ----------------------------------------------------------------------------------


def pages(*images):
    """A TIFF of several pages, written one after another."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for image in images:
            writer.write(image, photometric="rgb" if image.ndim == 3 else "minisblack")
    return file.getvalue()


def spoilt(value):
    image = FLOATS.copy()
    image[2, 3, 1] = value
    return tiff(image)


BLOCKS = np.kron(RGB, np.ones((16, 16, 1), np.uint8))
FILES = {
    "png": encoded(BLOCKS, "PNG"),
    "deep png": png_by_hand(DEEP),
    "jpeg": encoded(BLOCKS, "JPEG"),
    "tiff": tiff(DEEP),
    "lzw": tiff(DEEP, compression="lzw"),
}
MOVIE = {"save_all": True, "append_images": [Pillow.fromarray(255 - RGB)]}

REFUSED = {
    "nan.tif": (spoilt(np.nan), "1 values that are not finite.*row 2, column 3, channel 1"),
    "inf.tif": (spoilt(np.inf), "1 values that are not finite.*row 2, column 3, channel 1"),
    "high.tif": (spoilt(1.5), r"values in \[.*, 1\.5\]: expected floats in \[0, 1\]"),
    "low.tif": (spoilt(-0.25), r"values in \[-0\.25, .*\]: expected floats in \[0, 1\]"),
    "uint32.tif": (tiff(LEVELS.astype(np.uint32), "minisblack"), "holds uint32: expected 8 or 16"),
    "int16.tif": (tiff(LEVELS.astype(np.int16), "minisblack"), "holds int16: expected 8 or 16"),
    "int8.tif": (tiff(GREY.view(np.int8), "minisblack"), "holds int8: expected 8 or 16"),
    "complex.tif": (tiff(GREY.astype(np.complex64), "minisblack"), "holds complex64: expected"),
    "five-channels.tif": (
        tiff(np.zeros((6, 7, 5), np.uint8), "minisblack", planarconfig="contig"),
        "1 to 4 channels",
    ),
    "one.png": (encoded(RGB[:1, :1], "PNG"), "1 x 1 pixels: expected 2 or more"),
    "one.tif": (tiff(DEEP[:1, :1]), "1 x 1 pixels: expected 2 or more"),
    "movie.gif": (encoded(RGB, "GIF", **MOVIE), "2 frames: expected a single image"),
    "movie.png": (encoded(RGB, "PNG", **MOVIE), "2 frames: expected a single image"),
    "movie.webp": (encoded(RGB, "WEBP", lossless=True, **MOVIE), "2 frames: expected a single"),
    "pages.tif": (pages(RGB, 255 - RGB), "expected a single image|expected an image"),
    "pages-unlike.tif": (pages(RGB, RGB[:3]), "expected a single image|expected an image"),
    "pages-grey.tif": (pages(GREY, GREY), "expected a single image|expected an image"),
    "pages-3-wide.tif": (
        tiff(RGB[..., :3, 0].repeat(7, 0).reshape(7, 6, 3), "minisblack"),
        "expected a single image|expected an image",
    ),
    "cut-in-half.png": (FILES["png"][: len(FILES["png"]) // 2], "cannot read"),
    "cut-in-header.png": (FILES["png"][:20], "cannot read"),
    "cut-in-half-16-bit.png": (FILES["deep png"][: len(FILES["deep png"]) // 2], "cannot read"),
    "cut-in-half.jpg": (FILES["jpeg"][: len(FILES["jpeg"]) // 2], "cannot read"),
    "cut-in-header.jpg": (FILES["jpeg"][:100], "cannot read"),
    "cut-in-half.tif": (FILES["tiff"][: len(FILES["tiff"]) // 2], "cannot read"),
    "cut-at-end.tif": (FILES["tiff"][:-50], "cannot read"),
    "cut-in-half-lzw.tif": (FILES["lzw"][: len(FILES["lzw"]) // 2], "cannot read"),
    "one-wrong-byte.png": (
        FILES["deep png"][:80] + bytes([FILES["deep png"][80] ^ 255]) + FILES["deep png"][81:],
        "cannot read",
    ),
    "empty.png": (b"", "cannot read"),
    "empty.tif": (b"", "cannot read"),
    "text.png": (b"This is no picture.\n" * 20, "cannot read"),
    "text.tif": (b"This is no picture.\n" * 20, "cannot read"),
    "zeros.jpg": (bytes(1000), "cannot read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_pictures_are_refused_in_one_clear_line(stored, caplog, name):
    """The line names the file and speaks of the picture, not of the library that read it."""
    content, message = REFUSED[name]
    path = stored(name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_picture(path)
    line = str(caught.value)
    assert path in line
    assert "\n" not in line
    assert not any(word in line for word in ("plugin", "uri", "Traceback"))
    assert caplog.records == []  # what a library logs is a second line on stderr


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.png", "cannot read .*nowhere.png: No such file or directory"),
        ("", "cannot read .*: Is a directory"),
        ("file/inside.png", "cannot read .*inside.png: Not a directory"),
        ("n" * 300, "cannot read .*: File name too long"),
        ("a\0b.png", "cannot read .*"),
    ],
    ids=["missing", "folder", "inside-a-file", "long-name", "nul"],
)
def test_paths_that_are_no_file_are_refused(tmp_path, path, message):
    Path(tmp_path, "file").write_bytes(b"x")
    with pytest.raises(InputError, match=message):
        read_picture(f"{tmp_path}/{path}")


@pytest.mark.parametrize(("name", "bits"), [("a.png", 8), ("a.png", 16), ("a.tif", 8)])
def test_a_picture_larger_than_memory_is_refused(tmp_path, monkeypatch, name, bits):
    """Before it is decoded: a file of a few bytes may be a picture of many."""
    image = drawn(bits)
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, image, photometric="rgb")
    else:
        (tmp_path / name).write_bytes(png_by_hand(image))
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * image.size - 1)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match=r"would take 0\.0 GB and 0\.0 GB of memory are free"):
        read_picture(str(tmp_path / name))
    monkeypatch.setattr(memory, "available_memory", lambda: 14 * image.size + 3000)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    assert read_picture(str(tmp_path / name)).pixels.shape == image.shape
