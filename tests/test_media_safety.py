"""Sound and video: a file opens nothing but itself, and one that is cut short is refused."""

import http.server
import io
import threading

import av
import numpy as np
import pytest
import soundfile

from lrnn_jax import InputError
from lrnn_jax.io import Clip, containers, memory, read_sound, read_video, write_video

RNG = np.random.default_rng(0)
SOUND = RNG.uniform(-0.5, 0.5, (4000, 2))
FRAMES = np.cumsum(RNG.uniform(0, 0.1, (8, 32, 48, 3)), axis=0)
SOUNDS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG")
VIDEOS = ("mp4", "mov", "mkv", "avi", "gif", "webm")


def sound(kind):
    file = io.BytesIO()
    soundfile.write(file, SOUND, 8000, format=kind)
    return file.getvalue()


def film(folder, suffix):
    """A film whose codec is of this container."""
    path = folder / f"film.{suffix}"
    if suffix in ("mp4", "mov", "mkv", "gif"):
        return write_video(path, Clip(np.clip(FRAMES, 0, 1), 8.0)).read_bytes()
    with av.open(str(path), "w") as container:
        stream = container.add_stream({"avi": "mpeg4", "webm": "libvpx"}[suffix], rate=8)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for frame in (255 * np.clip(FRAMES, 0, 1)).astype(np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def stored(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return str(path)


# Other files and the network ----------------------------------------------------------------------


@pytest.fixture
def server():
    """(port, what was asked for) of a server on this machine."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_address[1], asked
        listening.shutdown()
        thread.join()


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\nfile 'http://127.0.0.1:{port}/a.mp4'\n",
    "hls": "#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/a.ts\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
    "dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        "<Period><AdaptationSet><Representation id='1'><BaseURL>http://127.0.0.1:{port}/a.mp4"
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
    "subtitles": "[InternetShortcut]\nURL=http://127.0.0.1:{port}/\n",
    "gif, then a playlist": "GIF89a\1\0\1\0\0\0\0#EXTM3U\nhttp://127.0.0.1:{port}/;",
    "mp4, then a playlist": "\0\0\0\x08ftyp#EXTM3U\nhttp://127.0.0.1:{port}/a.ts\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "avi", "ffconcat"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_opens_nothing(tmp_path, server, capfd, kind, suffix):
    port, asked = server
    other = tmp_path / "other.mp4"
    other.write_bytes(film(tmp_path, "mp4"))
    text = PLAYLISTS[kind].format(path=other, port=port)
    with pytest.raises(InputError, match=r"damaged, or no video|is cut short") as caught:
        read_video(stored(tmp_path, f"a.{suffix}", text.encode()))
    assert asked == []
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name", ["frame%03d.png", "concat:a.mp4|b.mp4", "subfile,,start,0,,:a.mp4"]
)
def test_a_name_is_a_name_and_no_pattern_or_protocol(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(film(tmp_path, "mp4"))
    with pytest.raises(InputError, match="No such file"):
        read_video(name)


# Cut short ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUNDS)
def test_sounds_are_read_whole_or_refused(tmp_path, kind):
    content = sound(kind)
    assert read_sound(stored(tmp_path, "whole", content)).samples.shape == SOUND.shape
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(InputError, match=r"cut short|cannot read"):
            read_sound(stored(tmp_path, "cut", content[: int(share * len(content))]))
    with pytest.raises(InputError, match=r"cut short|cannot read"):
        read_sound(stored(tmp_path, "cut", content[:-1]))


@pytest.mark.parametrize("suffix", VIDEOS)
def test_films_are_read_whole_or_refused(tmp_path, capfd, suffix):
    content = film(tmp_path, suffix)
    found = read_video(stored(tmp_path, f"whole.{suffix}", content))
    assert found.frames.shape == FRAMES.shape
    assert np.abs(found.frames - np.clip(FRAMES, 0, 1)).mean() < 0.1
    assert found.rate == pytest.approx(8, rel=0.05)
    for share in (0.3, 0.6, 0.95):
        with pytest.raises(InputError, match=r"cut short|cannot read"):
            read_video(stored(tmp_path, f"cut.{suffix}", content[: int(share * len(content))]))
    assert capfd.readouterr() == ("", "")


def test_streams_of_unknown_length_are_read(tmp_path):
    """A recorder that was stopped leaves such headers."""
    for kind, at, size in (("WAV", 4, 4), ("AU", 8, 4)):
        content = bytearray(sound(kind))
        content[at : at + size] = b"\xff" * size
        if kind == "WAV":
            place = content.index(b"data") + 4
            content[place : place + 4] = b"\xff" * 4
        containers.require_complete(bytes(content), "a")


def test_an_mp4_without_its_index_is_cut_short(tmp_path):
    """Its largest box is whole, and the one that describes it is not there."""
    content = film(tmp_path, "mp4")
    with pytest.raises(InputError, match="is cut short"):
        read_video(stored(tmp_path, "a.mp4", content[: content.index(b"moov") - 4]))


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", VIDEOS)
def test_films_larger_than_memory_are_refused(tmp_path, monkeypatch, suffix):
    path = stored(tmp_path, f"a.{suffix}", film(tmp_path, suffix))
    monkeypatch.setattr(memory, "available_memory", lambda: 5 * 9 * 3 * 32 * 48)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match="of memory are free"):
        read_video(path)
    assert len(read_video(path, count=3).frames) == 3


def test_hours_of_silence_in_a_small_file_are_refused(tmp_path, monkeypatch):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(4_000_000), 8000, format="FLAC")
    assert len(file.getvalue()) < 50_000
    monkeypatch.setattr(memory, "available_memory", lambda: 30_000_000)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match="of memory are free"):
        read_sound(stored(tmp_path, "a.flac", file.getvalue()))
