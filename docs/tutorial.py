"""Write docs/tutorial.md: run the commands of a first session, and keep what they print and draw.

    python docs/tutorial.py    # about ten minutes on two cores

The pictures go to docs/images/. The files that the session fits are made here.
"""

import csv
import dataclasses
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

from lrnn_jax.io import Sound, level_set, write_mesh, write_png, write_wav

FOLDER = Path(__file__).parent
WIDTH = 1000  # pixels of the pictures of the page
HEAD = """# Tutorial

A first session of twenty commands, with what they print and draw, on two CPU cores
(`python docs/tutorial.py` writes this page and its files). It fits a photograph, a sound, a table,
a volume, a solid and an equation, compares models, and makes a few mistakes on the way. `photo.png`
has 240 x 160 pixels, `sound.wav` is a second of a chord, `iris.csv` a table with a column of text,
`volume.npy` a volume of 40 x 40 x 40 values, and `part.stl` a torus.
"""


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of the session.

    Attributes:
      title: a heading.
      text: what to look at.
      command: the words after `lrnn-jax`.
      picture: a pattern of the path of a picture that it draws, or "".
      code: the exit code.
    """

    title: str
    text: str
    command: str
    picture: str = ""
    code: int = 0


STEPS = (
    Step(
        "Check the installation",
        "Versions and devices, and whether this release of the compiler is right.",
        "doctor",
    ),
    Step(
        "Fit a photograph",
        "The file chooses the problem; model and settings come from the recipe.",
        "fit photo.png",
        "runs/image-siren/error.png",
    ),
    Step(
        "Fit another model",
        "An LRNN gets the settings that suit it, not those of the first model.",
        "fit photo.png --model.kind lrnn",
    ),
    Step(
        "Compare the two runs",
        "One page with scores, sizes, seconds, pictures and curves: `comparison.html`.",
        "compare runs/image-lrnn runs/image-siren",
    ),
    Step(
        "Compare models of equal size",
        "Each one by its recipe, with at most 5,000 parameters.",
        "compare --models siren finer relu_pe photo.png --budget 5000 --problem.size 120 80 "
        "--out small.html",
        "small.html",
    ),
    Step(
        "Enlarge the photograph",
        "A field has no pixels: decode it at any size.",
        "decode runs/image-siren --size 480 320 --out large.png",
        "large.png",
    ),
    Step(
        "Measure what lies between the pixels",
        "A tenth of the pixels is held out of training, and scored.",
        "fit photo.png --problem.hold_out 0.1 --out runs/held-out",
    ),
    Step(
        "A rate that is too large",
        "A fit that failed says so, and what to try.",
        "fit photo.png --model.kind siren --training.learning_rate 0.3 --training.steps 100 "
        "--out runs/failed",
    ),
    Step("A slip", "The right name is suggested.", "fit photo.png --steps 100", code=2),
    Step("More help", "The fields of one kind.", "fit --help problem.audio"),
    Step(
        "Go on with a run",
        "With more steps; an interrupted run continues in the same way.",
        "fit --resume runs/image-siren --training.steps 900",
    ),
    Step("Fit a sound", "", "fit sound.wav", "runs/audio-*/error.png"),
    Step(
        "Write it as FLAC",
        "The suffix names the format.",
        "decode runs/audio-finer --out sound.flac",
    ),
    Step(
        "Fit a table",
        "The last column is text, so this is a classification; training stops early.",
        "fit iris.csv",
        "runs/classification-*/confusion.png",
    ),
    Step("Fit a volume", "", "fit volume.npy", "runs/volume-*/slices.png"),
    Step("Fit a solid", "", "fit part.stl", "runs/occupancy-*/slices.png"),
    Step(
        "Remove noise",
        "Another problem for the same file; the score stands beside that of the noisy image.",
        "fit photo.png --problem.kind denoising --problem.photons 20",
        "runs/denoising-*/error.png",
    ),
    Step(
        "Reconstruct a slice from few views",
        "A sample instead of a file; a configuration that comes with the package.",
        "fit ct/phantom --problem.size 64",
        "runs/ct-*/error.png",
    ),
    Step(
        "Solve an equation",
        "In float64, by Levenberg-Marquardt.",
        "fit --problem.kind burgers",
        "runs/burgers-*/solution.png",
    ),
    Step("All recipes for images", "", "list image"),
)


def main() -> None:
    parts = [HEAD]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for number, step in enumerate(STEPS, start=1):
            print(number, step.command, flush=True)
            parts.append(section(number, step, folder))
    (FOLDER / "tutorial.md").write_text("\n".join(parts))


def make_files(folder: Path) -> None:
    """The data of the session."""
    from sklearn.datasets import load_iris

    cat = Image.fromarray(skimage.data.chelsea()).resize((240, 160))
    write_png(folder / "photo.png", np.asarray(cat) / 255)
    rate = 8000
    t = np.arange(rate) / rate
    tones = [np.sin(2 * np.pi * pitch * t) for pitch in (262, 330, 392)]
    chord = np.mean(tones, axis=0) * np.exp(-2 * t)
    write_wav(folder / "sound.wav", Sound(chord[:, None], rate, "PCM_16"))
    iris: Any = load_iris()
    with (folder / "iris.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(n.removesuffix(" (cm)") for n in iris.feature_names), "species"])
        rows = zip(iris.data.tolist(), iris.target, strict=True)
        writer.writerows([*row, iris.target_names[kind]] for row, kind in rows)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, 40),) * 3, indexing="ij")
    radius = np.hypot(x, y)
    np.save(folder / "volume.npy", 300 + 50 * np.cos(6 * radius) * np.exp(-2 * z**2))
    surface = level_set(0.3 - np.hypot(radius - 0.55, z), 0.0, -1.0)
    assert surface is not None
    write_mesh(folder / "part.stl", *surface)


def section(number: int, step: Step, folder: Path) -> str:
    """The part of the page about a command: text, command, output, picture."""
    command = [sys.executable, "-m", "lrnn_jax", *shlex.split(step.command)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != step.code:
        raise SystemExit(f"{step.command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    output = (done.stdout + done.stderr).strip()
    parts = [f"## {number}. {step.title}", "", *([step.text, ""] if step.text else [])]
    language = "sh" if step.code == 0 else "console"  # the tests take "sh" to be valid
    parts += [f"```{language}", f"lrnn-jax {step.command}", "```", "", "```text", output, "```", ""]
    if step.picture:
        path = FOLDER / "images" / f"tutorial-{number}.png"
        shrink(next(folder.glob(step.picture)), path)
        parts += [f"![{step.title}](images/{path.name})", ""]
    return "\n".join(parts)


def shrink(source: Path, target: Path) -> None:
    """Store a picture, or the photograph of a page, at most WIDTH pixels wide."""
    target.parent.mkdir(exist_ok=True)
    if source.suffix == ".html":
        source = photograph(source)
    image = Image.open(source).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH))
    image.quantize(128).save(target, optimize=True)


def photograph(page: Path) -> Path:
    """A page as Chromium shows it."""
    picture = page.with_suffix(".png")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1100,1220",
    ]
    command = ["chromium", *options, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)
    return picture


if __name__ == "__main__":
    main()
