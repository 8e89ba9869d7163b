"""Sound as a field: time in, amplitudes out."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import require_nonnegative, require_positive, require_source
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import CHORD, Sound, read_sound, write_wav
from lrnn_jax.metrics import mean_squared_error, psnr_from_mse, rho_ag, snr
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field

__all__ = ["Audio", "AudioData"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AudioData:
    """The samples of a sound as points.

    Attributes:
      x: times, the centres of n equal parts of [-extent, extent].
      y: amplitudes over the largest of all channels, in [-1, 1].
      largest: that amplitude.
      rate: samples a second.
      subtype: how the source keeps a sample.
    """

    x: Float[ArrayLike, "n 1"]
    y: Float[ArrayLike, "n c"]
    largest: float = dataclasses.field(metadata={"static": True})
    rate: int = dataclasses.field(metadata={"static": True})
    subtype: str = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audio(Pointwise):
    """Fit a sound: minimise the mean squared error of u(t) over its samples.

    t runs over [-extent, extent]. The loss is in units of the largest amplitude: the papers' MSE.

    Args:
      source: 'chord', a sound that is computed, or the path of a WAV or FLAC file.
      start: seconds to leave out at the beginning, >= 0.
      seconds: length to take, > 0; None takes all that is left.
      extent: end of the network's time, > 0: 100 is for sounds of seconds at 44.1 kHz; a network
        reaches higher frequencies with a larger one.

    Raises:
      InputError: the sound is missing or unusable, or the part leaves it.

    References: Sitzmann et al., SIREN (NeurIPS 2020), and Shah and Sitawarin, SPDER (ICLR 2024),
    for an extent of 100; that samples are centres of equal parts is ours.
    """

    decoded_file: ClassVar[str] = "decoded.wav"

    source: str = CHORD
    start: float = 0.0
    seconds: float | None = None
    extent: float = 100.0

    def __post_init__(self) -> None:
        require_source(self, "source")
        require_nonnegative(self, "start")
        require_positive(self, "extent")
        if self.seconds is not None:
            require_positive(self, "seconds")

    @property
    def in_dim(self) -> int:
        """1: time."""
        return 1

    @property
    def out_dim(self) -> int:
        """The channels of the sound; reads the file."""
        return read_sound(self.source).samples.shape[-1]

    def load(self) -> AudioData:
        """Reads the sound and takes its part."""
        sound = read_sound(self.source)
        samples = self._part(sound)
        largest = float(np.abs(samples).max())
        if largest == 0:
            raise InputError(f"{self.source} is silent from {self.start:g} s: take another part")
        return AudioData(
            x=self._times(len(samples)),
            y=in_precision(samples / largest),
            largest=largest,
            rate=sound.rate,
            subtype=sound.subtype,
        )

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB of the samples that the loss was taken over, of peak 2."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: AudioData) -> dict[str, float]:
        """MSE of amplitudes in [-1, 1], SNR in dB, and rho_AG of the spectra."""
        value, truth = predict(field, data.x), np.asarray(data.y)
        return {
            "mse": mean_squared_error(value, truth),
            "snr": snr(value, truth),
            "rho_ag": rho_ag(value, truth, axes=(0,)),
        }

    def render(self, field: Field, data: AudioData, folder: Path) -> list[Path]:
        """`reconstruction.wav`, and `error.png`: the error in time and in frequency."""
        from lrnn_jax.plotting import write_sound_error

        value, truth = predict(field, data.x).astype(np.float64), np.asarray(data.y, np.float64)
        return [
            write_wav(folder / "reconstruction.wav", self._sound(value, data, data.rate)),
            write_sound_error(folder / "error.png", value, truth, data.rate),
        ]

    def decode(self, field: Field, size: tuple[int, ...] | None, path: Path) -> Path:
        """Writes a WAV of so many samples over the same time; None: those of the source."""
        data = self.load()
        samples = np.shape(data.x)[0]
        if size is not None and (len(size) != 1 or size[0] < 2):
            raise InputError(f"size: expected one number of samples >= 2, got {size}")
        count = samples if size is None else size[0]
        value = predict(field, self._times(count)).astype(np.float64)
        rate = max(1, round(data.rate * count / samples))
        return write_wav(path, self._sound(value, data, rate))

    def _times(self, count: int) -> np.ndarray:
        return grid((count,), -self.extent, self.extent)

    def _part(self, sound: Sound) -> np.ndarray:
        first = round(self.start * sound.rate)
        count = None if self.seconds is None else round(self.seconds * sound.rate)
        last = len(sound.samples) if count is None else first + count
        if last > len(sound.samples) or last - first < 2:
            raise InputError(
                f"start, seconds: expected 2 samples or more of {self.source}, which lasts "
                f"{len(sound.samples) / sound.rate:g} s, got {self.start} and {self.seconds}"
            )
        return sound.samples[first:last]

    @staticmethod
    def _sound(value: np.ndarray, data: AudioData, rate: int) -> Sound:
        return Sound(value * data.largest, rate, data.subtype)
