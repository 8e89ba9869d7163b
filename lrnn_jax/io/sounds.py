"""Read sound (any format of libsndfile, sample rate, number of channels), and write WAV."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lrnn_jax.errors import InputError
from lrnn_jax.io.containers import require_complete
from lrnn_jax.io.extras import extra
from lrnn_jax.io.files import read_bytes, require_suffix, write_bytes
from lrnn_jax.io.memory import require_memory
from lrnn_jax.io.quiet import quiet_standard_error
from lrnn_jax.io.sources import ArraySource, Source

CHORD = "chord"
"""Name of a synthetic sound: two seconds of a C major chord with four partials, at 8 kHz."""

_WAV_FORMATS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


@dataclasses.dataclass(frozen=True)
class Sound:
    """A sound: samples in [-1, 1] (floats may exceed it), sample rate in Hz, file subtype."""

    samples: Float[np.ndarray, "n channels"]
    rate: int
    subtype: str


def read_sound(source: Source, rate: int | None = None) -> Sound:
    """Read a sound from a file or an array, or generate CHORD by its name.

    Args:
      source: the path of a file, CHORD, or an array (n,) or (n, channels): floats, or integers that
        are divided by the largest value of their type.
      rate: samples per second of an array; None for a file, which states its own.

    Raises:
      InputError: the file is missing, cut short, not a sound file or too large, or has invalid
        values; soundfile is not installed; or rate is missing or does not belong there.
    """
    if isinstance(source, ArraySource):
        return _from_array(source, rate)
    if rate is not None:
        raise InputError(f"rate: {source} has a sampling rate of its own; leave it out")
    soundfile = extra("soundfile", "audio")  # first, because writing the result needs it too
    if source == CHORD:
        return _chord()
    path = Path(source)
    content = read_bytes(path)
    require_complete(content, source)
    try:
        with quiet_standard_error():  # libsndfile's reader of MP3 prints
            info = soundfile.info(_Content(content))
            # float64 samples, and the mask of finite samples
            require_memory(source, (8 + 1) * info.frames * info.channels)
            samples, own_rate = soundfile.read(_Content(content), always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"cannot read {source}: damaged, or no sound ({error})") from error
    if len(samples) != info.frames:
        raise InputError(f"{source} is cut short: {len(samples)} of {info.frames} samples")
    _check(samples, source)
    return Sound(samples, own_rate, info.subtype)


def _from_array(source: ArraySource, rate: int | None) -> Sound:
    samples = source.values
    if rate is None:
        raise InputError("rate: an array needs the number of samples per second")
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "if" or len(samples) < 2:
        raise InputError(f"source: expected samples (n,) or (n, channels), got {source}")
    if samples.dtype.kind == "i":
        samples = samples / (np.iinfo(samples.dtype).max + 1)
    samples = samples.astype(np.float64).reshape(len(samples), -1)
    _check(samples, source)
    return Sound(samples, rate, "FLOAT")


def write_sound(path: str | Path, sound: Sound) -> Path:
    """Write a sound in the format of the suffix: WAV, or FLAC with at most 24 bits.

    Raises:
      InputError: the suffix is another, the file cannot be written, or a value is not finite.
    """
    path = require_suffix(path, ".wav", ".flac")
    if path.suffix.lower() == ".wav":
        return write_wav(path, sound)
    subtype = "PCM_16" if sound.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else "PCM_24"
    return _write(path, sound, "FLAC", subtype)


def write_wav(path: Path, sound: Sound) -> Path:
    """Write a WAV file in the subtype of `sound`, or 16 bits if WAV does not support it.

    Integer formats are clipped.

    Raises:
      InputError: the file cannot be written, or a value is not finite.
    """
    subtype = sound.subtype if sound.subtype in _WAV_FORMATS else "PCM_16"
    return _write(path, sound, "WAV", subtype)


def _write(path: Path, sound: Sound, format_name: str, subtype: str) -> Path:
    if not np.isfinite(sound.samples).all():
        raise InputError(f"cannot write {path}: it would hold values that are not finite")
    buffer, soundfile = io.BytesIO(), extra("soundfile", "audio")
    soundfile.write(buffer, sound.samples, sound.rate, format=format_name, subtype=subtype)
    return write_bytes(path, buffer.getvalue())


class _Content(io.BytesIO):
    """BytesIO that ignores seeks before its start, which libsndfile requests on damaged files."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):  # libsndfile compares the position and reports an error
            return self.tell()


def _check(samples: np.ndarray, source: Source) -> None:
    if len(samples) < 2:
        raise InputError(f"{source} has {len(samples)} samples: expected 2 or more")
    bad = np.argwhere(~np.isfinite(samples))
    if len(bad):
        raise InputError(
            f"{source} has {len(bad)} values that are not finite, the first at sample {bad[0][0]}"
        )
    if not samples.any():
        raise InputError(f"{source} is silent: expected a sample other than zero")


def _chord() -> Sound:
    """Generate C4, E4 and G4 with partials of amplitude 1/k and exponential decay."""
    rate = 8000
    t = np.arange(2 * rate) / rate
    pitches, partials = np.array([261.63, 329.63, 392.00]), np.arange(1, 5)
    waves = [np.sin(2 * np.pi * k * f * t) / k for f in pitches for k in partials]
    samples = np.exp(-1.5 * t) * np.sum(waves, axis=0)
    return Sound((0.9 * samples / np.abs(samples).max())[:, None], rate, "PCM_16")
