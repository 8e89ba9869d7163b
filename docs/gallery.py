"""Write docs/gallery.md: fit every kind of problem briefly, and draw what came out.

    python docs/gallery.py             # about ten minutes on two cores
    python docs/gallery.py image ct    # these pictures again; the page needs all of them

Each picture has the truth, the fit and its absolute error, and what was given to the network if
that is not the truth. The pictures go to docs/images/, as WebP of about 10 kB; the results of the
fits go to docs/images/gallery.json, from which the page is written.
"""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
import trimesh
from matplotlib import pyplot as plt
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from PIL import Image
from tutorial import make_files

import lrnn_jax as lj
from lrnn_jax.plot.pixels import section_pixels

FOLDER = Path(__file__).parent
IMAGES = FOLDER / "images"
RESULTS = IMAGES / "gallery.json"
HEIGHT = 170  # pixels of a tile
HEAD = """# Gallery

Every kind of problem that the package has, fitted briefly on two CPU cores. The command below a
picture reproduces it; the files are those of the [tutorial](tutorial.md). From left to right:
what was given, if that is not the truth; the truth; the fit; its absolute error, from black
(zero) to yellow. `python docs/gallery.py` makes this page.

The fits are short and small on purpose. What a model reaches with care is in the [comparison of
all models](zoo.md), in [signals](signals.md) and in [differential equations](pde.md).
"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A fit of the gallery.

    Attributes:
      name: of the picture.
      title: what is fitted.
      text: one sentence about it.
      command: the words after `lrnn-jax`.
      draw: how to draw it: 'section', 'curve', 'mesh', or the name of a file that the run has.
      given: the file of the run with what was given, or "".
    """

    name: str
    title: str
    text: str
    command: str
    draw: str = "section"
    given: str = ""


SIGNALS = (
    Entry("image", "Image", "Colours as a function of the position.", "fit photo.png"),
    Entry(
        "audio",
        "Sound",
        "The amplitude as a function of time; 0.05 seconds of it.",
        "fit sound.wav",
        "curve",
    ),
    Entry(
        "video",
        "Video",
        "Colours as a function of time and position; the middle frame.",
        "fit video/pan --training.steps 300",
    ),
    Entry(
        "volume",
        "Volume",
        "A value as a function of three coordinates; the central slice.",
        "fit volume.npy",
    ),
    Entry(
        "field",
        "Sampled field",
        "Values at scattered points; the fit between them.",
        "fit --problem.kind field",
    ),
    Entry(
        "occupancy",
        "Solid",
        "Whether a point is inside; its surface as a mesh.",
        "fit part.stl",
        "mesh",
    ),
    Entry(
        "signed_distance",
        "Signed distance",
        "The distance to a surface; its zero set as a mesh.",
        "fit signed_distance/torus --training.steps 400",
        "mesh",
    ),
)
INVERSE = (
    Entry(
        "denoising",
        "Denoising",
        "Poisson noise of 30 photons at white, removed by a small network.",
        "fit denoising/camera --training.steps 200 --problem.size 128 128",
        given="given.png",
    ),
    Entry(
        "inpainting",
        "Inpainting",
        "The missing pixels between the known ones.",
        "fit inpainting/camera --training.steps 200 --problem.size 128 128",
        given="given.png",
    ),
    Entry(
        "super_resolution",
        "Super-resolution",
        "One small image, enlarged.",
        "fit super_resolution/camera --training.steps 300 --problem.size 128 128",
        given="given.png",
    ),
    Entry(
        "multi_frame_super_resolution",
        "Super-resolution from several frames",
        "Shifted small images of one scene.",
        "fit multi_frame_super_resolution/camera --training.steps 300 --problem.size 128 128",
        given="given.png",
    ),
    Entry(
        "ct",
        "Tomography",
        "A slice from 60 views; given is the filtered back-projection.",
        "fit ct/phantom --problem.size 96 --training.steps 300",
        given="back_projection.png",
    ),
)
TABLES = (
    Entry(
        "regression",
        "Regression",
        "A number for each row of a table.",
        "fit tabular/diabetes",
        "predictions.png",
    ),
    Entry(
        "classification",
        "Classification",
        "A class for each row of a table.",
        "fit iris.csv",
        "confusion.png",
    ),
)
EQUATIONS = (
    Entry(
        "burgers",
        "Burgers' equation",
        "A shock; time runs to the right.",
        "fit --problem.kind burgers",
    ),
    Entry(
        "convection",
        "Convection",
        "A wave that travels round a periodic domain many times.",
        "fit --problem.kind convection",
    ),
    Entry(
        "allen_cahn",
        "Allen-Cahn equation",
        "Sharp interfaces that grow out of a smooth state.",
        "fit --problem.kind allen_cahn",
    ),
    Entry(
        "helmholtz",
        "Helmholtz equation",
        "A standing wave in a square.",
        "fit --problem.kind helmholtz",
    ),
    Entry(
        "kdv",
        "Korteweg-de Vries equation",
        "A wave that breaks up into solitons.",
        "fit --problem.kind kdv",
    ),
    Entry(
        "kovasznay",
        "Navier-Stokes equations",
        "Kovasznay's flow behind a grid; the first component of the velocity.",
        "fit --problem.kind kovasznay",
    ),
)
SECTIONS = {
    "Signals": SIGNALS,
    "Inverse problems": INVERSE,
    "Tables": TABLES,
    "Differential equations": EQUATIONS,
}
SCORES = ("psnr", "snr", "iou", "accuracy", "rmse", "relative_l2")
UNITS = {
    "psnr": "PSNR {:.1f} dB",
    "snr": "SNR {:.1f} dB",
    "iou": "IoU {:.3f}",
    "accuracy": "accuracy {:.1%}",
    "rmse": "RMSE {:.3g}",
    "relative_l2": "relative L2 {:.1e}",
}


def main() -> None:
    entries = {entry.name: entry for entries in SECTIONS.values() for entry in entries}
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for wanted in sys.argv[1:] or entries:
            results[wanted] = fit(entries[wanted], folder)
            print(wanted, results[wanted], flush=True)
            known = {name: results[name] for name in entries if name in results}
            RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    (FOLDER / "gallery.md").write_text(page(results))


def fit(entry: Entry, folder: Path) -> dict[str, Any]:
    """Run the command, draw the picture, and return what the page says of the fit."""
    run = folder / entry.name
    words = [*shlex.split(entry.command), "--out", str(run)]
    command = [sys.executable, "-m", "lrnn_jax", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{entry.command}: {done.stdout}{done.stderr}")
    os.chdir(folder)  # the problem of the run names its file
    loaded = lj.load_run(run)
    with jax.enable_x64(loaded.training.precision == "float64"):
        picture = drawn(entry, loaded, run)
    picture.save(IMAGES / f"gallery-{entry.name}.webp", quality=82, method=6)
    summary = loaded.summary
    score = next(name for name in SCORES if name in summary["scores"])
    return {
        "model": type(loaded.model).__name__,
        "parameters": int(lj.count_parameters(loaded.params)),
        "score": UNITS[score].format(summary["scores"][score]),
        "steps": int(loaded.history["step"][-1]),
    }


def drawn(entry: Entry, run: Any, folder: Path) -> Image.Image:
    """The picture of an entry."""
    if entry.draw == "mesh":
        path = run.problem.decode(run.field, path=folder / "shown.ply")
        return mesh(trimesh.load(path))
    if entry.draw.endswith(".png"):
        image = Image.open(folder / entry.draw).convert("RGB")
        return image.resize((round(image.width * 320 / image.height), 320))
    section = run.problem.section(run.field)
    if entry.draw == "curve":
        return curve(section.truth, section.value)
    pixels = section_pixels({"fit": section})
    tiles = [] if pixels.truth is None else [pixels.truth]
    tiles += [pixels.values["fit"], *pixels.errors.values()]
    images = [Image.fromarray(tile) for tile in tiles]
    if entry.given:
        images.insert(0, Image.open(folder / entry.given).convert("RGB"))
    return row(images)


def row(images: list[Image.Image], gap: int = 6) -> Image.Image:
    """Images of one height side by side, with transparent gaps."""
    shown = [
        image.resize(
            (max(120, round(image.width * HEIGHT / image.height)), HEIGHT),
            Image.Resampling.BICUBIC if image.height > HEIGHT else Image.Resampling.NEAREST,
        )
        for image in images
    ]
    width = sum(image.width for image in shown) + gap * (len(shown) - 1)
    whole = Image.new("RGBA", (width, HEIGHT))
    left = 0
    for image in shown:
        whole.paste(image, (left, 0))
        left += image.width + gap
    return whole


def curve(truth: np.ndarray, value: np.ndarray) -> Image.Image:
    """Two curves without axes, in colours that suit a light and a dark page."""
    figure, axes = plt.subplots(figsize=(5.2, 1.7), dpi=200)
    axes.plot(truth, color="#8f98a3", lw=3.5)
    axes.plot(value, color="#d9822b", lw=1.2)
    axes.axis("off")
    return pixels_of(figure)


def mesh(surface: Any) -> Image.Image:
    """A shaded surface."""
    triangles = surface.vertices[surface.faces]
    light = np.clip(surface.face_normals @ np.array([0.35, -0.55, 0.76]), -0.3, 1)
    colors = mpl.colormaps["GnBu_r"](0.1 + 0.6 * (light + 0.3) / 1.3)
    figure = plt.figure(figsize=(2.6, 2.0), dpi=200)
    axes: Any = figure.add_axes((-0.3, -0.4, 1.6, 1.8), projection="3d", facecolor="none")
    faces = Poly3DCollection(triangles, facecolors=colors, edgecolors=colors, linewidths=0.2)
    axes.add_collection3d(faces)
    reach = np.abs(surface.vertices).max() * 1.05
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.view_init(elev=38, azim=-60)
    axes.axis("off")
    return pixels_of(figure)


def pixels_of(figure: Any) -> Image.Image:
    """A figure on a transparent ground."""
    figure.patch.set_alpha(0)
    figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba()).copy())
    plt.close(figure)
    return image.crop(image.getbbox())


def page(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for heading, entries in SECTIONS.items():
        parts += [f"## {heading}", ""]
        for entry in entries:
            found = results[entry.name]
            parts += [
                f"### {entry.title}",
                "",
                f"{entry.text} {found['model']}, {found['parameters']:,} parameters, "
                f"{found['steps']:,} steps: {found['score']}.",
                "",
                f"![{entry.title}](images/gallery-{entry.name}.webp)",
                "",
                "```sh",
                f"lrnn-jax {entry.command}",
                "```",
                "",
            ]
    return "\n".join(parts)


if __name__ == "__main__":
    mpl.use("agg")
    main()
