"""Fuzz test of every reader: a mutated file is read, or refused with a one-line message.

    python benchmarks/fuzz.py [reader ...] --inputs 10000 --seed 0 --jobs 1
    python benchmarks/fuzz.py sound --replay 1234

A child process reads many files under a memory limit, and is restarted when it dies. Anything but
a value or a refusal is a finding: another exception, a message of several lines or of 300 or more
characters, a signal, a time-out, output, a started program, a connection, another opened file. An
input depends on reader and seed only. Inputs with findings are saved in `--keep`, named by seed.
A MATLAB file is read in a fork of the child, which is faster than a new interpreter for each.
"""

import argparse
import collections
import concurrent.futures
import functools
import importlib.metadata
import io
import json
import os
import platform
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc  # noqa: F401 - imported by warnings; here before opened files are checked
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
LIMIT = 300  # characters of a message
SECONDS = 20  # of one file
MEMORY = 3 * 2**30  # bytes that a child may allocate beyond its initial size
_INTEGERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PACKAGES = ("jax", "numpy", "scipy", "pillow", "tifffile", "imageio", "av", "soundfile", "trimesh")

Files = dict[str, bytes]  # a valid file for each suffix or format; the suffix follows the last dot


# Valid files -------------------------------------------------------------------------------------


def _written(write: Callable[..., Any], **arguments: Any) -> bytes:
    """What write(file, **arguments) writes."""
    buffer = io.BytesIO()
    write(buffer, **arguments)
    return buffer.getvalue()


def _pictures() -> Files:
    import tifffile
    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    formats = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP"}
    files = {suffix: _written(picture.save, format=name) for suffix, name in formats.items()}
    files["webp"] = _written(picture.save, format="WEBP", lossless=True)
    files["lossy.webp"] = _written(picture.save, format="WEBP")
    deep = Image.fromarray(rng.integers(0, 65536, (12, 9), dtype=np.uint16))
    files["16.png"] = _written(deep.save, format="PNG")
    kinds: dict[str, dict[str, Any]] = {
        "tif": {},
        "zip.tif": {"compression": "zlib"},
        "tile.tif": {"tile": (16, 16)},
        "big.tif": {"bigtiff": True},
        "end.tif": {"byteorder": ">"},
    }
    for name, options in kinds.items():
        files[name] = _written(tifffile.imwrite, data=pixels, photometric="rgb", **options)
    files["float.tif"] = _written(tifffile.imwrite, data=rng.random((12, 9), dtype=np.float32))
    return files


def _sounds() -> Files:
    import soundfile

    sound = {"data": np.sin(np.arange(400) / 7) / 2, "samplerate": 8000}
    names = ("WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64", "OGG")
    return {name.lower(): _written(soundfile.write, format=name, **sound) for name in names}


def _videos() -> Files:
    import imageio.v3 as imageio

    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    kinds: dict[str, dict[str, Any]] = {
        "mp4": {"plugin": "pyav", "codec": "libx264", "fps": 12},
        "mkv": {"plugin": "pyav", "codec": "libx264", "fps": 12},
        "webm": {"plugin": "pyav", "codec": "libvpx-vp9", "fps": 12},
        "avi": {"plugin": "pyav", "codec": "mpeg4", "fps": 12},
        "gif": {"duration": 80, "loop": 0},
    }
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for suffix, options in kinds.items():
            path = Path(folder, f"film.{suffix}")
            imageio.imwrite(path, frames, **options)
            files[suffix] = path.read_bytes()
    return files


def _meshes() -> Files:
    import trimesh

    mesh = trimesh.creation.box()
    kinds = {"stl": "stl", "text.stl": "stl_ascii"} | {k: k for k in ("obj", "ply", "off", "glb")}
    files: dict[str, Any] = {s: mesh.export(file_type=kind) for s, kind in kinds.items()}
    return {name: file.encode() if isinstance(file, str) else file for name, file in files.items()}


def _volumes() -> Files:
    import scipy.io

    voxels = np.zeros((5, 4, 3), np.uint8)
    voxels[1:4, 1:3, 1] = 1
    savemat = functools.partial(_written, scipy.io.savemat)
    return {
        "npy": _written(np.save, arr=voxels),
        "npz": _written(np.savez, voxels=voxels),
        "small.npz": _written(np.savez_compressed, voxels=voxels),
        "mat": savemat(mdict={"voxels": voxels}),
        "small.mat": savemat(mdict={"v": voxels}, do_compression=True),
        "4.mat": savemat(mdict={"v": np.eye(3)}, format="4"),
    }


def _niftis() -> Files:
    import gzip

    import nibabel

    values = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    plain = nibabel.Nifti1Image(values, np.eye(4)).to_bytes()
    second = nibabel.Nifti2Image(values.astype(np.int16), np.eye(4)).to_bytes()
    return {"one.nii": plain, "zipped.gz": gzip.compress(plain, mtime=0), "two.nii": second}


def _tables() -> Files:
    lines = b"a,b,kind\n1,2.5,red\n3,-1e3,blue\n0.5,7,red\n2,2,blue\n"
    return {"csv": lines, "npz": _written(np.savez, x=np.eye(4), y=np.arange(4))}


_TREE: dict[str, Any] = {"a": np.arange(6.0).reshape(2, 3), "b": {"c": np.ones(4, np.float32)}}


def _parameters() -> Files:
    import safetensors.numpy

    leaves = {"a": _TREE["a"], "b/c": _TREE["b"]["c"]}
    return {"safetensors": safetensors.numpy.save(leaves, {"lrnn_jax": "{}"})}


def _experiments() -> Files:
    text = (
        '[model]\nkind = "siren"\nwidth = 8\ndepth = 2\n\n[problem]\nkind = "image"\n'
        'source = "camera"\nsize = [8, 8]\n\n[training]\nsteps = 5\nlearning_rate = 1e-3\n'
    )
    return {"toml": text.encode()}


def _metrics() -> Files:
    lines = [{"step": step, "seconds": 0.1 * step, "loss": 1 / (step + 1)} for step in range(4)]
    return {"jsonl": "".join(json.dumps(line) + "\n" for line in lines).encode()}


def _summaries() -> Files:
    return {"json": json.dumps({"status": "finished", "step": 5, "psnr": 31.5}).encode()}


# Readers -----------------------------------------------------------------------------------------


def _read_in_folder(path: Path, name: str, read: Callable[[Any], Any]) -> Any:
    from lrnn_jax.experiments.folder import RunFolder

    path.replace(path.parent / name)
    return read(RunFolder(path.parent))


def _read_experiment(path: Path) -> Any:
    from lrnn_jax.experiments.spec import experiment_from, read_table

    return experiment_from(read_table(path))


def _readers() -> dict[str, Callable[[Path], Any]]:
    from lrnn_jax import io as readers
    from lrnn_jax.experiments.summary import read_summary
    from lrnn_jax.io.safetensors import load_tree

    return {
        "picture": lambda path: readers.read_picture(str(path)),
        "sound": lambda path: readers.read_sound(str(path)),
        "video": lambda path: readers.read_video(str(path)),
        "mesh": lambda path: readers.read_mesh(str(path)),
        "volume": lambda path: readers.read_volume(str(path)),
        "nifti": lambda path: readers.read_voxels(str(path)),
        "table": lambda path: readers.read_table_file(str(path), None),
        "parameters": lambda path: load_tree(path, _TREE),
        "experiment": _read_experiment,
        "metrics": lambda path: _read_in_folder(path, "metrics.jsonl", lambda f: f.metrics.read()),
        "summary": lambda path: _read_in_folder(
            path, "summary.json", lambda folder: read_summary(folder.summary)
        ),
    }


SEEDS: dict[str, Callable[[], Files]] = {
    "picture": _pictures,
    "sound": _sounds,
    "video": _videos,
    "mesh": _meshes,
    "volume": _volumes,
    "nifti": _niftis,
    "table": _tables,
    "parameters": _parameters,
    "experiment": _experiments,
    "metrics": _metrics,
    "summary": _summaries,
}


# Mutations ---------------------------------------------------------------------------------------


def _flip(data: bytearray, rng: random.Random, other: bytes) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(data: bytearray, rng: random.Random, other: bytes) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)


def _truncate(data: bytearray, rng: random.Random, other: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def _duplicate(data: bytearray, rng: random.Random, other: bytes) -> None:
    start = rng.randrange(len(data))
    place = rng.randrange(len(data))
    data[place:place] = data[start : start + rng.randint(1, 64)]


def _delete(data: bytearray, rng: random.Random, other: bytes) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 64)]


def _splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def _integer(data: bytearray, rng: random.Random, other: bytes) -> None:
    """Write an extreme integer, usually into the header, where sizes are."""
    code = rng.choice(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"])
    size = struct.calcsize(code)
    value = rng.choice([*_INTEGERS, 2**63 - 1, 2**64 - 1]) % 2 ** (8 * size)
    span = min(len(data), 128) if rng.random() < 0.8 else len(data)
    if span >= size:
        struct.pack_into(code, data, rng.randint(0, span - size), value)


_MUTATIONS = (_flip, _replace, _truncate, _duplicate, _delete, _splice, _integer, _integer)


def mutated(files: Files, reader: str, seed: int) -> tuple[str, bytes]:
    """Suffix and content of the input of a seed."""
    rng = random.Random(f"{reader} {seed}")
    name = rng.choice(sorted(files))
    data, other = bytearray(files[name]), files[rng.choice(sorted(files))]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if data:
            rng.choice(_MUTATIONS)(data, rng, other)
    wrong_suffix = rng.random() < 0.05
    return (rng.choice(sorted(files)) if wrong_suffix else name).split(".")[-1], bytes(data)


# The child ---------------------------------------------------------------------------------------


class _Watch:
    """Records forbidden actions of a reader: programs, connections, access to other files."""

    def __init__(self, folder: Path) -> None:
        roots = [sys.prefix, sys.base_prefix, "/proc", "/sys", "/dev/null", "/dev/urandom"]
        roots += ["/usr", "/etc", folder, Path(__file__).parents[1]]
        self.roots = tuple(os.path.realpath(root) for root in roots)
        self.active, self.seen = False, list[str]()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith(self.roots):
                self.seen.append(f"opened {path}")
        elif event in ("os.exec", "os.system", "socket.connect"):
            self.seen.append(f"{event} {arguments[:1]}")
        # A MAT file is read in a child process, which `subprocess` spawns from Python 3.13 on.
        elif event in ("subprocess.Popen", "os.posix_spawn") and arguments[0] != sys.executable:
            self.seen.append(f"started {arguments[0]}")


class _Forks:
    """Stands for the module `subprocess` where `read_volume_of_mat` uses it; the same code runs."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, folder: Path) -> None:
        self.content, self.answer = folder / "content", folder / "answer"

    def run(self, command: list[str], input: bytes, **options: Any) -> Any:
        from lrnn_jax.io import mat_script

        self.content.write_bytes(input)
        self.answer.touch()
        number = os.fork()
        if not number:
            code = 1
            try:
                sys.argv = command[2:]
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                sys.stdin, sys.stdout = self.content.open(), self.answer.open("w")
                mat_script.main()
                sys.stdout.flush()
                code = 0
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
        answer = self.answer.read_bytes()
        self.answer.unlink()
        return subprocess.CompletedProcess(command, code, answer)


def serve(folder: Path) -> None:
    """Read lines "reader path" from standard input and answer each with a line of JSON."""
    from lrnn_jax.io import arrays

    answers = os.fdopen(os.dup(1), "w")
    readers, watch = _readers(), _Watch(folder)
    arrays.subprocess = _Forks(folder)
    used = set()
    output = folder / "output"
    with output.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    limit_memory()
    for line in sys.stdin:
        name, path = line.rstrip("\n").split(" ", 1)
        before = output.stat().st_size
        watch.seen.clear()
        # A reader's first file is valid, and reading it imports modules.
        watch.active = name in used
        kind, text = _answer(readers[name], Path(path))
        watch.active = False
        used.add(name)
        sys.stdout.flush()
        sys.stderr.flush()
        if watch.seen:
            kind, text = "finding", "; ".join(dict.fromkeys(watch.seen))
        elif output.stat().st_size > before:
            kind, text = "finding", f"output: {output.read_bytes()[before:][:500]!r}"
        answers.write(json.dumps([kind, text]) + "\n")
        answers.flush()


def _answer(read: Callable[[Path], Any], path: Path) -> tuple[str, str]:
    import traceback

    from lrnn_jax.errors import InputError

    try:
        read(path)
    except InputError as error:
        text = str(error)
        if len(text) < LIMIT and len(text.splitlines()) == 1:
            return "refusal", text
        return "finding", f"message: {text[:600]!r}"
    except BaseException as error:
        tail = traceback.format_exc().splitlines()[-6:]
        return "finding", f"{type(error).__name__}: " + "\n".join(tail)[-1500:]
    return "value", ""


def limit_memory() -> None:
    """Let this process allocate MEMORY more bytes; the readers see that as the free memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Child:
    """The process that reads; restarted after it dies."""

    def __init__(self, folder: Path, reader: str, valid: tuple[str, bytes]) -> None:
        self.folder, self.reader, self.valid = folder, reader, valid
        self.process: Any = None

    def ask(self, suffix: str, content: bytes) -> tuple[str, str]:
        if self.process is None:
            command = [sys.executable, __file__, "--serve", str(self.folder)]
            self.process = subprocess.Popen(
                command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            kind, text = self._ask(*self.valid, seconds=120)
            if kind != "value":
                raise RuntimeError(f"{self.reader} does not read a valid file: {text}")
        return self._ask(suffix, content, SECONDS)

    def _ask(self, suffix: str, content: bytes, seconds: float) -> tuple[str, str]:
        path = self.folder / f"input.{suffix}"
        path.write_bytes(content)
        self.process.stdin.write(f"{self.reader} {path}\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        path.unlink(missing_ok=True)
        if line:
            kind, text = json.loads(line)
            return kind, text
        self.close()
        return "finding", f"died with {self.status}" if ready else f"took more than {seconds} s"

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.status = self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


# Runs --------------------------------------------------------------------------------------------


def fuzz(reader: str, seeds: range, keep: Path | None = None) -> dict[str, Any]:
    """Count values, refusals and findings for the inputs of these seeds."""
    files, begun = SEEDS[reader](), time.perf_counter()
    valid = next(iter(files))
    counts, findings = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        child = _Child(Path(folder), reader, (valid.split(".")[-1], files[valid]))
        try:
            for seed in seeds:
                suffix, content = mutated(files, reader, seed)
                kind, text = child.ask(suffix, content)
                counts[kind] += 1
                if kind == "finding":
                    findings.append({"seed": seed, "suffix": suffix, "what": text})
                    if keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{reader}-{seed}.{suffix}").write_bytes(content)
        finally:
            child.close()
    return {
        "reader": reader,
        "inputs": len(seeds),
        "seed": seeds.start,
        "values": counts["value"],
        "refusals": counts["refusal"],
        "findings": findings,
        "seconds": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("readers", nargs="*", default=list(SEEDS))
    parser.add_argument("--inputs", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--replay", type=int)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--record", action="store_true", help="store the rows in --out")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    if unknown := set(options.readers) - set(SEEDS):
        parser.error(f"unknown readers {sorted(unknown)}: expected {', '.join(SEEDS)}")
    first, count = options.seed, options.inputs
    if options.replay is not None:
        first, count = options.replay, 1
    run = functools.partial(fuzz, seeds=range(first, first + count), keep=options.keep)
    findings = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(run, options.readers):
            findings += len(row["findings"])
            if options.record:
                _record(options.out, row)
            else:
                print(json.dumps(row, indent=1), flush=True)
    sys.exit(1 if findings else 0)


def _record(path: Path, row: dict[str, Any]) -> None:
    from common import Results  # not at the top: tests import this file without its folder

    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    row |= {"python": platform.python_version(), "versions": versions}
    Results(path, identity=("reader",)).add(row)


if __name__ == "__main__":
    main()
