"""Decompression bombs: small files of every compressed format that decode to more than the memory.

    python benchmarks/bombs.py read --record     # files of 2 GB decoded, 1 GB of memory allowed
    python benchmarks/bombs.py table

Each file is valid. It is read in a process of its own, whose address space may grow by `--allowed`
bytes. A row has the size of the file, the seconds until the answer, the largest growth of the
resident memory and the answer, which must be a refusal in one line.
"""

import argparse
import gzip
import io
import json
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import FOLDER, Results, Row, by_machine, markdown, parse, run_stages, stage_parser

RESULTS = Results(FOLDER / "bombs.json", identity=("name", "machine"))
CHUNK = 2**20

READ = """
import json, sys, time
from pathlib import Path
from lrnn_jax import io
from lrnn_jax.errors import InputError
import resource

reader, path, allowed = sys.argv[1], sys.argv[2], int(sys.argv[3])
read = {"table": lambda path: io.read_table_file(path, None)}.get(reader) or getattr(io, reader)

def status(name):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(name + ":")[1].split()[0])

before, room = status("VmRSS"), status("VmSize") + allowed
resource.setrlimit(resource.RLIMIT_AS, (room, room))
begun = time.perf_counter()
try:
    read(path)
    answer = "read"
except InputError as error:
    answer = str(error).replace(path, Path(path).name)
seconds, grown = time.perf_counter() - begun, status("VmHWM") - before
print(json.dumps({"seconds": round(seconds, 2), "grown_mb": round(grown / 1e6), "answer": answer}))
"""


# Files -------------------------------------------------------------------------------------------


def _zeros(num_bytes: int) -> Iterator[bytes]:
    for start in range(0, num_bytes, CHUNK):
        yield bytes(min(CHUNK, num_bytes - start))


def _png(path: Path, num_bytes: int) -> None:
    side = int(num_bytes**0.5)
    packer = zlib.compressobj()
    rows = b"".join(map(packer.compress, _zeros(side * (side + 1)))) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return len(content).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])  # 8 bits, grey
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def _tiff(path: Path, num_bytes: int) -> None:
    import tifffile

    side, tile = 4096 * round(num_bytes**0.5 / 4096 + 0.5), np.zeros((4096, 4096), np.uint8)
    tiles = (tile for _ in range((side // 4096) ** 2))
    options = {"dtype": np.uint8, "tile": tile.shape, "compression": "zlib"}
    tifffile.imwrite(path, tiles, shape=(side, side), photometric="minisblack", **options)


def _gif(path: Path, num_bytes: int, side: int = 4000) -> None:
    """The block of one black frame, repeated."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("P", (side, side)).save(file, "GIF")
    content = file.getvalue()
    begin = 13 + (3 << (content[10] & 7) + 1 if content[10] & 0x80 else 0)  # after the palette
    frames = content[begin:-1] * (num_bytes // (3 * side**2) + 1)
    path.write_bytes(content[:begin] + frames + content[-1:])


def _gif_picture(path: Path, num_bytes: int) -> None:
    _gif(path, num_bytes, side=int((num_bytes / 3) ** 0.5) + 1)


def _npz(path: Path, num_bytes: int) -> None:
    header = io.BytesIO()
    describe = {"descr": "|u1", "fortran_order": False, "shape": (1, 1, num_bytes)}
    np.lib.format.write_array_header_1_0(header, describe)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for piece in _zeros(num_bytes):
            member.write(piece)


def _mat(path: Path, num_bytes: int) -> None:
    import scipy.io

    voxels = np.zeros((1, 1, num_bytes), np.uint8)
    scipy.io.savemat(path, {"voxels": voxels}, do_compression=True)


def _nifti(path: Path, num_bytes: int) -> None:
    import nibabel

    side = int(num_bytes ** (1 / 3)) + 1
    header = nibabel.Nifti1Header()
    header.set_data_shape((side, side, side))
    header.set_data_dtype(np.uint8)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    with gzip.open(path, "wb") as file:
        file.write(header.binaryblock + bytes(4))
        for piece in _zeros(side**3):
            file.write(piece)


def _flac(path: Path, num_bytes: int) -> None:
    import soundfile

    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for piece in _zeros(num_bytes // 4):  # read as 8 bytes a sample
            file.write(np.frombuffer(piece, np.int16))


def _mp4(path: Path, num_bytes: int) -> None:
    import imageio.v3 as imageio

    frame = np.zeros((2160, 3840, 3), np.uint8)
    with imageio.imopen(path, "w", plugin="pyav") as file:
        file.init_video_stream("libx264", fps=12)  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(num_bytes // frame.size + 1):
            file.write_frame(frame)  # pyright: ignore[reportAttributeAccessIssue]


BOMBS: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "picture.png": ("read_picture", _png),
    "picture.tif": ("read_picture", _tiff),
    "picture.gif": ("read_picture", _gif_picture),
    "film.gif": ("read_video", _gif),
    "film.mp4": ("read_video", _mp4),
    "sound.flac": ("read_sound", _flac),
    "volume.npz": ("read_volume", _npz),
    "table.npz": ("table", _npz),
    "volume.mat": ("read_volume", _mat),
    "scan.nii.gz": ("read_voxels", _nifti),
}


# Measurements ------------------------------------------------------------------------------------


def measure(name: str, decoded: int, allowed: int) -> Row:
    """Make the bomb of a name, and read it in a process that may take `allowed` bytes.

    Raises:
      RuntimeError: it is not refused for its size.
    """
    reader, write = BOMBS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path, decoded)
        size = path.stat().st_size
        command = [sys.executable, "-c", READ, reader, str(path), str(allowed)]
        done = subprocess.run(command, capture_output=True, text=True)
    row = {"name": name, "file_mb": round(size / 1e6, 2), "decoded_gb": decoded / 1e9}
    row["allowed_gb"] = allowed / 1e9
    if done.returncode:
        raise RuntimeError(f"{name}: exit code {done.returncode}: {done.stderr[-500:]}")
    measured = json.loads(done.stdout)
    if "would take" not in measured["answer"]:
        raise RuntimeError(f"{name}: expected a refusal for its size, got {measured['answer']!r}")
    return row | measured


def read(options: argparse.Namespace) -> None:
    """Measure all."""
    for name in BOMBS:
        RESULTS.add(measure(name, options.decoded, options.allowed))


def table(rows: list[Row]) -> str:
    """What the docs show."""
    header = "file | its size, MB | decoded, GB | memory taken, MB | seconds | answer"
    return "\n\n".join(
        f"On {machine}, with {own[0]['allowed_gb']:.0f} GB allowed:\n\n"
        + markdown(
            header,
            (
                (
                    row["name"],
                    f"{row['file_mb']:.2f}",
                    f"{row['decoded_gb']:.0f}",
                    str(row["grown_mb"]),
                    f"{row['seconds']:.2f}",
                    row["answer"].removeprefix(row["name"]).partition(" and ")[0].strip(),
                )
                for row in own
            ),
        )
        for machine, own in by_machine(rows).items()
    )


def main() -> None:
    stages = {"read": read}
    parser = stage_parser(__doc__, stages)
    parser.add_argument("--decoded", type=int, default=2 * 10**9, help="bytes of the decoded file")
    parser.add_argument("--allowed", type=int, default=10**9, help="bytes that may be taken")
    run_stages(stages, parse(parser, RESULTS, table))


if __name__ == "__main__":
    main()
