"""Signals, inverse problems and tables on the command line: bad input is one line and code 2."""

import numpy as np
import pytest
import soundfile
import tifffile
import trimesh

from lrnn_jax.cli import main
from lrnn_jax.io import Clip, write_png, write_video

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def furniture(tmp_path_factory):
    """Files to name on the command line, none of them good."""
    folder = tmp_path_factory.mktemp("bad")
    soundfile.write(folder / "whole.wav", RNG.uniform(-1, 1, 500), 8000)
    content = (folder / "whole.wav").read_bytes()
    (folder / "cut.wav").write_bytes(content[:400])
    (folder / "nothing.wav").write_bytes(b"")
    soundfile.write(folder / "short.wav", np.zeros(0), 8000)
    soundfile.write(folder / "silent.wav", np.zeros(50), 8000)
    for name, value in (("black", 0.0), ("grey", 0.5)):
        write_png(folder / f"{name}.png", np.full((8, 8, 1), value))
    pixels = RNG.random((8, 8)).astype(np.float32)
    pixels[2, 3] = np.nan
    tifffile.imwrite(folder / "nan.tif", pixels)
    mesh = trimesh.creation.icosphere(1)
    mesh.update_faces(np.arange(len(mesh.faces)) > 0)
    mesh.export(folder / "open.stl")
    np.save(folder / "full.npy", np.ones((4, 4, 4)))
    (folder / "text.csv").write_text("age,weight\n3,4\nten,5\n")
    write_video(folder / "one.gif", Clip(RNG.random((1, 6, 6, 3)), 5.0))
    return folder


BAD = {
    "whole.wav lasts": "audio whole.wav --problem.seconds 9",
    "cut.wav is cut short": "audio cut.wav",
    "nothing.wav is empty": "audio nothing.wav",
    "short.wav has 0 samples": "audio short.wav",
    "silent.wav is silent": "audio silent.wav",
    "black.png has one value, 0": "ct black.png --problem.size 8",
    "grey.png has one value, 0.50": "ct grey.png --problem.size 8",
    "1 values that are not finite, the first at row 2, column 3": "image nan.tif",
    "open.stl is not watertight": "occupancy open.stl",
    "full.npy has voxels of one kind only": "occupancy full.npy",
    "line 3, column 'age': expected a finite number": "regression text.csv",
    "one.gif has one frame": "video one.gif",
    "problem.views: expected an integer >= 1": "ct phantom --problem.views 0",
    "problem.known: expected a number between": "inpainting camera --problem.known 2",
    "scale: 512 x 512 pixels are no multiple of 5": (
        "multi_frame_super_resolution camera --problem.scale 5"
    ),
    "batch: the loss of CT takes all its data": "ct phantom --training.batch 4",
    "needs a problem of squared residuals": "audio chord --training.optimizer levenberg_marquardt",
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    message, furniture, tmp_path, capsys, monkeypatch
):
    kind, source, *words = BAD[message].split()
    monkeypatch.chdir(tmp_path)
    path = furniture / source
    chosen = str(path) if path.exists() else source
    command = ["fit", "--problem.kind", kind, "--problem.source", chosen, *words]
    plain = [] if "--training.batch" in words else ["--training.batch", "none"]
    assert main([*command, *plain, "--training.steps", "2"]) == 2
    said = capsys.readouterr().err
    assert message.replace("whole.wav lasts", "whole.wav, which lasts") in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
