"""What the containers of sound and video say of their own length, by their first bytes.

Decoders read a file that is cut short without a word, and return what is left.
"""

from collections.abc import Iterator

from lrnn_jax.errors import InputError

__all__ = ["require_whole", "video_format"]

_UNKNOWN_32 = (0, 2**32 - 1)  # what a stream writes before its length is known
_UNKNOWN_64 = 2**64 - 1
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # the GUID that begins a Wave64 file
_EBML = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = 0x18538067
_VIDEO_FORMATS = {
    _EBML: "matroska",
    b"OggS": "ogg",
    b"FLV": "flv",
    b"\x30\x26\xb2\x75": "asf",
    b"\x00\x00\x01\xba": "mpeg",
    b"YUV4MPEG2": "yuv4mpegpipe",
}
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # of MP4 and QuickTime


def video_format(content: bytes) -> str | None:
    """FFmpeg's name of the container, or None for what is none, a playlist among it."""
    if content[4:8] in _BOXES:
        return "mov"
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        return "avi"
    if content[:1] == b"G" and content[188:189] == b"G":
        return "mpegts"
    return next((name for start, name in _VIDEO_FORMATS.items() if content.startswith(start)), None)


def require_whole(content: bytes, source: str) -> None:
    """The file is as long as its container says: WAV, RF64, W64, AIFF, AU, CAF, Ogg, AVI, MP4,
    Matroska, GIF. Containers that do not say it, and streams of unknown length, pass.

    Raises:
      InputError: the file is empty or cut short.
    """
    if not content:
        raise InputError(f"{source} is empty")
    declared = _declared(content)
    if declared is not None and declared > len(content):
        raise InputError(f"{source} is cut short: {len(content)} of {declared} bytes")
    if content.startswith(b"OggS") and not _ends_ogg(content):
        raise InputError(f"{source} is cut short: its last Ogg page does not end the stream")
    if content.startswith(b"GIF8") and not content.rstrip(b"\0").endswith(b";"):
        raise InputError(f"{source} is cut short: a GIF ends with a trailer")


def _declared(content: bytes) -> int | None:
    """The length in bytes that the container says, or None."""
    start = content[:4]
    if start == b"RIFF" and len(content) >= 12:
        return _riff(content)
    if start == b"RF64":
        return _little(content, 20, 8) + 8
    if content.startswith(_W64):
        return _little(content, 16, 8)
    if start == b"FORM":
        return _big(content, 4, 4) + 8
    if start == b".snd":
        size = _big(content, 8, 4)
        return None if size == 2**32 - 1 else _big(content, 4, 4) + size
    if start == b"caff":
        return _end(_caf_chunks(content))
    if content[4:8] in _BOXES:
        return _end(_boxes(content))
    if start == _EBML:
        return _matroska(content)
    return None


def _riff(content: bytes) -> int | None:
    """WAV and AVI; a large AVI is several RIFF chunks, one behind the other."""
    at = 0
    while content[at : at + 4] == b"RIFF":
        size = _little(content, at + 4, 4)
        if size in _UNKNOWN_32:
            return None
        at += 8 + size + size % 2 * (content[8:12] == b"AVI ")
    return at


def _caf_chunks(content: bytes) -> Iterator[int | None]:
    """The end of each chunk."""
    at = 8
    while at + 12 <= len(content):
        size = _big(content, at + 4, 8)
        yield None if size == _UNKNOWN_64 else at + 12 + size
        at += 12 + size


def _boxes(content: bytes) -> Iterator[int | None]:
    """The end of each box at the top of an MP4 or QuickTime file."""
    at, has_index = 0, False
    while at + 8 <= len(content):
        size, kind = _big(content, at, 4), content[at + 4 : at + 8]
        has_index |= kind in (b"moov", b"moof")
        if size == 1:
            size = _big(content, at + 8, 8)
        if size < 8:  # 0: to the end of the file
            break
        at += size
        yield at
    if not has_index:
        yield len(content) + 8  # the box that says what the others hold is missing


def _matroska(content: bytes) -> int | None:
    """The end of the segment behind the header."""
    header, at = _ebml_number(content, 4)
    if header is None:
        return None
    at += header
    if _big(content, at, 4) != _MATROSKA_SEGMENT:
        return None
    size, at = _ebml_number(content, at + 4)
    return None if size is None else at + size


def _ebml_number(content: bytes, at: int) -> tuple[int | None, int]:
    """A number of variable length, None if it is unknown, and the place behind it."""
    first = content[at] if at < len(content) else 0
    length = 9 - first.bit_length()
    value = _big(content, at, length) & (1 << 7 * length) - 1
    return (None if value == (1 << 7 * length) - 1 else value), at + length


def _ends_ogg(content: bytes) -> bool:
    """The last page is complete and has the mark of the end."""
    at = content.rfind(b"OggS")
    page = content[at : at + 27]
    if len(page) < 27:
        return False
    table = content[at + 27 : at + 27 + page[26]]
    return (
        bool(page[5] & 4)
        and len(table) == page[26]
        and (at + 27 + len(table) + sum(table) <= len(content))
    )


def _end(ends: Iterator[int | None]) -> int | None:
    """The last of several ends; None if one is unknown."""
    found = list(ends)
    return None if None in found or not found else max(end for end in found if end is not None)


def _little(content: bytes, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "little")


def _big(content: bytes, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "big")
