"""Sound and video open nothing but themselves, and are refused where they are cut short."""

import io
import os
import socket
import subprocess
import sys

import imageio.v3 as imageio
import numpy as np
import pytest

from lrnn_jax.errors import InputError
from lrnn_jax.io import memory, read_sound, read_video

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("av")

_SOUNDS = ("WAV", "FLAC", "AIFF", "AU", "CAF", "W64", "RF64", "OGG", "MP3")
_CODECS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "avi": "mpeg4", "flv": "flv"}
_FILMS = (*_CODECS, "webm", "gif")


def _sound(name):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(20000) / 7) / 2, 8000, format=name)
    return buffer.getvalue()


def _film(path):
    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    suffix = path.suffix[1:]
    if suffix == "gif":
        imageio.imwrite(path, frames, duration=80, loop=0)
    else:
        codec = _CODECS.get(suffix, "libvpx-vp9")
        imageio.imwrite(path, frames, plugin="pyav", codec=codec, fps=12)
    return path.read_bytes()


def _cuts(content):
    return [content[: len(content) * part // 100] for part in (30, 60, 95)] + [content[:-1]]


@pytest.mark.parametrize("name", _SOUNDS)
def test_a_sound_cut_short_is_refused(tmp_path, name):
    content, path = _sound(name), tmp_path / f"sound.{name.lower()}"
    path.write_bytes(content)
    assert read_sound(str(path)).samples.shape == (20000, 1)
    for cut in _cuts(content):
        path.write_bytes(cut)
        with pytest.raises(InputError, match="damaged" if name == "FLAC" else "is cut short"):
            read_sound(str(path))


def test_a_damaged_mp3_is_one_line_and_prints_nothing(tmp_path, capfd):
    """The library that decodes MP3 writes to the standard error of the process."""
    content, path = _sound("MP3"), tmp_path / "sound.mp3"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(3000) + content[middle:])
    with pytest.raises(InputError, match="damaged"):
        read_sound(str(path))
    assert capfd.readouterr() == ("", "")
    os.write(2, b"shown again")
    assert capfd.readouterr().err == "shown again"


@pytest.mark.parametrize("suffix", _FILMS)
def test_a_film_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    content = _film(path)
    assert read_video(str(path)).frames.shape == (6, 32, 32, 3)
    for cut in _cuts(content):
        path.write_bytes(cut)
        with pytest.raises(InputError, match="is cut short"):
            read_video(str(path))


@pytest.mark.parametrize("kind", ["ffconcat", "hls", "text"])
def test_a_playlist_opens_nothing(tmp_path, kind, capfd):
    _film(tmp_path / "secret.mp4")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        text = {
            "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
            "hls": f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n",
            "text": "No film.\n",
        }[kind]
        path = tmp_path / "film.mp4"
        path.write_text(text)
        with pytest.raises(InputError, match=r"no video \(expected MP4"):
            read_video(str(path))
        with pytest.raises(TimeoutError):
            server.accept()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", _FILMS)
def test_a_film_beyond_the_memory_is_refused_as_its_frames_arrive(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"film.{suffix}"
    size = len(_film(path))
    peak = 9 * 6 * 32 * 32 * 3  # the stacked frames, and their values in float64
    monkeypatch.setattr(memory, "available_memory", lambda: max(size, peak - 1))
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match="of memory are free"):
        read_video(str(path))
    monkeypatch.setattr(memory, "available_memory", lambda: max(size, peak))
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    assert len(read_video(str(path)).frames) == 6


@pytest.mark.parametrize("name", _SOUNDS)
def test_a_sound_beyond_the_memory_is_refused(tmp_path, name, monkeypatch):
    path = tmp_path / f"sound.{name.lower()}"
    path.write_bytes(_sound(name))
    monkeypatch.setattr(memory, "available_memory", lambda: 9 * 20000 - 1)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match="of memory are free"):
        read_sound(str(path))


_CHILD = """
import resource, sys
from pathlib import Path
from lrnn_jax.errors import InputError
from lrnn_jax.io import read_sound
pages = int(Path("/proc/self/statm").read_text().split()[0])
room = pages * resource.getpagesize() + 2**29
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    read_sound(sys.argv[1])
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_silence_of_hours_is_refused_under_a_limit_of_the_process(tmp_path):
    """A FLAC of less than 1 MB, of 1.4e8 samples: 1.3 GB, where 0.5 GB are left."""
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(14):
            file.write(np.zeros(10**7, np.int16))
    assert path.stat().st_size < 10**6
    command = [sys.executable, "-c", _CHILD, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "would take 1.3 GB" in answer.stdout
    assert answer.stderr == ""
