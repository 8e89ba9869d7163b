"""Video: a folder of frames, GIF and MP4 in and out, the problem and its scores."""

import numpy as np
import pytest

import lrnn_jax as lj
from lrnn_jax import InputError
from lrnn_jax.io import Clip, memory, read_picture, read_video, write_png, write_video

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 3, (4, 6, 5, 3)) * 100 / 255  # few colours, which a GIF keeps
SMOOTH = 0.5 + 0.3 * np.sin(
    np.arange(6)[:, None, None, None] / 2
    + np.arange(32)[None, :, None, None] / 9
    + np.arange(48)[None, None, :, None] / 7
) * np.array([1.0, 0.5, -1.0])


@pytest.fixture
def folder(tmp_path):
    """Frames as pictures, written in another order than that of their names."""
    path = tmp_path / "frames"
    path.mkdir()
    for index in (2, 0, 3, 1):
        write_png(path / f"frame-{index}.png", LEVELS[index])
    (path / "notes.txt").write_text("not a frame")
    return path


def lookup(clip):
    """The field that is the video at the centres of its pixels."""
    sides = np.array(clip.shape[:3])

    def field(x):
        place = np.floor((np.asarray(x) + 1) / 2 * sides).astype(int)
        return 2 * clip[place[..., 0], place[..., 1], place[..., 2]] - 1

    return field


# Files --------------------------------------------------------------------------------------------


def test_a_folder_is_read_in_the_order_of_names(folder):
    clip = read_video(str(folder))
    np.testing.assert_allclose(clip.frames, LEVELS, atol=1e-9)
    assert read_video(str(folder), 3).frames.shape[0] == 3


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_that_is_written_is_read(tmp_path, channels):
    frames = LEVELS[..., :channels]
    path = write_video(tmp_path / "a.gif", Clip(frames, 10.0))
    found = read_video(str(path))
    assert found.rate == pytest.approx(10)
    np.testing.assert_allclose(found.frames.mean(-1), frames.mean(-1), atol=1 / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_film_that_is_written_is_read(tmp_path, channels):
    """Compressed with losses, and with colours of half the resolution."""
    frames = SMOOTH[..., :channels]
    path = write_video(tmp_path / "a.mp4", Clip(frames, 8.0))
    found = read_video(str(path))
    assert found.rate == pytest.approx(8)
    assert found.frames.shape == (6, 32, 48, 3)
    assert np.abs(found.frames.mean(-1) - frames.mean(-1)).mean() < 0.02
    assert len(read_video(str(path), 4).frames) == 4


def test_films_take_odd_sides_slow_rates_and_transparency(tmp_path):
    frames = np.concatenate([SMOOTH[:, :31, :47], np.ones((6, 31, 47, 1))], axis=-1)
    for channels in (2, 4):
        path = write_video(tmp_path / f"{channels}.mp4", Clip(frames[..., -channels:], 0.2))
        assert read_video(str(path)).frames.shape == (6, 32, 48, 3)


def test_a_narrow_grey_gif_keeps_its_frames(tmp_path):
    path = write_video(tmp_path / "a.gif", Clip(LEVELS[:, :, :3, :1], 10.0))
    assert read_video(str(path)).frames.shape[:3] == (4, 6, 3)


def test_one_frame_is_refused(tmp_path, folder):
    gif = write_video(tmp_path / "a.gif", Clip(LEVELS[:1], 10.0))
    for file in sorted(folder.glob("*.png"))[1:]:
        file.unlink()
    for source in (gif, folder):
        with pytest.raises(InputError, match="has one frame: for a single image take"):
            read_video(str(source))


def test_frames_of_several_sizes_are_refused(folder):
    write_png(folder / "frame-9.png", np.zeros((3, 3, 3)))
    with pytest.raises(InputError, match=r"frame-9.png has shape \(3, 3, 3\), the first frame"):
        read_video(str(folder))


def test_unusable_sources_are_refused(tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match=r"holds no images: expected \.png"):
        read_video(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=r"cannot read missing\.mp4: No such file"):
        read_video("missing.mp4")
    no_gif = b"GIF89a" + bytes([8, 0, 8, 0, 0, 0, 0]) + b"nor is this one"
    for name, content in (("a.mp4", b"This is no film."), ("a.gif", no_gif)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="damaged, or no video"):
            read_video(str(tmp_path / name))
    (tmp_path / "a.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.mp4 is empty"):
        read_video(str(tmp_path / "a.mp4"))


def test_a_video_larger_than_memory_is_refused(monkeypatch, folder, tmp_path):
    path = write_video(tmp_path / "a.mp4", Clip(SMOOTH, 8.0))
    monkeypatch.setattr(memory, "available_memory", lambda: 100)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    for source in (folder, path):
        with pytest.raises(InputError, match="of memory are free"):
            read_video(str(source))


def test_a_film_stops_at_the_memory(monkeypatch, tmp_path):
    path = write_video(tmp_path / "a.mp4", Clip(SMOOTH, 8.0))
    assert len(read_video(str(path)).frames) == len(SMOOTH)
    two_frames = 8 * 2 * 3 * SMOOTH.shape[1] * SMOOTH.shape[2]
    monkeypatch.setattr(memory, "available_memory", lambda: two_frames)
    monkeypatch.setattr(memory, "_UNCHECKED", 0)
    with pytest.raises(InputError, match="of memory are free"):
        read_video(str(path))


# The problem --------------------------------------------------------------------------------------


def test_points_are_frame_by_frame_and_row_by_row(folder):
    problem = lj.Video(source=str(folder))
    data = problem.load()
    assert (problem.in_dim, problem.out_dim, data.shape) == (3, 3, (4, 6, 5))
    for row, (t, i, j) in enumerate(np.ndindex(4, 6, 5)):
        centre = [-1 + (2 * t + 1) / 4, -1 + (2 * i + 1) / 6, -1 + (2 * j + 1) / 5]
        np.testing.assert_allclose(data.x[row], centre, atol=1e-6)
        np.testing.assert_allclose(data.y[row], 2 * LEVELS[t, i, j] - 1, atol=1e-6)


def test_frames_and_size_are_taken(folder):
    data = lj.Video(source=str(folder), frames=2, size=(3, 4)).load()
    assert data.shape == (2, 4, 3)
    assert len(data.y) == 24


def test_scores_agree_with_the_formula(folder, key):
    problem = lj.Video(source=str(folder))
    data = problem.load()
    perfect = problem.evaluate(lookup(LEVELS), data)  # but for rounding to float32
    assert min(perfect.values()) > 140
    wrong = LEVELS.copy()
    wrong[2] += 0.1
    scores = problem.evaluate(lookup(wrong), data)
    assert scores["psnr_worst"] == pytest.approx(20, abs=1e-4)
    assert scores["psnr"] == pytest.approx(20 + 10 * np.log10(4), abs=1e-4)
    loss = float(problem.loss(lookup(wrong), data, key)[0])
    assert problem.progress({"loss": loss})["psnr"] == pytest.approx(scores["psnr"], abs=1e-4)


def test_render_and_decode_write_what_can_be_read(folder, tmp_path):
    problem = lj.Video(source=str(folder))
    out = tmp_path / "run"
    out.mkdir()
    files = problem.render(lookup(LEVELS), problem.load(), out)
    assert {file.name for file in files} == {"reconstruction.gif", "frames.png"}
    found = read_video(str(out / "reconstruction.gif")).frames
    np.testing.assert_allclose(found, LEVELS, atol=1 / 255)
    assert min(read_picture(str(out / "frames.png")).pixels.shape[:2]) > 100
    path = problem.decode(lookup(LEVELS), (8, 10, 12), tmp_path / "fine.gif")
    fine = read_video(str(path))
    assert fine.frames.shape[1:3] == (12, 10)
    with pytest.raises(InputError, match="size: expected frames >= 2, a width and a height"):
        problem.decode(lookup(LEVELS), (4, 4), path)


def test_a_short_fit_gains_5_db():
    problem = lj.Video(frames=4, size=(16, 16))
    model = lj.Siren(in_dim=3, out_dim=1, width=24, depth=2, omega0=8.0)
    training = lj.Training(steps=80, learning_rate=3e-3)
    found = lj.solve(model, problem, training, score_every=2)
    assert found.scores["psnr"] > found.evaluations[0][1]["psnr"] + 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": 1}, "frames: expected an integer >= 2"),
        ({"size": (0, 3)}, "size: expected"),
        ({"size": 8}, "size: expected a tuple of 2"),
    ],
)
def test_impossible_fields_are_named(fields, message):
    with pytest.raises(InputError, match=message):
        lj.Video(**fields)
