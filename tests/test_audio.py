"""Sound: files in and out, the problem, its scores against formulas written out by hand."""

import importlib
import math

import jax
import numpy as np
import pytest
import soundfile

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.cli import main
from lrnn_jax.io import memory, read_picture, read_sound, write_wav
from lrnn_jax.io.sounds import Sound
from lrnn_jax.metrics import rho_ag, snr

RATE = 1000
STEREO = (
    np.stack([np.sin(np.arange(300) / 7), 0.5 * np.cos(np.arange(300) / 3)], axis=1)
    * np.linspace(0.2, 0.8, 300)[:, None]
)


@pytest.fixture
def stored(tmp_path):
    """Writes samples with soundfile and returns the path."""

    def store(name="sound.wav", samples=STEREO, rate=RATE, subtype=None):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return str(tmp_path / name)

    return store


def lookup(data):
    """The field that is the samples at their times."""
    y, x = np.asarray(data.y), np.asarray(data.x, np.float64)
    extent = len(x) * (x[1, 0] - x[0, 0]) / 2

    def field(t):
        return y[np.floor((np.asarray(t)[..., 0] / extent + 1) / 2 * len(y)).astype(int)]

    return field


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "FLOAT", 1e-7),
        ("a.wav", "DOUBLE", 0),
        ("a.flac", "PCM_16", 2**-15),
    ],
)
def test_what_is_written_is_read(stored, tmp_path, name, subtype, error):
    sound = read_sound(stored(name, subtype=subtype))
    assert (sound.rate, sound.subtype) == (RATE, subtype)
    np.testing.assert_allclose(sound.samples, STEREO, atol=error)
    again = read_sound(str(write_wav(tmp_path / "again.wav", sound)))
    assert (again.rate, again.subtype) == (RATE, subtype)
    np.testing.assert_allclose(again.samples, sound.samples, atol=error)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_points_and_values_have_the_precision_of_the_run(stored, precision):
    """At the end of a long time, float32 is a hundredth of a sample of it off."""
    source = stored("a.wav", subtype="DOUBLE")
    with jax.enable_x64(precision == "float64"):
        data = lj.Audio(source=source, extent=100.0).load()
    times = -100 + 200 * (np.arange(len(STEREO)) + 0.5) / len(STEREO)
    values = STEREO / np.abs(STEREO).max()
    for found, expected, size in ((data.x[:, 0], times, 100), (data.y, values, 1)):
        assert found.dtype == precision
        np.testing.assert_allclose(found, expected, rtol=0, atol=4 * size * np.finfo(precision).eps)


def test_formats_that_wav_lacks_are_written_with_16_bits(tmp_path):
    path = write_wav(tmp_path / "a.wav", Sound(STEREO, RATE, "PCM_S8"))
    assert soundfile.info(path).subtype == "PCM_16"


def test_integers_are_clipped_and_floats_are_not(tmp_path):
    loud = 2 * STEREO / np.abs(STEREO).max()
    for subtype, expected in (("PCM_16", np.clip(loud, -1, 1)), ("FLOAT", loud)):
        path = write_wav(tmp_path / f"{subtype}.wav", Sound(loud, RATE, subtype))
        np.testing.assert_allclose(read_sound(str(path)).samples, expected, atol=4e-5)


def damage(content, how):
    return {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "text": b"This is no sound, whatever its name may be.\n",
    }[how]


@pytest.mark.parametrize(
    ("how", "name", "message"),
    [
        ("cut", "a.wav", r"a\.wav is cut short: \d+ of \d+ bytes"),
        ("cut", "a.flac", r"a\.flac"),
        ("empty", "a.wav", r"a\.wav is empty"),
        ("text", "a.wav", r"cannot read .*a\.wav: damaged, or no sound"),
    ],
)
def test_damaged_files_are_refused(stored, tmp_path, how, name, message):
    path = stored(name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(damage(content, how))
    with pytest.raises(InputError, match=message):
        read_sound(path)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((0, 1)), "has 0 samples: expected 2 or more"),
        (np.zeros((40, 2)), "is silent: expected a sample other than zero"),
        (np.where(np.arange(9) == 4, np.nan, 0.5), "1 values that are not finite, the first at"),
    ],
    ids=["empty", "silent", "nan"],
)
def test_sounds_of_nothing_are_refused(stored, samples, message):
    with pytest.raises(InputError, match=message):
        read_sound(stored("a.wav", samples, subtype="DOUBLE"))


def test_a_missing_file_and_a_missing_library_are_told(monkeypatch, stored):
    with pytest.raises(InputError, match=r"cannot read nothing\.wav: No such file"):
        read_sound("nothing.wav")
    path = stored()
    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(InputError, match=r"soundfile is needed: pip install 'lrnn-jax\[audio\]'"):
        read_sound(path)


def refuse(name):
    raise ImportError(f"No module named {name!r}")


def test_a_sound_larger_than_memory_is_refused(monkeypatch, stored):
    path = stored()
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match=r"would take 0\.0 GB and 0\.0 GB of memory are free"):
        read_sound(path)


# The problem --------------------------------------------------------------------------------------


def test_times_are_centres_and_amplitudes_are_over_the_largest(stored):
    problem = lj.Audio(source=stored(subtype="DOUBLE"))
    data = problem.load()
    assert (problem.in_dim, problem.out_dim) == (1, 2)
    expected = -0.1 + (2 * np.arange(300) + 1) / 300 * 0.1  # one unit for 3,000 samples
    np.testing.assert_allclose(data.x[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(data.y, STEREO / np.abs(STEREO).max(), atol=1e-7)
    assert data.largest == pytest.approx(np.abs(STEREO).max())


def test_a_part_is_taken_by_the_second(stored):
    part = lj.Audio(source=stored(subtype="DOUBLE"), start=0.1, seconds=0.05, extent=2.0).load()
    own = STEREO[100:150]
    np.testing.assert_allclose(part.y, own / np.abs(own).max(), atol=1e-7)
    assert part.x[0, 0] == pytest.approx(-2 + 2 / 50)


@pytest.mark.parametrize(
    "fields", [{"start": 0.3}, {"start": 0.1, "seconds": 0.3}, {"seconds": 1e-4}], ids=str
)
def test_a_part_that_is_not_there_is_refused(stored, fields):
    with pytest.raises(
        InputError, match=r"start, seconds: expected 2 samples or more of .* 0\.3 s"
    ):
        lj.Audio(source=stored(), **fields).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": -1.0}, "start: expected a finite number >= 0"),
        ({"start": math.nan}, "start: expected a finite number >= 0"),
        ({"seconds": 0.0}, "seconds: "),
        ({"extent": 0.0}, "extent: "),
    ],
)
def test_impossible_fields_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        lj.Audio(**fields)


def test_a_silent_part_is_refused(stored):
    samples = np.concatenate([np.zeros(100), np.ones(100)])
    with pytest.raises(InputError, match=r"is silent from 0 s: take another part"):
        lj.Audio(source=stored("a.wav", samples), seconds=0.05).load()


def test_the_perfect_field(stored, key):
    problem = lj.Audio(source=stored())
    data = problem.load()
    scores = problem.evaluate(lookup(data), data)
    assert scores["mse"] == 0
    assert scores["snr"] == math.inf
    assert scores["rho_ag"] == pytest.approx(1)
    assert float(problem.loss(lookup(data), data, key)[0]) == 0


def test_scores_agree_with_their_formulas(stored, key):
    problem = lj.Audio(source=stored())
    data = problem.load()
    field = lambda t: np.asarray(np.concatenate([np.sin(t), 0.1 * t / 100], -1))  # noqa: E731
    value, truth = np.float64(field(data.x)), np.float64(data.y)
    scores = problem.evaluate(field, data)
    assert scores["mse"] == pytest.approx(np.mean((value - truth) ** 2))
    assert scores["snr"] == pytest.approx(
        10 * np.log10(np.sum(truth**2) / np.sum((value - truth) ** 2))
    )
    a, g = transform(value), transform(truth)
    expected = np.sum(a * g) / np.sqrt(np.sum(a**2) * np.sum(g**2))
    assert scores["rho_ag"] == pytest.approx(expected, rel=1e-9)
    assert float(problem.loss(field, data, key)[0]) == pytest.approx(scores["mse"], rel=1e-5)


def transform(samples):
    """|sum_t x_t exp(-2 pi i t f / n)| for all n frequencies, by its definition."""
    n = len(samples)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    return np.abs(waves @ samples)


def test_rho_ag_is_deaf_to_phase_and_loudness_but_not_to_the_mean():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 1))
    assert rho_ag(3 * np.roll(x, 7, axis=0), x) == pytest.approx(1)
    assert rho_ag(x + 10, x) < 0.5
    assert rho_ag(np.zeros_like(x), x) == 0
    with pytest.raises(InputError, match="reference: expected a value other than zero"):
        rho_ag(x, np.zeros_like(x))
    picture = rng.normal(size=(4, 6))
    assert rho_ag(np.roll(picture, 1, axis=1), picture, axes=(0, 1)) == pytest.approx(1)


def test_snr_of_a_tenth_is_20_db():
    x = np.random.default_rng(1).normal(size=100)
    assert snr(1.1 * x, x) == pytest.approx(20)


def test_render_writes_the_sound_and_its_error(stored, tmp_path):
    problem = lj.Audio(source=stored(subtype="PCM_24"))
    folder = tmp_path / "run"
    folder.mkdir()
    data = problem.load()
    files = problem.render(lookup(data), data, folder)
    assert sorted(folder.iterdir()) == sorted(files)
    assert {file.name for file in files} == {"reconstruction.wav", "error.png"}
    sound = read_sound(str(folder / "reconstruction.wav"))
    assert (sound.rate, sound.subtype) == (RATE, "PCM_24")
    np.testing.assert_allclose(sound.samples, STEREO, atol=1e-6)
    assert min(read_picture(str(folder / "error.png")).pixels.shape[:2]) > 100


def test_decode_takes_any_number_of_samples(stored, tmp_path):
    problem = lj.Audio(source=stored())
    data = problem.load()
    whole = problem.decode(lookup(data), None, tmp_path / "whole.wav")
    assert (read_sound(str(whole)).rate, len(read_sound(str(whole)).samples)) == (RATE, 300)
    fine = read_sound(str(problem.decode(lookup(data), (900,), tmp_path / "fine.wav")))
    assert (fine.rate, len(fine.samples)) == (3 * RATE, 900)
    np.testing.assert_allclose(fine.samples[1::3], STEREO, atol=1e-4)
    for size in ((1,), (4, 4), ()):
        with pytest.raises(InputError, match="size: expected one number of samples >= 2"):
            problem.decode(lookup(data), size, tmp_path / "no.wav")
    assert not (tmp_path / "no.wav").exists()


def test_the_chord_is_what_it_says():
    sound = read_sound("chord")
    spectrum = np.abs(np.fft.rfft(sound.samples[:, 0]))
    assert (sound.rate, sound.samples.shape) == (8000, (16000, 1))
    for pitch in (261.63, 329.63, 392.00):
        near = spectrum[round(2 * pitch) - 20 : round(2 * pitch) + 21]
        assert abs(np.argmax(near) - 20) <= 1
        assert near.max() > 10 * np.median(near)
    assert np.abs(sound.samples).max() == pytest.approx(0.9)


def test_a_short_fit_gains_10_db_and_its_run_can_be_decoded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = "fit --problem.kind audio --problem.seconds 0.05 --problem.extent 4 --model.kind siren "
    words += "--model.width 32 --model.depth 2 --training.steps 120 --training.batch none --out run"
    assert main([*words.split(), "--training.learning_rate", "2e-3"]) == 0
    problem = lj.Audio(seconds=0.05, extent=4.0)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, last = (
        float(line.split('"psnr": ')[1].split(",")[0].rstrip("}")) for line in (lines[0], lines[-1])
    )
    assert last > first + 10
    assert main(["decode", "run", "--size", "200"]) == 0
    assert capsys.readouterr().out.strip().endswith("decoded.wav")
    assert len(read_sound("run/decoded.wav").samples) == 200
    assert len(problem.load().y) == 400
