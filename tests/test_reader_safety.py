"""Reading a file starts no program, opens no other file, and takes the memory it asked for."""

import io
import json
import logging
import os
import signal
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
import tifffile
import trimesh
from test_images import encoded, png_by_hand, rotation, tiff

from lrnn_jax import InputError
from lrnn_jax.io import arrays, memory, read_mesh, read_picture, read_table_file, read_volume
from lrnn_jax.io.quiet import quiet
from lrnn_jax.io.safetensors import leaf_names, load_tree

RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 256, (32, 32, 3), np.uint8)
SYSTEM = ("open '/proc/", "open '/sys/", f"open '{sys.prefix}", f"open '{sys.base_prefix}")
WATCHED: list[str] | None = None  # what is opened or started, while a test watches


def _watch(event, arguments):
    if WATCHED is not None and event in ("open", "subprocess.Popen", "os.exec", "socket.connect"):
        WATCHED.append(f"{event} {arguments[0]!r} {arguments[1]!r}")


sys.addaudithook(_watch)


@pytest.fixture
def watched(monkeypatch):
    """What is opened and started during the test, from now on."""
    seen: list[str] = []
    monkeypatch.setattr(sys.modules[__name__], "WATCHED", seen)
    return seen


def stored(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return str(path)


# Programs and other files -------------------------------------------------------------------------


def test_an_eps_called_png_starts_no_ghostscript(tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(PIL.EpsImagePlugin, "gs_binary", None)
    eps = encoded(SMALL, "EPS")
    with pytest.raises(InputError, match="expected a PNG, JPEG, GIF, BMP, WebP or TIFF file"):
        read_picture(stored(tmp_path, "a.png", eps))
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX", "ICO", "PDF", "SGI", "DDS", "XBM"])
def test_formats_that_are_not_listed_are_refused(tmp_path, kind):
    image = PIL.Image.fromarray(SMALL)
    content = encoded(image.convert("1") if kind == "XBM" else image, kind)
    with pytest.raises(InputError, match="expected a PNG, JPEG, GIF, BMP, WebP or TIFF file"):
        read_picture(stored(tmp_path, "a.png", content))


def test_a_tiff_that_names_other_files_is_read_alone(tmp_path, watched):
    """OME metadata may say that further pages lie in files beside it."""
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID>'
        "</TiffData>"
        for z, name in enumerate(("a.tif", "beside.tif"))
    )
    text = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint8" SizeX="32" SizeY="32" SizeZ="2" SizeC="1" SizeT="1">{planes}</Pixels>'
        "</Image></OME>"
    )
    grey = SMALL[..., 0].copy()
    stored(tmp_path, "beside.tif", tiff(grey, "minisblack"))
    path = stored(tmp_path, "a.tif", tiff(grey, "minisblack", description=text, metadata=None))
    with tifffile.TiffFile(path) as file:
        assert len(file.series[0].pages) == 2  # tifffile itself would follow it
    watched.clear()
    assert read_picture(path).pixels.shape == (32, 32, 1)
    assert [line for line in watched if "beside" in line] == []


@pytest.mark.parametrize("name", ["beside.mtl", "../beside.mtl", "/etc/hostname", "http://x.org/a"])
def test_a_mesh_that_names_materials_is_read_alone(tmp_path, watched, name):
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        (folder / "beside.mtl").write_text("newmtl a\nmap_Kd beside.png\n")
    ball = trimesh.creation.icosphere(1)
    lines = [f"v {a} {b} {c}" for a, b, c in ball.vertices]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in ball.faces]
    text = "\n".join([f"mtllib {name}", "usemtl a", *lines])
    path = stored(tmp_path / "in", "a.obj", text.encode())
    watched.clear()
    assert read_mesh(path).is_watertight
    opened = [line for line in watched if not line.startswith(SYSTEM)]
    assert len(opened) == 1
    assert "a.obj" in opened[0]


def glb(document, binary=b""):
    """A GLB of a JSON document and a binary chunk."""
    text = json.dumps(document).encode()
    chunks = b""
    for kind, content in ((b"JSON", text + b" " * (-len(text) % 4)), (b"BIN\0", binary)):
        chunks += struct.pack("<I4s", len(content), kind) + content
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@pytest.mark.parametrize("uri", ["beside.bin", "../beside.bin", "/etc/hostname", "http://x.org/a"])
def test_a_glb_that_names_other_files_opens_none(tmp_path, watched, uri):
    (tmp_path / "beside.bin").write_bytes(bytes(72))
    accessor = {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}
    content = glb(
        {
            "asset": {"version": "2.0"},
            "buffers": [{"uri": uri, "byteLength": 36}],
            "bufferViews": [{"buffer": 0, "byteLength": 36}],
            "accessors": [accessor],
            "images": [{"uri": uri}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            "nodes": [{"mesh": 0}],
            "scenes": [{"nodes": [0]}],
        }
    )
    path = stored(tmp_path, "a.glb", content)
    watched.clear()
    with pytest.raises(InputError):
        read_mesh(path)
    opened = [line for line in watched if not line.startswith(SYSTEM)]
    assert len(opened) == 1
    assert "a.glb" in opened[0]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gltf", "dxf", "xyz", "3mf", "x3d", ""])
def test_archives_and_meshes_of_several_files_are_refused(tmp_path, kind):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.stl", bytes(10**6))
    with pytest.raises(InputError, match=r"expected a mesh of STL, OBJ, PLY, OFF, GLB"):
        read_mesh(stored(tmp_path, f"a.{kind}", file.getvalue()))


def test_a_text_stl_is_read_with_the_mesh_extra_alone(tmp_path):
    """trimesh guesses the encoding of text with a package that it does not require."""
    text = trimesh.creation.icosphere(1).export(file_type="stl_ascii").encode()
    assert len(read_mesh(stored(tmp_path, "a.stl", text)).faces) == 80


def test_a_zip_called_stl_is_not_unpacked(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.stl", trimesh.creation.icosphere(1).export(file_type="stl"))
    with pytest.raises(InputError, match=r"cannot read|triangles|watertight"):
        read_mesh(stored(tmp_path, "a.stl", file.getvalue()))


# MATLAB files, in a process of their own ----------------------------------------------------------


def mat(**values):
    file = io.BytesIO()
    scipy.io.savemat(file, values, do_compression=True)
    return file.getvalue()


def mat4(**values):
    file = io.BytesIO()
    scipy.io.savemat(file, values, format="4")
    return file.getvalue()


def test_the_volume_of_a_matlab_file_is_read(tmp_path):
    volume = RNG.integers(0, 2, (4, 5, 6)).astype(np.uint8)
    path = stored(tmp_path, "a.mat", mat(volume=volume, other=np.eye(3)))
    np.testing.assert_array_equal(arrays.read_volume_of_mat(Path(path).read_bytes(), path), volume)


def test_a_crash_of_the_matlab_reader_is_one_line(tmp_path, monkeypatch):
    script = tmp_path / "crash.py"
    script.write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    monkeypatch.setattr(arrays, "_MAT_SCRIPT", script)
    with pytest.raises(InputError, match=r"cannot read .*a\.mat: damaged, or no MATLAB file$"):
        read_volume(stored(tmp_path, "a.mat", mat(v=np.ones((2, 2, 2)))))


def test_a_matlab_reader_that_hangs_is_ended(tmp_path, monkeypatch):
    script = tmp_path / "hang.py"
    script.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(arrays, "_MAT_SCRIPT", script)
    monkeypatch.setattr(arrays, "_MAT_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"not done in 0\.5 seconds"):
        read_volume(stored(tmp_path, "a.mat", mat(v=np.ones((2, 2, 2)))))


REFUSED_MAT = {
    "two": (
        mat(a=np.ones((2, 2, 2)), b=np.ones((2, 2, 2))),
        "holds a .*, b .*: expected one array",
    ),
    "flat": (mat(a=np.ones((2, 2))), r"holds a \(2, 2\): expected one array with three axes"),
    "cells": (mat(a=np.full((2, 2, 2), "text", object)), "expected one array with three axes"),
    "numbers of a VAX": (
        struct.pack("<i", 2000) + mat4(v=np.ones((2, 2)))[4:],
        r"cannot read .*We do not support byte ordering 'VAX D-float'",
    ),
    "hdf5": (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "version 7.3: save it with"),
    "cut": (mat(a=RNG.random((9, 9, 9)))[:-50], "cannot read"),
    "empty": (b"", "cannot read"),
}


@pytest.mark.parametrize("name", REFUSED_MAT)
def test_unusable_matlab_files_are_refused(tmp_path, name):
    content, message = REFUSED_MAT[name]
    with pytest.raises(InputError, match=message) as caught:
        read_volume(stored(tmp_path, "a.mat", content))
    assert len(str(caught.value)) < 300


# What is said -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_parameters_of_a_dtype_that_numpy_lacks_are_refused(tmp_path, dtype):
    size = 2 if dtype == "BF16" else 1
    about = {"weight": {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * size]}}
    header = json.dumps(about).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(3 * size)
    path = Path(stored(tmp_path, "a.safetensors", content))
    for read in (leaf_names, lambda path: load_tree(path, {"weight": np.zeros(3)})):
        with pytest.raises(InputError, match=f"holds arrays of {dtype}: expected a dtype of NumPy"):
            read(path)


def test_a_mesh_with_corners_in_the_plane_is_refused(tmp_path):
    """As many coordinates in all as in space, so that they can be stored as an array of pairs."""
    lines = [f"v {x} {y}" for x in (0, 1) for y in (0, 1, 2)] + ["f 1 2 3", "f 2 3 4", "f 4 5 6"]
    with pytest.raises(InputError, match=r"cannot read .*without three coordinates"):
        read_mesh(stored(tmp_path, "a.obj", "\n".join(lines).encode()))


def test_a_deep_png_with_more_rows_than_it_says_is_read(tmp_path, caplog):
    """libpng warns, and returns the rows of the header."""
    content = bytearray(encoded(RNG.integers(0, 65536, (4, 4), dtype=np.uint16), "PNG"))
    content[20:24] = struct.pack(">I", 3)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    path = stored(tmp_path, "a.png", bytes(content))
    assert read_picture(path).pixels.shape == (3, 4, 1)
    assert caplog.messages == []


def test_an_empty_mesh_is_refused(tmp_path):
    for name, content in {
        "a.off": b"OFF\n0 0 0\n",
        "a.stl": bytes(84),
        "a.obj": b"v 0 0 0\n",
    }.items():
        with pytest.raises(InputError, match=r"cannot read|no triangles"):
            read_mesh(stored(tmp_path, name, content))


def test_what_libraries_say_is_kept_back_and_their_loggers_stay(capfd):
    logger = logging.getLogger("trimesh")
    level = logger.level
    with pytest.raises(KeyError), quiet("trimesh"):
        print("printed")
        print("printed", file=sys.stderr)
        logging.getLogger("trimesh.util").error("logged")
        warnings.warn("warned", stacklevel=1)
        raise KeyError
    assert logger.level == level
    assert capfd.readouterr() == ("", "")


# Memory -------------------------------------------------------------------------------------------


def test_a_large_matlab_file_is_refused_whatever_nests_it(tmp_path, monkeypatch):
    """80 MB of zeros in a struct compress to 80 kB, and no header outside counts them."""
    content = mat(outer={"inner": np.zeros((10**7, 1))})
    assert len(content) < 10**5
    monkeypatch.setattr(arrays, "available_memory", lambda: 80_000_000)
    with pytest.raises(InputError, match=r"would take more than the allowed 0\.0 GB"):
        read_volume(stored(tmp_path, "a.mat", content))


def npz(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(array, **header):
    file = io.BytesIO()
    np.save(file, array)
    content = file.getvalue()
    for old, new in header.values():
        content = content.replace(old, new)
    return content


DAMAGED = {
    "a header of another size": npz(
        x=npy(np.zeros((8, 1)), s=(b"(8, 1)", b"(9, 1)")), y=npy(np.ones(8))
    ),
    "objects": npz(x=npy(np.ones((2, 2))), y=npy(np.ones(2), s=(b"<f8", b"|O8"))),
    "a header that is no header": npz(x=b"\x93NUMPY\1\0\xff\xff{}", y=npy(np.ones(2))),
    "no arrays": npz(x=b"text", y=b"text"),
    "no archive": b"PK\3\4 and no more",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_npz_are_refused(tmp_path, name):
    path = stored(tmp_path, "a.npz", DAMAGED[name])
    for read in (lambda: read_table_file(path, None), lambda: read_volume(path)):
        with pytest.raises(InputError, match=r"cannot read|Python objects") as caught:
            read()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, ">i4", bool])
def test_npy_is_read_as_numpy_reads_it(order, dtype):
    array = np.asarray(RNG.integers(0, 2, (3, 4, 5)), dtype, order=order)
    found = arrays.read_npy(npy(array), "a.npy")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


def test_an_npz_that_decompresses_to_too_much_is_refused(tmp_path, monkeypatch):
    content = npz(x=npy(np.zeros((10**6, 2))), y=npy(np.zeros(10**6)))
    assert len(content) < 10**5
    monkeypatch.setattr(memory, "available_memory", lambda: 20_000_000)
    with pytest.raises(InputError, match="would take"):
        read_table_file(stored(tmp_path, "a.npz", content), None)


BLOCKS = np.kron(SMALL[:8, :8], np.ones((16, 16, 1), np.uint8))


def jpeg_tiff(change=lambda stream: stream):
    """A TIFF of one JPEG stream, changed after it was written; its length stays."""
    content = tiff(BLOCKS, compression="jpeg")
    page = tifffile.TiffFile(io.BytesIO(content)).pages[0]
    offset, count = page.dataoffsets[0], page.databytecounts[0]
    stream = change(content[offset : offset + count])
    return content[:offset] + stream + content[offset + count :]


def test_a_jpeg_in_a_tiff_is_read(tmp_path):
    pixels = read_picture(stored(tmp_path, "a.tif", jpeg_tiff())).pixels
    assert np.abs(pixels - BLOCKS / 255).mean() < 0.02


def test_a_jpeg_in_a_tiff_that_is_cut_short_is_refused(tmp_path):
    half = jpeg_tiff(lambda stream: stream[: len(stream) // 2].ljust(len(stream), b"\0"))
    with pytest.raises(InputError, match="is cut short: a JPEG stream in it has no end"):
        read_picture(stored(tmp_path, "a.tif", half))


def test_a_jpeg_in_a_tiff_may_not_be_larger_than_the_tiff_says(tmp_path):
    """65,000 x 65,000 pixels in three colours are 12.7 GB."""

    def enlarged(stream):
        at = stream.index(b"\xff\xc0") + 5
        return stream[:at] + struct.pack(">HH", 65000, 65000) + stream[at + 4 :]

    with pytest.raises(InputError, match="is damaged: a strip of 65000 x 65000 in 128 x 128"):
        read_picture(stored(tmp_path, "a.tif", jpeg_tiff(enlarged)))


def test_a_tiff_whose_strips_have_a_fraction_as_height_is_refused(tmp_path):
    """tifffile returns a tuple, which would be repeated as often as the image is wide."""
    content = bytearray(tiff(SMALL))
    tag = content.index(struct.pack("<HHI", 278, 4, 1))  # RowsPerStrip: one number of 32 bits
    content[tag : tag + 12] = struct.pack("<HHII", 278, 5, 1, 8)  # a fraction, at offset 8
    height = content.index(struct.pack("<HHI", 257, 4, 1))
    content[height : height + 2] = struct.pack("<H", 65000)  # a tag without a meaning
    with pytest.raises(InputError, match="is damaged: its size is no number of pixels"):
        read_picture(stored(tmp_path, "a.tif", bytes(content)))


def test_a_codec_that_takes_its_size_from_the_data_is_refused(tmp_path):
    content = tiff(SMALL, compression="jpeg2000")
    with pytest.raises(InputError, match="TIFF of compression JPEG2000: expected NONE"):
        read_picture(stored(tmp_path, "a.tif", content))


def test_pillows_own_limit_of_pixels_does_not_apply(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    assert read_picture(stored(tmp_path, "a.png", encoded(SMALL, "PNG"))).pixels.shape[0] == 32
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


def test_a_png_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """A file of 300 bytes that says that it has 60,000 x 60,000 pixels."""
    content = bytearray(png_by_hand(SMALL))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    monkeypatch.setattr(memory, "available_memory", lambda: 10**9)
    with pytest.raises(InputError, match=r"would take .* GB"):
        read_picture(stored(tmp_path, "a.png", bytes(content)))


MEASURED = """
import sys
from pathlib import Path
from lrnn_jax.io import arrays, images, solids, tables
from lrnn_jax.io import read_mesh, read_picture, read_table_file, read_volume

READ = {"tif": read_picture, "png": read_picture, "jpg": read_picture, "gif": read_picture,
        "webp": read_picture, "bmp": read_picture, "npy": read_volume, "npz": read_volume,
        "stl": read_mesh, "ply": read_mesh, "obj": read_mesh,
        "csv": lambda path: read_table_file(path, None)}
asked = [0]
for module in (arrays, images, solids, tables):
    module.require_memory = lambda source, num_bytes: asked.append(num_bytes)

def status(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(name + ":")[1].split()[0])

paths = sys.argv[1:]
for path in [*paths, *paths]:  # the first round pays for what is imported and cached
    asked[:] = [0]
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    READ[path.rsplit(".", 1)[1]](path)
    print(path.rsplit("/", 1)[1], max(asked), status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's /proc")
def test_reading_takes_no_more_memory_than_it_asks_for(tmp_path):
    """Peak resident memory of each format, against the largest demand, and 10 MB beside it."""
    image = np.kron(RNG.integers(0, 256, (150, 150, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    solid = RNG.random((160, 160, 160)) > 0.5
    ball = trimesh.creation.icosphere(6)
    files = {
        "a.png": encoded(image, "PNG"),
        "deep.png": png_by_hand(image.astype(np.uint16)),
        "a.jpg": encoded(image, "JPEG"),
        "turned.jpg": encoded(
            image,
            "JPEG",
            exif=rotation(6),
        ),
        "a.gif": encoded(image, "GIF"),
        "a.bmp": encoded(image, "BMP"),
        "a.webp": encoded(image, "WEBP"),
        "lzw.tif": tiff(image, compression="lzw"),
        "float.tif": tiff((image / 255).astype(np.float32)),
        "a.npy": npy(solid.astype(np.float64)),
        "a.npz": npz(v=npy(solid.astype(np.uint8))),
        "a.stl": ball.export(file_type="stl"),
        "a.ply": ball.export(file_type="ply"),
        "a.obj": ball.export(file_type="obj").encode(),
        "a.csv": b"a,b\n" + b"".join(b"%d,%d\n" % (n, n % 7) for n in range(200_000)),
    }
    paths = [stored(tmp_path, name, content) for name, content in files.items()]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *paths], capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines()[len(files) :]:
        asked, taken = line.split()[1:]
        assert int(taken) <= 1.25 * int(asked) + 10_000_000, line
