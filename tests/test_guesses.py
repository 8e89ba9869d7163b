"""What people type first: each guess works, or its error names the right call.

The list was written down before the package was tried with it.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lrnn_jax as lj

RNG = np.random.default_rng(0)
PIXELS = RNG.random((12, 10))


def mse(u, data, key):
    x, y = data
    return jnp.mean((u(x) - y) ** 2)


def namespace(folder):
    """The objects that the guesses use."""
    x = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]
    model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2)
    problem = lj.Image(PIXELS)
    result = lj.solve(model, problem, lj.Training(steps=5))
    return {
        **{"lj": lj, "np": np, "jax": jax, "jnp": jnp, "optax": optax, "Path": Path, "mse": mse},
        **{"x": x, "y": x**2, "key": jax.random.key(0), "model": model, "problem": problem},
        **{"line": lj.Siren(in_dim=1, out_dim=1, width=8, depth=2), "result": result},
        **{"params": result.params, "pixels": PIXELS, "folder": folder, "points": np.zeros((3, 2))},
        "waves": np.sin(np.arange(99.0)),
        "net": lj.NestNet(in_dim=1, out_dim=1, width=8, depth=2),
        "lrnn": lj.LRNN(in_dim=2, out_dim=1, rank=4, components=2),
    }


WORKS = [
    # models
    "model.init(key)",
    "model.init(jax.random.PRNGKey(0))",
    "model.apply(params, points)",
    "model.parameter_count",
    "lj.count_parameters(params)",
    "jax.grad(lambda z: model.apply(params, z)[0])(points[0])",
    "hash(model), model == model, repr(model)",
    # arrays as data
    "lj.Image(pixels).load()",
    "lj.Image(jnp.asarray(pixels)).load()",
    "lj.Image(source=pixels).load()",
    "lj.Image((255 * pixels).astype(np.uint8)).load()",
    "lj.Audio(waves, 8000).load()",
    "lj.Audio(waves, rate=8000).load()",
    "lj.Video(np.random.rand(3, 8, 8)).load()",
    "lj.Video(np.random.rand(3, 8, 8), fps=24).load()",
    "lj.Volume(np.random.rand(4, 5, 6)).load()",
    "lj.Occupancy(np.random.rand(4, 5, 6) > 0.5).load()",
    "lj.Occupancy(np.random.rand(4, 5, 6), threshold=0.3).load()",
    "lj.Regression(np.random.rand(30, 2), np.random.rand(30)).load()",
    "lj.Classification(np.random.rand(30, 2), np.arange(30) % 2).load()",
    "lj.inverse.Denoising(pixels).load()",
    "lj.inverse.CT(pixels, size=12).load()",
    # fitting
    "lj.fit(line, mse, (x, y), steps=3)",
    "lj.fit(line, mse, (x, y), 1e-3, steps=3)",
    "lj.fit(line, mse, (x, y), optax.adam(1e-3), steps=3)",
    "lj.fit(line, mse, (x, y), optimizer=optax.adam(1e-3), steps=3)",
    "lj.fit(line, mse, (x, y), steps=3, key=key)",
    "lj.fit(line, mse, (x, y), steps=3, key=0)",
    "lj.fit(line, mse, (x, y), steps=3, batch=8)",
    "lj.fit(line, mse, (x, y), steps=3, progress=True)",
    "lj.fit(line, mse, (x, y), steps=3, callback=lambda step, loss: None)",
    "lj.solve(model, problem, lj.Training(steps=3))",
    "lj.solve(model, problem, steps=3)",
    "lj.solve('siren', problem, steps=3)",
    "lj.solve(model, problem, steps=3, progress=True)",
    "lj.solve(model, problem, steps=3, callback=lambda step, metrics: None)",
    "lj.solve(model, problem, training=lj.Training(steps=3, learning_rate=1e-3))",
    # results
    "result.model, result.params, result.scores, result.losses, result.history",
    "result.field(points), result(points), result.predict(points)",
    "result.scores['psnr']",
    "result.warnings",
    "result.plot()",
    "result.render(folder / 'a')",
    "result.render(str(folder / 'b'))",
    "result.save(folder / 'a.safetensors')",
    "result.save(str(folder / 'b.safetensors'))",
    "result.compare(result)",
    "result.compare(result).save(folder / 'page.html')",
    "result._repr_html_()",
    "problem.evaluate(result.field)",
    "problem.render(result.field, folder=folder / 'c')",
    "problem.render(result.field, folder=str(folder / 'd'))",
    "problem.decode(result.field, path=str(folder / 'a.png'))",
    "problem.decode(result.field, (20, 24), folder / 'b.png')",
    "problem.decode(result.field, size=(20, 24), path=folder / 'c.tif')",
    # files
    "lj.save(folder / 'm', model, params)",
    "lj.load(lj.save(str(folder / 'n'), model, params))",
    "lj.__version__",
    # seeing
    "lj.plot.image(pixels)",
    "lj.plot.sound(waves, 8000)",
    "lj.plot.activations(lj.diagnostics.learned_activations(net, net.init(key)))",
    "lj.plot.spectrum(lj.diagnostics.neuron_spectrum(lrnn, lrnn.init(key), 0, 0))",
    "lj.plot.sections({'fit': problem.section(result.field)})",
    # by package
    "lj.metrics.psnr(pixels, pixels + 0.1)",
    "lj.pde.Poisson().load()",
    "from lrnn_jax.pde import dirichlet",
    "from lrnn_jax import Siren, LRNN, fit, solve",
    "lj.flax, lj.experiments, lj.diagnostics",
]
HINTS = {
    "lj.Siren(2, 1)": "its arguments are given by name: Siren(in_dim=..., out_dim=...)",
    "lj.Siren(in_features=2, out_features=1)": "did you mean 'in_dim'?",
    "lj.Siren(in_dim=2, out_dim=1, hidden_features=8)": "did you mean 'width'?",
    "lj.Siren(in_dim=2, out_dim=1, hidden_layers=2)": "did you mean 'depth'?",
    "lj.Siren(in_dim=2, out_dim=1, w0=30)": "did you mean 'omega0'?",
    "lj.LRNN(in_dim=2, out_dim=1, ranks=4)": "did you mean 'rank'?",
    "lj.Training(lr=1e-3)": "did you mean 'learning_rate'?",
    "lj.Training(epochs=3)": "did you mean 'steps'?",
    "lj.Training(batch_size=3)": "did you mean 'batch'?",
    "lj.Image(path='a.png')": "did you mean 'source'?",
    "lj.Poisson()": "did you mean 'lrnn_jax.pde.Poisson'?",
    "lj.siren": "did you mean 'lrnn_jax.Siren'?",
    "lj.Denoising(pixels)": "did you mean 'lrnn_jax.inverse.Denoising'?",
    "lj.fit(model, problem)": "a problem is fitted by lrnn_jax.solve(model, problem)",
    "lj.fit(line, (x, y), steps=3)": "loss: expected a function loss(u, data, key), got a tuple",
    "lj.fit(line, mse, x, y, steps=3)": "data of several arrays are one tuple (x, y)",
    "lj.fit(line, lambda p, t: 0.0, (x, y), steps=3)": "expected a function of (u, data, key)",
    "model.num_params": "did you mean 'parameter_count'?",
    "model.forward(params, points)": "did you mean 'apply'?",
    "problem.plot(result.field)": "did you mean 'render'?",
    "problem.data": "did you mean 'load'?",
    "lj.solve('sirens', problem)": "did you mean 'siren'?",
    "lj.Audio(waves).load()": "rate: an array needs the number of samples per second",
    "problem.decode(result.field, path='a.jpg')": "expected a name that ends in .png or .tif",
    "lj.load('nowhere.safetensors')": "No such file",
    "lj.load_run('nowhere')": "is not a run folder",
}


def outcomes(folder):
    """What each guess ends with: "" or the text of its error."""
    names, found = namespace(folder), {}
    for guess in (*WORKS, *HINTS):
        run = exec if guess.startswith("from") else eval
        try:
            run(guess, dict(names))
        except (lj.InputError, AttributeError) as error:
            found[guess] = str(error)
        except Exception as error:
            found[guess] = f"{type(error).__name__}, which has no hint: {error}"
        else:
            found[guess] = ""
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The outcomes in a process without the type checks of this suite, as users have them."""
    command = [sys.executable, __file__, str(tmp_path_factory.mktemp("guesses"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("guess", WORKS)
def test_a_guess_works(guess, found):
    assert found[guess] == ""


@pytest.mark.parametrize("guess", HINTS)
def test_a_guess_that_fails_names_the_right_call(guess, found):
    assert HINTS[guess] in found[guess]


def test_there_are_as_many_guesses_as_were_tried_at_first():
    assert len(WORKS) + len(HINTS) >= 66


if __name__ == "__main__":
    print(json.dumps(outcomes(Path(sys.argv[1]))))
