"""Audio as a field: map time to amplitudes."""

import dataclasses
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
from jaxtyping import ArrayLike, Float

from lrnn_jax.checks import (
    check_types,
    require_at_least,
    require_nonnegative,
    require_positive,
)
from lrnn_jax.domains import grid, in_precision
from lrnn_jax.errors import InputError
from lrnn_jax.fields import predict
from lrnn_jax.io import (
    CHORD,
    Sound,
    SourceField,
    as_source,
    make_folder,
    read_sound,
    write_sound,
    write_wav,
)
from lrnn_jax.metrics import mean_squared_error, psnr_from_mse, rho_ag, snr
from lrnn_jax.pointwise import Pointwise
from lrnn_jax.typing import Field, Section

__all__ = ["Audio", "AudioData"]

_SAMPLES = 3000  # samples in a unit of the network's time


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AudioData:
    """The samples of an audio signal as points.

    Attributes:
      x: times, the centres of n equal cells of [-extent, extent].
      y: amplitudes divided by the largest absolute amplitude of all channels, in [-1, 1].
      largest: that largest amplitude.
      rate: samples per second.
      subtype: sample format of the source file.
    """

    x: Float[ArrayLike, "n 1"]
    y: Float[ArrayLike, "n c"]
    largest: float = dataclasses.field(metadata={"static": True})
    rate: int = dataclasses.field(metadata={"static": True})
    subtype: str = dataclasses.field(metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audio(Pointwise):
    """Fit an audio signal: minimise the mean squared error of u(t) over its samples.

    t spans [-extent, extent]. The loss is in units of the largest amplitude, as in the papers.

    Args:
      source: 'chord', a synthetic sound, the path of a WAV or FLAC file, or an array (n,) or
        (n, channels).
      rate: samples per second of an array; None for files, which state it.
      start: seconds to skip at the beginning, >= 0.
      seconds: length of the segment in seconds, > 0; None takes the rest of the file.
      extent: half-width of the network's time interval, > 0; None takes 1 for each 3,000 samples,
        so that a model reaches the same frequencies in sounds of any length. The papers take 100
        for sounds of about 300,000 samples.

    Raises:
      InputError: the file is missing or unusable, or the segment exceeds it.

    References: Sitzmann et al., SIREN (NeurIPS 2020), and Shah and Sitawarin, SPDER (ICLR 2024),
    for the extent. Placing samples at the centres of equal cells is our choice.
    """

    main_score: ClassVar[str | None] = "snr"
    decoded_file: ClassVar[str] = "decoded.wav"

    source: SourceField = dataclasses.field(default=as_source(CHORD), kw_only=False)
    rate: int | None = dataclasses.field(default=None, kw_only=False)
    start: float = 0.0
    seconds: float | None = None
    extent: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", as_source(self.source))
        require_at_least(self, 1, "rate")
        require_nonnegative(self, "start")
        require_positive(self, "extent", "seconds")
        check_types(self)

    @property
    def in_dim(self) -> int:
        """1: time."""
        return 1

    @property
    def out_dim(self) -> int:
        """Number of channels; reads the file."""
        return read_sound(self.source, self.rate).samples.shape[-1]

    def load(self) -> AudioData:
        """Reads the file and cuts out the segment."""
        sound = read_sound(self.source, self.rate)
        samples = self._part(sound)
        largest = float(np.abs(samples).max())
        if largest == 0:
            raise InputError(f"{self.source} is silent from {self.start:g} s: take another part")
        return AudioData(
            x=self._times(len(samples), len(samples)),
            y=in_precision(samples / largest),
            largest=largest,
            rate=sound.rate,
            subtype=sound.subtype,
        )

    def progress(self, terms: dict[str, float]) -> dict[str, float]:
        """PSNR in dB (peak 2), computed from the loss."""
        return {"psnr": psnr_from_mse(terms["loss"], peak=2.0)}

    def evaluate(self, field: Field, data: AudioData | None = None) -> dict[str, float]:
        """MSE of amplitudes in [-1, 1], SNR in dB, and rho_AG of the spectra."""
        data = self.loaded(data)
        value, truth = predict(field, data.x), np.asarray(data.y)
        return {
            "mse": mean_squared_error(value, truth),
            "snr": snr(value, truth),
            "rho_ag": rho_ag(value, truth, axes=(0,)),
        }

    def section(self, field: Field, data: AudioData | None = None) -> Section:
        """The first channel of 400 samples around the loudest one."""
        data = self.loaded(data)
        samples = np.asarray(data.y, np.float64)[:, 0]
        middle = int(np.clip(np.abs(samples).argmax(), 200, max(200, len(samples) - 200)))
        part = slice(middle - 200, middle + 200)
        return Section(samples[part], predict(field, np.asarray(data.x)[part])[:, 0])

    def render(
        self, field: Field, data: AudioData | None = None, folder: str | Path = "."
    ) -> list[Path]:
        """`reconstruction.wav`, and `error.png` with the error over time and over frequency."""
        from lrnn_jax.plot import write_sound_error

        data = self.loaded(data)
        folder = make_folder(folder)
        value, truth = predict(field, data.x).astype(np.float64), np.asarray(data.y, np.float64)
        return [
            write_wav(folder / "reconstruction.wav", self._sound(value, data, data.rate)),
            write_sound_error(folder / "error.png", value, truth, data.rate),
        ]

    def decode(
        self,
        field: Field,
        size: tuple[int, ...] | None = None,
        path: str | Path | None = None,
    ) -> Path:
        """Writes a WAV or FLAC of `size` samples over the same duration; None: as in the source."""
        path = path or self.decoded_file
        data = self.load()
        samples = np.shape(data.x)[0]
        if size is not None and (len(size) != 1 or size[0] < 2):
            raise InputError(f"size: expected one number of samples >= 2, got {size}")
        count = samples if size is None else size[0]
        value = predict(field, self._times(count, samples)).astype(np.float64)
        rate = max(1, round(data.rate * count / samples))
        return write_sound(path, self._sound(value, data, rate))

    def _times(self, count: int, samples: int) -> np.ndarray:
        """The centres of `count` cells of the interval of a sound of `samples` samples."""
        extent = samples / _SAMPLES if self.extent is None else self.extent
        return grid((count,), -extent, extent)

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
