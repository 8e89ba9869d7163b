"""Fields in other programs: StableHLO, ONNX, PyTorch's layouts, xarray, VTK."""

import base64
import subprocess
import sys
import types
from xml.etree import ElementTree

import jax
import numpy as np
import pytest
import safetensors.numpy
import xarray
from jax import export

import lrnn_jax as lj
from lrnn_jax import interop
from lrnn_jax.cli import main

PLANE = {"in_dim": 2, "out_dim": 2}
MODELS = {
    "lrnn": lj.LRNN(**PLANE, rank=6, components=3),
    "nestnet": lj.NestNet(**PLANE, width=6, height=3),
    "siren": lj.Siren(**PLANE, width=6, depth=2, omega0=4.0),
    "finer": lj.Finer(**PLANE, width=6, depth=2, omega0=4.0),
    "wire": lj.Wire(**PLANE, width=6, omega0=4.0),
    "gabor_net": lj.GaborNet(**PLANE, width=6),
    "kan": lj.KAN(**PLANE, width=4),
    "relu_pe": lj.ReluPE(**PLANE, width=6),
}
X = np.random.default_rng(0).uniform(-1, 1, (7, 2))


def field_of(model, dtype=np.float32, seed=0):
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: a.astype(dtype), model.init(jax.random.key(seed)))
    return lj.BoundModel(model, params)


# Programs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_a_program_takes_any_number_of_points(name, dtype):
    field = field_of(MODELS[name], dtype)
    expected = np.asarray(field(X.astype(dtype)))
    program = export.deserialize(bytearray(interop.to_stablehlo(field)))
    assert program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 7):
        x = X[:count].astype(dtype)
        with jax.enable_x64(dtype == np.float64):
            require_close(program.call(x), expected[:count], name)


def require_close(values, expected, name):
    # An LRNN amplifies the rounding of the arguments of its sines (docs/performance.md).
    single = 1e-4 if name == "lrnn" else 1e-5
    tolerance = single if expected.dtype == np.float32 else 1e-12
    assert values.dtype == expected.dtype
    np.testing.assert_allclose(values, expected, 0, tolerance * abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MODELS)
def test_an_onnx_model_takes_any_number_of_points(name, dtype):
    onnxruntime = pytest.importorskip("onnxruntime")
    field = field_of(MODELS[name], dtype)
    expected = np.asarray(field(X.astype(dtype)))
    session = onnxruntime.InferenceSession(interop.to_onnx(field))
    for count in (1, 7):
        (values,) = session.run(["u"], {"x": X[:count].astype(dtype)})
        require_close(values, expected[:count], name)


def test_what_the_converter_cannot_do_is_one_line(monkeypatch):
    def convert(*arguments, **options):
        raise AttributeError("module 'jax._src.core' has no attribute 'ClosedJaxpr'")

    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=convert))
    with pytest.raises(lj.InputError, match=r"jax2onnx cannot convert Siren with jax 0\.\S+: "):
        interop.to_onnx(field_of(MODELS["siren"]))


def test_a_program_needs_jax_alone(tmp_path):
    field = field_of(MODELS["lrnn"])
    (tmp_path / "u.stablehlo").write_bytes(interop.to_stablehlo(field, ["cpu"]))
    code = (
        "import sys, jax.export; import numpy as np\n"
        "program = jax.export.deserialize(bytearray(open('u.stablehlo', 'rb').read()))\n"
        "np.save('u.npy', program.call(np.full((3, 2), 0.5, np.float32)))\n"
        "assert not any(name.startswith('lrnn_jax') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    expected = field(np.full((3, 2), 0.5, np.float32))
    np.testing.assert_allclose(np.load(tmp_path / "u.npy"), expected, atol=1e-5)


def test_another_platform_is_refused():
    for platforms in (["metal"], []):
        with pytest.raises(lj.InputError, match=r"expected some of \['cpu', 'cuda', 'rocm', 'tpu'"):
            interop.to_stablehlo(field_of(MODELS["siren"]), platforms)


# PyTorch's layouts --------------------------------------------------------------------------------


def linear(state, name, h):
    return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def forward(state, sigma, x):
    """The forward pass of the authors' modules, with the names of their tensors."""
    h, depth = x, sum(name.endswith("linear.weight") for name in state)
    for index in range(depth):
        h = sigma(state, f"net.{index}", linear(state, f"net.{index}.linear", h), h)
    return linear(state, f"net.{depth}", h).real


def wavelet(state, name, z, h):
    square = abs(z) ** 2
    if f"{name}.scale_orth.weight" in state:
        square = square + abs(linear(state, f"{name}.scale_orth", h)) ** 2
    omega, scale = state[f"{name}.omega_0"], state[f"{name}.scale_0"]
    return np.exp(1j * omega * z - scale**2 * square)


THEIRS = {
    "siren": (MODELS["siren"], lambda _, name, z, h: np.sin(4 * z)),
    "finer": (MODELS["finer"], lambda _, name, z, h: np.sin(4 * (abs(z) + 1) * z)),
    "gauss": (lj.Gauss(**PLANE, width=6, scale=3.0), lambda _, name, z, h: np.exp(-((3 * z) ** 2))),
    "wire": (lj.Wire(**PLANE, width=6, omega0=4.0, first_omega0=5.0, sigma0=2.0), wavelet),
    "wire2d": (lj.Wire2D(**PLANE, width=6, omega0=4.0, sigma0=2.0), wavelet),
}
FIELDS = {"siren": {"omega0": 4.0}, "finer": {"omega0": 4.0}, "gauss": {"scale": 3.0}}


@pytest.mark.parametrize("name", THEIRS)
def test_a_state_dict_has_the_values_of_the_authors_module(name):
    model, sigma = THEIRS[name]
    field = field_of(model, np.float64)
    state = interop.to_torch(model, field.params)
    np.testing.assert_allclose(forward(state, sigma, X), field(X), rtol=1e-12, atol=1e-12)
    if "wire" in name:
        assert state["net.1.linear.weight"].dtype == np.complex128
    read, params = interop.from_torch(type(model), state, **FIELDS.get(name, {}))
    assert read == model
    jax.tree.map(np.testing.assert_array_equal, params, field.params)
    assert interop.to_torch(read, params).keys() == state.keys()


def test_a_kan_has_the_values_of_pykan():
    model = MODELS["kan"]
    field = field_of(model, np.float64)
    state = interop.to_torch(model, field.params)
    h = X
    for layer in ("act_fun.0", "act_fun.1"):
        grid, coef, base, spline = (
            state[f"{layer}.{name}"] for name in ("grid", "coef", "scale_base", "scale_sp")
        )
        order = 3
        basis = ((h[..., None] >= grid[:, :-1]) & (h[..., None] < grid[:, 1:])).astype(float)
        for p in range(1, order + 1):
            left = (h[..., None] - grid[:, : -(p + 1)]) / (grid[:, p:-1] - grid[:, : -(p + 1)])
            right = (grid[:, p + 1 :] - h[..., None]) / (grid[:, p + 1 :] - grid[:, 1:-p])
            basis = left * basis[..., :-1] + right * basis[..., 1:]
        silu = h / (1 + np.exp(-h))
        edges = base * silu[..., None] + spline * np.einsum("nim,iom->nio", basis, coef)
        h = (state[f"{layer}.mask"] * edges).sum(axis=1)
    np.testing.assert_allclose(h, field(X), rtol=1e-12, atol=1e-12)


def test_a_state_of_pykan_is_read_with_its_grid_and_its_mask():
    """Names and neutral values are those of `KAN(width=[2, 4, 2]).state_dict()`, pykan 0.2.8."""
    grid = tuple(np.linspace(-1, 2, 6).tolist())
    model = lj.KAN(**PLANE, width=4, knots=((grid,) * 2, (grid,) * 4))
    field = field_of(model)
    state = interop.to_torch(model, field.params)
    state["act_fun.1.mask"] = np.zeros_like(state["act_fun.1.mask"])
    for index, (inputs, outputs) in enumerate([(2, 4), (4, 2)]):
        state |= {
            f"node_bias_{index}": np.zeros(outputs),
            f"node_scale_{index}": np.ones(outputs),
            f"subnode_bias_{index}": np.zeros(outputs),
            f"subnode_scale_{index}": np.ones(outputs),
            f"symbolic_fun.{index}.mask": np.zeros((outputs, inputs)),
            f"symbolic_fun.{index}.affine": np.ones((outputs, inputs, 4)),
        }
    read, params = interop.from_torch(lj.KAN, state)
    assert read.knots is not None
    np.testing.assert_allclose(read.knots[0], model.knots[0], rtol=1e-6)
    assert (read.width, read.depth, read.intervals, read.order) == (4, 1, 5, 3)
    assert not lj.BoundModel(read, params)(X.astype(np.float32)).any()
    with pytest.raises(lj.InputError, match=r"the state has symbolic_fun.0.mask, which the model"):
        interop.from_torch(lj.KAN, state | {"symbolic_fun.0.mask": np.ones((4, 2))})
    with pytest.raises(lj.InputError, match="the state has node_scale_1, which the model does not"):
        interop.from_torch(lj.KAN, state | {"node_scale_1": np.full(2, 2.0)})


def test_tensors_are_read():
    class Tensor:
        """What `from_torch` uses of a torch.Tensor."""

        def __init__(self, array):
            self.array = array

        def detach(self):
            return self

        cpu = resolve_conj = detach

        def numpy(self):
            return self.array

    model, _ = THEIRS["siren"]
    state = interop.to_torch(model, field_of(model).params)
    tensors = {name: Tensor(array) for name, array in state.items()}
    read, params = interop.from_torch(lj.Siren, tensors, omega0=4.0)
    assert read == model
    assert params["head"]["weight"].dtype == np.float32


def test_another_state_is_refused_by_name():
    model, _ = THEIRS["siren"]
    state = interop.to_torch(model, field_of(model).params)
    cases = {
        r"the state has no net.0.linear.weight: it belongs to another module": {},
        r"the state has no net.1.linear.bias": {
            name: array for name, array in state.items() if name != "net.1.linear.bias"
        },
        r"the state has net.9.scale, which the model does not have": state
        | {"net.9.scale": np.ones(1)},
        r"expected hidden layers of one width, got \[6, 5\]": state
        | {"net.1.linear.weight": np.ones((5, 6))},
        r"layer_1/bias is float32\[5\], expected \[6\]": state
        | {"net.1.linear.bias": np.ones(5, np.float32)},
    }
    for message, wrong in cases.items():
        with pytest.raises(lj.InputError, match=message):
            interop.from_torch(lj.Siren, wrong)
    with pytest.raises(lj.InputError, match="LRNN has no layout of PyTorch: expected a Siren"):
        interop.to_torch(MODELS["lrnn"], field_of(MODELS["lrnn"]).params)
    wire, _ = THEIRS["wire"]
    state = interop.to_torch(wire, field_of(wire).params)
    with pytest.raises(lj.InputError, match=r"expected equal values in all layers.*\[2.0, 7.0,"):
        interop.from_torch(lj.Wire, state | {"net.1.scale_0": np.full(1, 7.0)})


# Grids --------------------------------------------------------------------------------------------

AXES = {"x": np.linspace(-1, 1, 5), "t": np.linspace(0, 2, 4)}


def wave(x):
    return np.stack([np.sin(x[..., 0] - x[..., 1]), x[..., 0]], axis=-1)


def read_vti(path):
    """Origin, spacing and arrays[x, y, z] of VTK image data."""
    image = ElementTree.parse(path).getroot()[0]
    words = image.attrib["WholeExtent"].split()
    shape = [int(last) + 1 for last in words[1::2]]
    arrays = {}
    for array in image.iter("DataArray"):
        content = base64.b64decode(array.text)
        assert int.from_bytes(content[:8], "little") == len(content) - 8
        arrays[array.attrib["Name"]] = np.frombuffer(content[8:]).reshape(shape, order="F")
    numbers = (np.array(image.attrib[name].split(), float) for name in ("Origin", "Spacing"))
    return (*numbers, arrays)


def test_values_on_a_grid_have_names_and_coordinates(tmp_path):
    dataset = interop.to_xarray(wave, AXES, ["u", "v"])
    assert dataset["u"].dims == ("x", "t")
    expected = np.sin(AXES["x"][:, None] - AXES["t"])
    np.testing.assert_array_equal(dataset["u"], expected)
    assert dataset["v"].sel(x=0.5, t=2.0) == 0.5
    origin, spacing, arrays = read_vti(
        interop.write_vti(tmp_path / "u.vti", wave, AXES, ["u", "v"])
    )
    np.testing.assert_allclose(origin, [-1, 0, 0])
    np.testing.assert_allclose(spacing[:2], [0.5, 2 / 3])
    np.testing.assert_array_equal(arrays["u"][:, :, 0], expected)


def test_another_grid_is_refused_and_nothing_is_written(tmp_path):
    cases = {
        "x is not equally spaced and rising": {"x": np.array([0, 1, 3.0]), "t": AXES["t"]},
        "VTK takes one to three": {name: np.arange(2.0) for name in "abcd"},
    }
    for message, axes in cases.items():
        with pytest.raises(lj.InputError, match=message):
            interop.write_vti(tmp_path / "u.vti", wave, axes, ["u", "v"])
    with pytest.raises(lj.InputError, match=r"components: expected 2 names.*got \['u'\]"):
        interop.to_xarray(wave, AXES)
    with pytest.raises(lj.InputError, match=r"axes: t has shape \(2, 2\), expected \(n,\)"):
        interop.to_xarray(wave, AXES | {"t": np.ones((2, 2))}, ["u", "v"])
    assert not list(tmp_path.iterdir())


# The command --------------------------------------------------------------------------------------


def test_the_command_exports_a_run(tmp_path, capsys):
    problem = lj.pde.Convection(beta=1.0, points=64)
    model = lj.Siren(in_dim=2, out_dim=1, width=8, depth=2)
    run = tmp_path / "run"
    experiment = lj.experiments.Experiment(
        model=model, problem=problem, training=lj.Training(steps=2)
    )
    lj.experiments.start(experiment, run)
    field = lj.load_run(run).field
    for to in ("stablehlo", "torch"):
        assert main(["export", str(run), "--to", to]) == 0
    x = X.astype(np.float32)
    program = export.deserialize(bytearray((run / "model.stablehlo").read_bytes()))
    np.testing.assert_allclose(program.call(x), field(x), atol=1e-5)
    state = safetensors.numpy.load_file(run / "model_torch.safetensors")
    np.testing.assert_array_equal(state["net.2.bias"], field.params["head"]["bias"])
    for name in ("u.nc", "u.vti"):
        out = tmp_path / name
        assert main(["decode", str(run), "--size", "6", "4", "--out", str(out)]) == 0
    with xarray.open_dataset(tmp_path / "u.nc") as dataset:
        u = dataset["u"].load()
    point = np.array([u.x[2], u.t[3]], np.float32)
    np.testing.assert_allclose(u[2, 3], field(point)[0], atol=1e-5)
    np.testing.assert_allclose(read_vti(tmp_path / "u.vti")[2]["u"][2, 3, 0], u[2, 3])
    capsys.readouterr()
    assert main(["export", str(tmp_path), "--to", "onnx"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    onnxruntime = pytest.importorskip("onnxruntime")
    assert main(["export", str(run), "--to", "onnx"]) == 0
    session = onnxruntime.InferenceSession(run / "model.onnx")
    np.testing.assert_allclose(session.run(None, {"x": x})[0], field(x), atol=1e-5)
