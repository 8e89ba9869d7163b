"""Detect audio and video container formats, and check that a file is not cut short."""

import struct

from lrnn_jax.errors import InputError

_UNKNOWN = (0, 2**32 - 1)  # the size field of a stream whose length is not known yet
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", 0x18538067
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")
_CONTAINERS = {
    b"GIF8": "gif",
    _EBML: "matroska",
    b"OggS": "ogg",
    b"FLV\x01": "flv",
    b"\x00\x00\x01\xba": "mpeg",
    b"\x30\x26\xb2\x75": "asf",
    b"YUV4": "yuv4mpegpipe",
}
_PACKET = 188  # bytes of a packet of an MPEG transport stream
_WAVE64 = b"riff\x2e\x91\xcf\x11"


def require_container(content: bytes, source: str) -> str:
    """Return FFmpeg's name of a video's container, after checking that the file is complete.

    Playlists and scripts are rejected, because they refer to other files.

    Raises:
      InputError: the file is empty, cut short, or not in a supported container.
    """
    if not content:
        raise InputError(f"{source} is empty")
    name = _container(content)
    if name is None:
        raise InputError(
            f"cannot read {source}: damaged, or no video (expected MP4, MOV, MKV, WebM, AVI, GIF, "
            "OGG, FLV or MPEG)"
        )
    require_complete(content, source)
    return name


def require_complete(content: bytes, source: str) -> None:
    """Check that a file is as long as its container declares.

    Sizes that the container does not declare are not checked.

    Raises:
      InputError: the file is empty, or shorter than declared.
    """
    if not content:
        raise InputError(f"{source} is empty")
    try:
        declared = _declared(content)
    except (struct.error, IndexError) as error:
        raise InputError(f"{source} is cut short: {len(content)} bytes, within a header") from error
    if declared > len(content):
        raise InputError(f"{source} is cut short: {len(content)} of {declared} bytes")


def _container(content: bytes) -> str | None:
    if content[4:8] in _BOXES:
        return "mov"
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        return "avi"
    if content[::_PACKET][:2] == b"GG":
        return "mpegts"
    return _CONTAINERS.get(content[:4])


def _declared(content: bytes) -> int:
    """Return the minimum number of bytes that the file declares; 0 if it declares none."""
    start = content[:4]
    if content[:8] == _WAVE64:
        return struct.unpack_from("<Q", content, 16)[0]
    if content[4:8] in _BOXES:
        return _boxes(content)
    if content[::_PACKET][:2] == b"GG":
        return -(-len(content) // _PACKET) * _PACKET
    if content[:3] == b"ID3" or (content[0] == 0xFF and content[1] >= 0xE0):
        return _mp3(content)
    rules = {
        b"RIFF": _riff,
        b"RIFX": lambda data: _sized(data, ">I", 4, 8),
        b"FORM": lambda data: _sized(data, ">I", 4, 8),
        b"RF64": lambda data: _sized(data, "<Q", 20, 8),
        b".snd": lambda data: _sized(data, ">I", 8, struct.unpack_from(">I", data, 4)[0]),
        b"dns.": lambda data: _sized(data, "<I", 8, struct.unpack_from("<I", data, 4)[0]),
        b"caff": _caf,
        b"OggS": _ogg,
        b"GIF8": _gif,
        b"FLV\x01": _flv,
        _EBML: _matroska,
    }
    return rules[start](content) if start in rules else 0


def _sized(content: bytes, code: str, place: int, header: int) -> int:
    (size,) = struct.unpack_from(code, content, place)
    return 0 if size in _UNKNOWN else size + header


def _riff(content: bytes) -> int:
    """Return the size of a RIFF file. An AVI over 1 GB (OpenDML) has several RIFF chunks."""
    end = _sized(content, "<I", 4, 8)
    while 0 < end < len(content) and content[end : end + 4] == b"RIFF":
        size = _sized(content, "<I", end + 4, 8)
        if not size:
            return 0
        end += size
    return end


def _caf(content: bytes) -> int:
    place = 8
    while place < len(content):
        size = struct.unpack_from(">q", content, place + 4)[0]
        if size < 0:
            return 0
        place += 12 + size
        if content[place - 12 - size : place - 8 - size] == b"data":
            return place  # the bytes after the samples may be padding
    return place


def _boxes(content: bytes) -> int:
    """Return the size of an ISO media file.

    A box of size 0 extends to the end of the file. Without a `moov` box nothing can be decoded.
    """
    place, names = 0, set()
    while place < len(content):
        size, name = struct.unpack_from(">I4s", content, place)
        if size == 1:
            size = struct.unpack_from(">Q", content, place + 8)[0]
        names.add(name)
        if size < 8:
            break
        place += size
    return place if b"moov" in names else max(place, len(content) + 1)


def _ogg(content: bytes) -> int:
    place = 0
    while content[place : place + 4] == b"OggS":
        segments = content[place + 26]
        table = content[place + 27 : place + 27 + segments]
        if len(table) < segments:
            return place + 27 + segments
        place += 27 + segments + sum(table)
    return place


def _mp3(content: bytes) -> int:
    """Return the size of an MP3 file, from the Xing or Info header in its first frame, if any."""
    start = 0
    if content[:3] == b"ID3":
        size = 0
        for byte in content[6:10]:
            size = size << 7 | byte & 127
        start = 10 + size
    for mark in (b"Xing", b"Info"):
        place = content.find(mark, start, start + 64)
        if place >= 0:
            flags = content[place + 7]
            if flags & 2:  # number of bytes, after the number of frames if present
                return start + struct.unpack_from(">I", content, place + 8 + 4 * (flags & 1))[0]
    return 0


def _flv(content: bytes) -> int:
    place = struct.unpack_from(">I", content, 5)[0] + 4
    while place < len(content):
        place += 11 + int.from_bytes(content[place + 1 : place + 4]) + 4
    return place


def _gif(content: bytes) -> int:
    """Return the size of a GIF: its blocks up to the trailer, which is one byte."""
    place = 13 + _colours(content[10])
    while content[place] != 0x3B:
        if content[place] == 0x2C:
            place += 11 + _colours(content[place + 9])
        elif content[place] == 0x21:
            place += 2
        else:
            return 0  # damaged: the decoder reports it
        while content[place]:
            place += 1 + content[place]
        place += 1
    return place + 1


def _colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _matroska(content: bytes) -> int:
    """Return the end of the segment or, if its size is unknown, of the elements in it."""
    place = 0
    while place < len(content):
        code, place = _number(content, place, keep=True)
        size, start = _number(content, place)
        if size is None:  # unknown size: descend into the element
            place = start
            continue
        place = start + size
        if code == _SEGMENT:
            return place
    return place


def _number(content: bytes, place: int, keep: bool = False) -> tuple[int | None, int]:
    """Return an EBML variable-length number (None if all ones) and the position after it."""
    length = 9 - content[place].bit_length()
    if length > 8:
        return 0, place + 1
    value = int.from_bytes(content[place : place + length])
    if len(content) < place + length:
        raise IndexError(place)
    if keep:
        return value, place + length
    value &= 2 ** (7 * length) - 1
    return (None if value == 2 ** (7 * length) - 1 else value), place + length
