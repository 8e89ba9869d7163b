"""What the diagnostics say, against independent NumPy and against constructed cases."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.lrnn import SIGMA

from lrnn_jax import LRNN, Image, InputError, Siren, Training
from lrnn_jax.cli import main
from lrnn_jax.diagnostics import (
    collapsed,
    component_relevance,
    effective_rank,
    effective_rank_of,
    input_quantiles,
    layer_outputs,
    learned_activations,
    neuron_spectrum,
    report,
    variance_by_layer,
)
from lrnn_jax.experiments import Experiment, start
from lrnn_jax.io import read_picture, write_png
from lrnn_jax.kernels.initializers import Uniform
from lrnn_jax.models import FourierNet, NestNet, Wire

SMALL = {"in_dim": 2, "out_dim": 1}
NEST = NestNet(**SMALL, width=12, depth=3, frequencies=2)


@functools.cache
def points(n=300):
    return np.random.default_rng(7).uniform(-1, 1, (n, 2)).astype(np.float32)


@functools.cache
def drawn(model):
    """Parameters as the model's plan says, drawn without JAX: there is nothing to compile."""
    random = np.random.default_rng(3)

    def draw(leaf):
        if isinstance(leaf, Uniform):
            array = random.uniform(-leaf.limit, leaf.limit, leaf.shape)
        else:
            array = np.broadcast_to(leaf.value, leaf.shape)
        return array.astype(np.float32)

    return jax.tree.map(draw, model.plan())


def changed(tree, path, change):
    """A copy of a nested dict with one entry replaced by change(entry)."""
    first, *rest = path
    new = change(tree[first]) if not rest else changed(tree[first], rest, change)
    return tree | {first: new}


# LRNN: relevance ---------------------------------------------------------------------------------


def factors(model, p, x):
    """1 + gamma g of every component by loops, (n, k, r), in float64."""
    weight, bias = (np.asarray(p["projection"][name], float) for name in ("weight", "bias"))
    leaves = {name: np.asarray(leaf, float) for name, leaf in p["component"].items()}
    gamma = 1 / math.sqrt(weight.shape[1])
    found = np.empty((len(x), *weight.shape[1:]))
    for j, u in np.ndindex(weight.shape[1:]):
        z = np.asarray(x, float) @ weight[:, j, u] + bias[j, u]
        where = (j, u) if model.sharing == "flex" else (j,)
        a, c, v = (leaves[name] for name in ("inner_weight", "inner_bias", "outer_weight"))
        g = 0
        for h in range(model.hidden):
            argument = model.omega0 * (a[(h, *where)] * z + c[(h, *where)])
            g += v[(h, *where)] * SIGMA[model.activation](argument)
        found[:, j, u] = 1 + gamma * g
    return found


@pytest.mark.parametrize("sharing", ["flex", "shared"])
def test_relevance_is_the_share_of_the_factors_variance(sharing):
    model = LRNN(**SMALL, rank=(4, 3), components=3, hidden=2, sharing=sharing)
    params, x = drawn(model), points()
    found = component_relevance(model, params, x)
    inputs = x
    for index, share in enumerate(found):
        f = factors(model, params[f"layer_{index}"], inputs)
        np.testing.assert_allclose(share, f.var(axis=0) / f.var(axis=0).sum(axis=0), atol=2e-4)
        np.testing.assert_allclose(share.sum(axis=0), 1, rtol=1e-6)
        inputs = layer_outputs(model, params, x)[index + 1]


def test_a_component_that_is_switched_off_is_irrelevant_and_so_is_a_constant_neuron():
    model = LRNN(**SMALL, rank=3, components=2, outer_bias=True, depth=1)
    params = jax.tree.map(np.array, drawn(model))
    component = params["layer_0"]["component"]
    component["outer_weight"][:, 0, 1] = 0
    component["outer_weight"][:, :, 2] = 0
    component["outer_bias"][:] = 0.3
    share = component_relevance(model, params, points())[0]
    assert share[:, 1].tolist() == [0, 1]
    assert share[:, 2].tolist() == [0, 0]
    assert np.all(share[:, 0] > 0)


# LRNN: effective rank ----------------------------------------------------------------------------


def test_effective_rank_of_known_spectra():
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 6)))[0]
    q = np.linalg.qr(q - q.mean(axis=0))[0]
    assert effective_rank_of(q + 5) == pytest.approx(6, abs=1e-5)
    assert effective_rank_of(np.outer(q[:, 0], [1.0, -2, 3]) + 1) == 1
    assert effective_rank_of(np.full((50, 6), 0.1, np.float32)) == 0
    p = np.array([3, 1]) / 4
    two = q[:, :2] * [3, 1]
    assert effective_rank_of(two) == pytest.approx(np.exp(-np.sum(p * np.log(p))), abs=1e-5)
    turned = two @ np.linalg.qr(np.random.default_rng(1).normal(size=(2, 2)))[0]
    assert effective_rank_of(turned) == pytest.approx(effective_rank_of(two), abs=1e-5)


def test_effective_rank_of_an_lrnn():
    """Equal neurons fill one dimension; LayerNorm takes one away from different ones."""
    model = LRNN(**SMALL, rank=5, components=2)
    params = drawn(model)
    ranks = effective_rank(model, params, points())
    outputs = layer_outputs(model, params, points())
    assert len(ranks) == 2
    for rank, h in zip(ranks, outputs[1:], strict=False):
        h = np.asarray(h, float)
        s = np.sqrt(np.linalg.eigvalsh(np.cov(h.T))[1:])
        p = s / s.sum()
        assert rank == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-3)
        assert 1 < rank < 4
    plain = LRNN(**SMALL, rank=5, components=2, depth=1, norm="none")
    same = jax.tree.map(lambda leaf: leaf[..., :1].repeat(5, axis=-1), drawn(plain)["layer_0"])
    assert effective_rank(plain, drawn(plain) | {"layer_0": same}, points())[0] == 1


# LRNN: spectrum ----------------------------------------------------------------------------------


def sine_neuron(frequencies, amplitudes):
    """An LRNN whose one neuron is prod_j (1 + gamma A_j sin(2 pi f_j x_0)), and its parameters."""
    k, omega0 = len(frequencies), 5.0
    model = LRNN(
        **SMALL, depth=1, rank=1, components=k, activation="sin", omega0=omega0, norm="none"
    )
    weight = np.zeros((2, k, 1))
    weight[0, :, 0] = 2 * np.pi * np.array(frequencies) / omega0
    component = {
        "inner_weight": np.ones((1, k, 1)),
        "inner_bias": np.zeros((1, k, 1)),
        "outer_weight": np.array(amplitudes).reshape(1, k, 1),
    }
    own = {"projection": {"weight": weight, "bias": np.zeros((k, 1))}, "component": component}
    params = drawn(model) | {"layer_0": own}
    return model, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)


def peaks(spectrum, least=0.01):
    """{frequency: amplitude} of the local maxima."""
    a = spectrum.amplitudes
    top = [i for i in range(1, len(a) - 1) if a[i] > max(least, a[i - 1]) and a[i] >= a[i + 1]]
    return {round(float(spectrum.frequencies[i]), 3): float(a[i]) for i in top}


def test_one_sine_component_has_one_peak_at_its_fundamental():
    spectrum = neuron_spectrum(*sine_neuron([2.0], [0.6]), 0, 0)
    assert spectrum.fundamentals == pytest.approx(np.array([[2.0]]), rel=1e-6)
    assert peaks(spectrum) == {2.0: pytest.approx(0.6, rel=1e-4)}
    assert spectrum.amplitudes[0] == pytest.approx(1, rel=1e-4)
    along_the_other_axis = neuron_spectrum(*sine_neuron([2.0], [0.6]), 0, 0, direction=[0, 3])
    assert along_the_other_axis.fundamentals.item() == 0
    assert peaks(along_the_other_axis) == {}


def test_two_components_give_the_sum_and_the_difference_too():
    """Lemma 2: (1 + a sin)(1 + b sin) = 1 + a sin + b sin + ab/2 (cos of f1 - f2 and f1 + f2)."""
    spectrum = neuron_spectrum(*sine_neuron([2.0, 3.5], [0.6, 0.8]), 0, 0)
    a, b = 0.6 / math.sqrt(2), 0.8 / math.sqrt(2)
    wanted = {1.5: a * b / 2, 2.0: a, 3.5: b, 5.5: a * b / 2}
    assert peaks(spectrum) == pytest.approx(wanted, rel=1e-3)


def test_spectrum_of_a_deeper_and_shared_neuron_has_its_fundamentals():
    model = LRNN(**SMALL, rank=4, components=3, hidden=2, sharing="shared", omega0=7.0)
    params = drawn(model)
    d = np.array([0.0, 3.0, 0.0, 4.0])
    spectrum = neuron_spectrum(model, params, 1, 2, direction=d, length=8.0, samples=512)
    p = params["layer_1"]
    rate = (d / 5) @ p["projection"]["weight"][:, :, 2] * p["component"]["inner_weight"]
    np.testing.assert_allclose(spectrum.fundamentals, np.abs(7 * rate) / (2 * np.pi), rtol=1e-5)
    assert spectrum.frequencies[-1] == 32


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((2, 0), {}, "layer: expected 0 to 1, got 2"),
        ((0, 4), {}, "neuron: expected 0 to 3, got 4"),
        ((1, 0), {"direction": [1, 0]}, "direction: expected 4 finite numbers"),
        ((0, 0), {"direction": [0, 0]}, "not all 0"),
        ((0, 0), {"length": 0.0}, "expected length > 0 and samples >= 8"),
    ],
)
def test_a_line_that_cannot_be_drawn_is_refused(arguments, options, message):
    model = LRNN(**SMALL, rank=4, components=2)
    with pytest.raises(InputError, match=message):
        neuron_spectrum(model, drawn(model), *arguments, **options)


# NestNet: learned activations --------------------------------------------------------------------


def rho(nest, z):
    """A subnetwork by plain recursion, in float64; leaves without the axis g."""
    if not nest:
        return np.maximum(z, 0)
    level, *rest = nest
    units = rho(rest, np.multiply.outer(z, level["inner_weight"]) + level["inner_bias"])
    hidden = (
        (level["hidden_weight"], level["hidden_bias"]) if "hidden_weight" in level else ((),) * 2
    )
    for weight, bias in zip(*hidden, strict=True):
        units = rho(rest, units @ weight.T + bias)
    return units @ level["outer_weight"] + level["outer_bias"]


def oracle(params, where, group):
    nest = params["subnetwork"] if where == "network" else params[where]["subnetwork"]
    own = [
        {name: np.asarray(leaf[group], float) for name, leaf in nest[f"level_{i}"].items()}
        for i in range(1, len(nest) + 1)
    ]
    return lambda z: rho(own, z)


def test_the_prescribed_start_in_closed_form():
    found = learned_activations(NEST, drawn(NEST))
    assert [(r.where, r.group) for r in found] == [(f"layer_{i}", 0) for i in range(3)]
    for one in found:
        assert one.exact
        np.testing.assert_allclose(one.knots, [0, 0.1, 0.2], atol=1e-6)
        np.testing.assert_allclose(one.slopes, [0, -1, 0, 1], atol=1e-6)
        np.testing.assert_allclose(one.values, [0, -0.1, -0.1], atol=1e-6)


@pytest.mark.parametrize(
    "fields",
    [
        {"groups": 3},
        {"height": 3, "sharing": "net", "groups": 2},
        {"height": 4, "sub_width": 2, "fraction": 0.5},
    ],
)
def test_learned_activations_are_the_subnetworks(fields):
    model = NestNet(**SMALL, width=12, depth=2, frequencies=2, sub_init="random", **fields)
    params = drawn(model)
    found = learned_activations(model, params)
    sets = 1 if model.sharing == "net" else 2
    assert len(found) == sets * model.groups
    for one in found:
        true = oracle(params, one.where, one.group)
        np.testing.assert_allclose(one.values, true(one.knots), atol=1e-5)
        ends = [one.knots[0] - 2, *one.knots, one.knots[-1] + 2]
        for low, high, slope in zip(ends, ends[1:], one.slopes, strict=False):
            if high - low > 1e-2:  # float32 parameters: a slope between close knots is noise
                at = low + (high - low) * np.array([0.25, 0.75])
                assert np.diff(true(at)) / np.diff(at) == pytest.approx(slope, abs=1e-4)
        z = np.linspace(ends[0], ends[-1], 333).reshape(3, 111)
        np.testing.assert_allclose(one(z), true(z), atol=1e-5)


def test_coinciding_knots_are_one_and_cancelled_kinks_are_none():
    level = {
        "inner_weight": [[1.0, -2.0, 1.0, 1.0, 0.0]],
        "inner_bias": [[0.0, 0.0, -1.0, -1.0, 3.0]],
        "outer_weight": [[1.0, 1.0, 1.0, -1.0, 2.0]],
        "outer_bias": [0.5],
    }
    model = NestNet(**SMALL, width=4, depth=1, frequencies=1, sub_width=5)
    level = {name: np.array(leaf, np.float32) for name, leaf in level.items()}
    params = changed(drawn(model), ["layer_0", "subnetwork"], lambda _: {"level_1": level})
    (one,) = learned_activations(model, params)
    assert one.knots.tolist() == [0]
    assert one.slopes.tolist() == [-2, 1]
    assert one.values.tolist() == [6.5]
    flat = {name: 0 * leaf for name, leaf in level.items()} | {"outer_bias": level["outer_bias"]}
    params = changed(params, ["layer_0", "subnetwork"], lambda _: {"level_1": flat})
    (none,) = learned_activations(model, params)
    assert (len(none.knots), none.slopes.tolist(), none(3.0)) == (0, [0], 0.5)


def test_deeper_subnetworks_are_sampled_and_say_so():
    model = NestNet(**SMALL, width=4, depth=1, frequencies=1, sub_depth=2, sub_init="random")
    params = drawn(model)
    (one,) = learned_activations(model, params)
    assert not one.exact
    np.testing.assert_allclose(one.values, oracle(params, "layer_0", 0)(one.knots), atol=1e-5)
    assert len(one.slopes) == len(one.knots) + 1
    assert one(one.knots[:3]) == pytest.approx(one.values[:3])


def test_smooth_subnetworks_are_sampled_and_say_so(x64):
    """The prescribed start of tanh: tanh(z - 0.2) + tanh(z - 0.1) - tanh(z)."""
    model = NestNet(**SMALL, width=4, depth=1, frequencies=1, activation="tanh")
    (one,) = learned_activations(model, model.init(jax.random.key(0)))
    assert not one.exact
    z = one.knots
    expected = np.tanh(z - 0.2) + np.tanh(z - 0.1) - np.tanh(z)
    np.testing.assert_allclose(one.values, expected, atol=1e-12)


def test_a_report_of_smooth_subnetworks_has_no_knots(tmp_path):
    model = NestNet(**SMALL, width=4, depth=1, frequencies=1, activation="tanh")
    found = report(model, drawn(model), tmp_path)
    assert "knots" not in found
    assert "activations" not in found


def test_height_one_has_learned_no_activation():
    model = NestNet(**SMALL, width=4, depth=1, frequencies=1, height=1)
    assert learned_activations(model, drawn(model)) == []
    assert collapsed(model, drawn(model), points(), drawn(model)) == []


# NestNet: collapse -------------------------------------------------------------------------------


def with_rho(params, layer, weights, bias=0.0):
    """The subnetwork of a layer as weights . relu(z, -z, z - 0.05) + bias."""
    level = {
        "inner_weight": np.array([[1, -1, 1]], np.float32),
        "inner_bias": np.array([[0, 0, -0.05]], np.float32),
        "outer_weight": np.array([weights], np.float32),
        "outer_bias": np.array([bias], np.float32),
    }
    return changed(params, [f"layer_{layer}", "subnetwork"], lambda _: {"level_1": level})


def test_the_prescribed_start_is_healthy_and_equality_is_no_finding_there():
    for fields in ({"groups": 4}, {"height": 3, "weight_init": "he"}, {"sharing": "net"}):
        model = NestNet(**SMALL, width=64, depth=3, frequencies=5, **fields)
        params = drawn(model)
        assert collapsed(model, params, points(), params) == [], fields
        assert collapsed(model, params, points()) == [], fields


@pytest.mark.parametrize(
    "weights, bias, kind",
    [
        ([0.005, 0, 0], 0.0, "zero"),
        ([0, 0.005, 0], 0.7, "constant"),
        ([1.01, -1, 0], 0.0, "the identity"),
        ([1, -1, 0], 0.5, "linear"),
        ([-2, 2, 0], 0.0, "linear"),
        ([1, -0.7, 0], 0.0, None),
        ([0.1, 0, 0], 0.0, None),
    ],
)
def test_collapse_is_found(weights, bias, kind):
    found = collapsed(NEST, with_rho(drawn(NEST), 1, weights, bias), points())
    assert found == ([f"layer_1: the subnetwork is {kind} on its inputs"] if kind else [])


def test_a_subnetwork_that_bends_only_beyond_its_inputs_is_linear():
    moved = changed(drawn(NEST), ["layer_0", "bias"], lambda bias: bias + 5)
    assert collapsed(NEST, moved, points())[0].startswith("layer_0: the subnetwork is linear")
    assert collapsed(NEST, changed(moved, ["layer_0", "bias"], lambda b: b - 10), points())[0] == (
        "layer_0: the subnetwork is zero on its inputs"
    )


def test_subnetworks_that_have_become_equal_are_found_and_those_that_differ_are_not():
    initial = drawn(NEST)
    params = with_rho(with_rho(initial, 0, [1, 0.4, 0]), 2, [1, 0.403, 0])
    line = "layer_0, layer_2: these subnetworks have become equal to within 1 %"
    assert collapsed(NEST, params, points(), initial) == [line]
    assert collapsed(NEST, params, points()) == []
    assert collapsed(NEST, params, points(), params) == []
    assert collapsed(NEST, with_rho(params, 2, [1, 0.45, 0]), points(), initial) == []


def test_groups_are_named_and_counted():
    model = NestNet(**SMALL, width=12, depth=2, frequencies=2, groups=4, fraction=0.7)
    nest = jax.tree.map(np.array, drawn(model)["layer_1"]["subnetwork"])
    nest["level_1"]["outer_weight"][[1, 3]] = 0
    params = changed(drawn(model), ["layer_1", "subnetwork"], lambda _: nest)
    line = "layer_1: 2 of 4 subnetworks are zero on their inputs (1, 3)"
    assert collapsed(model, params, points()) == [line]


@pytest.mark.parametrize("sharing", ["layer", "net"])
def test_input_quantiles_are_those_of_the_neurons_that_a_subnetwork_has(sharing):
    model = NestNet(
        **SMALL, width=10, depth=2, frequencies=2, groups=3, fraction=0.8, sharing=sharing
    )
    params, x = drawn(model), points()
    met = input_quantiles(model, params, x)
    h = layer_outputs(model, params, x)
    z = [np.asarray(h[i + 1]) @ params[f"layer_{i}"]["weight"] for i in range(2)]
    z = [value + params[f"layer_{i}"]["bias"] for i, value in enumerate(z)]
    own = {0: [0, 1, 2], 1: [3, 4, 5], 2: [6, 7]}  # neuron j has number j 3 // 8
    for group, neurons in own.items():
        parts = [value[:, neurons] for value in z]
        wanted = {"network": np.concatenate(parts)} if sharing == "net" else dict(enumerate(parts))
        for where, values in wanted.items():
            found = met["network" if sharing == "net" else f"layer_{where}"][group]
            low, high = np.quantile(values, [0.01, 0.99])
            assert (found[0], found[-1]) == pytest.approx((low, high), abs=1e-4)


# Any network: variance by layer ------------------------------------------------------------------


@pytest.mark.usefixtures("x32")
def test_variance_by_layer_is_that_of_the_outputs_and_of_their_gradients():
    model = Siren(**SMALL, width=9, depth=2)
    params, x, key = drawn(model), points(), jax.random.key(5)
    found = variance_by_layer(model, params, x, key)
    c = np.asarray(jax.random.normal(jax.random.key(5), (len(x), 1)), float)
    h, slopes = [x.astype(float)], []
    for index in range(2):
        p = params[f"layer_{index}"]
        z = model.omega0 * (h[-1] @ p["weight"] + p["bias"])
        h.append(np.sin(z))
        slopes.append(model.omega0 * np.cos(z))
    h.append(h[-1] @ params["head"]["weight"] + params["head"]["bias"])
    second = c @ params["head"]["weight"].T
    first = (second * slopes[1]) @ params["layer_1"]["weight"].T
    wanted = (
        [a.var(axis=0).mean() for a in h[1:]],
        [g.var(axis=0).mean() for g in (first, second, c)],
    )
    np.testing.assert_allclose(found.output, wanted[0], rtol=1e-3)
    np.testing.assert_allclose(found.gradient, wanted[1], rtol=1e-3)


@pytest.mark.parametrize(
    "model", [Wire(**SMALL, width=5, depth=2), FourierNet(**SMALL, width=5, depth=2)]
)
def test_complex_states_and_states_of_several_arrays_have_a_variance(model):
    found = variance_by_layer(model, drawn(model), points(), jax.random.key(0))
    outputs = layer_outputs(model, drawn(model), points())
    for variance, state in zip(found.output, outputs[1:], strict=True):
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
        values = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
        spread = np.mean(np.abs(values - values.mean(axis=0)) ** 2)
        assert variance == pytest.approx(spread, rel=1e-4)
    assert np.all(found.gradient > 0)


def test_foreign_points_and_parameters_are_refused():
    model = LRNN(**SMALL, rank=4, components=2)
    with pytest.raises(InputError, match="x: expected shape"):
        component_relevance(model, drawn(model), np.zeros((5, 3)))
    with pytest.raises(InputError, match="belong to another model"):
        effective_rank(model, drawn(NEST), points())
    with pytest.raises(InputError, match="belong to another model"):
        learned_activations(NEST, drawn(model))


# The report of a run -----------------------------------------------------------------------------


def test_the_report_of_an_lrnn(tmp_path):
    model = LRNN(**SMALL, rank=4, components=3, depth=1)
    params = jax.tree.map(np.array, drawn(model))
    params["layer_0"]["component"]["outer_weight"][..., 1] = 0
    found = report(model, params, tmp_path)
    assert json.loads(json.dumps(found)) == found
    own = {"effective_rank", "relevance_top_share", "spectrum"}
    assert set(found) == {"warnings", "variance_by_layer"} | own
    assert found["spectrum"]["layer"] == 0
    assert len(found["spectrum"]["fundamentals"]) == 3
    assert 1 <= len(found["spectrum"]["peaks"]) <= 8
    assert set(found["variance_by_layer"]) == {"layers", "final"}
    assert found["variance_by_layer"]["layers"] == ["0", "head"]
    assert found["warnings"] == ["layer_0: 1 of 4 neurons are constant over the points"]
    assert 0.25 < found["relevance_top_share"][0] < 1
    assert min(read_picture(str(tmp_path / "diagnostics.png")).pixels.shape[:2]) > 500


@pytest.mark.parametrize(("omega0", "warned"), [(30.0, True), (10.0, False)])
def test_a_gradient_that_explodes_at_the_start_is_warned_of(tmp_path, omega0, warned):
    """Three product layers: at omega0 = 30 such a net does not learn, at 10 it does."""
    model = LRNN(**SMALL, rank=16, components=4, depth=3, omega0=omega0)
    found = report(model, drawn(model), tmp_path, initial=drawn(model))
    gradient = found["variance_by_layer"]["initial"]["gradient"]
    assert (gradient[0] > 1e3 * gradient[-1]) == warned
    said = [line for line in found["warnings"] if "at the start its gradient had" in line]
    assert len(said) == warned
    assert all(line.startswith("layer 0: ") for line in said)


@pytest.mark.usefixtures("x32")
def test_numbers_that_are_not_finite_are_none_and_the_picture_is_drawn(tmp_path):
    model = Siren(**SMALL, width=4, depth=1)
    params = changed(drawn(model), ["head", "weight"], lambda weight: weight * np.float32(1e38))
    found = report(model, changed(params, ["head", "bias"], lambda bias: bias), tmp_path)
    assert found["variance_by_layer"]["final"]["output"][-1] is None
    assert found["warnings"] == ["layer head: the variance of its output is inf"]
    assert json.dumps(found, allow_nan=False)
    assert (tmp_path / "diagnostics.png").is_file()


class Line:
    """A model that is no network of the zoo."""

    in_dim = out_dim = 1


def test_a_model_of_ones_own_gets_no_report(tmp_path):
    assert report(Line(), {}, tmp_path) == {"warnings": []}  # pyright: ignore
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("x32")
def test_a_run_reports_what_its_model_has_learned(tmp_path):
    ramp = np.linspace(0, 1, 10 * 12).reshape(10, 12, 1)
    write_png(tmp_path / "ramp.png", ramp)
    experiment = Experiment(
        model=NestNet(**SMALL, width=8, depth=3, frequencies=2),
        problem=Image(source=str(tmp_path / "ramp.png")),
        training=Training(steps=5, learning_rate=1e-2),
    )
    outcome = start(experiment, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    found = summary["diagnostics"]
    assert found == outcome.summary["diagnostics"]
    assert found["variance_by_layer"]["layers"] == ["features", "0", "1", "2", "head"]
    init_key = jax.random.split(jax.random.key(0))[0]
    initial = experiment.model.init(init_key)
    x = np.random.default_rng(0).uniform(-1, 1, (1024, 2)).astype(np.float32)
    start_variance = variance_by_layer(experiment.model, initial, x, jax.random.key(0))
    told = found["variance_by_layer"]["initial"]["output"]
    assert told == pytest.approx(start_variance.output, rel=1e-3)
    assert told[1:] != found["variance_by_layer"]["final"]["output"][1:]
    assert found["knots"] == [3, 3, 3]
    told = [(rho["where"], rho["group"], len(rho["slopes"])) for rho in found["activations"]]
    assert told == [(f"layer_{index}", 0, 4) for index in range(3)]
    assert min(read_picture(str(tmp_path / "run" / "diagnostics.png")).pixels.shape[:2]) > 300


def test_the_last_lines_of_a_fit_state_the_warnings(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "lrnn_jax.experiments.summary.diagnose",
        lambda *_: {"warnings": ["layer_0: one", "layer_1: two"]},
    )
    monkeypatch.setattr("lrnn_jax.experiments.summary.fit_warnings", lambda *_, **__: [])
    write_png(tmp_path / "ramp.png", np.linspace(0, 1, 100).reshape(10, 10, 1))
    words = f"fit image/siren --problem.source {tmp_path}/ramp.png --problem.size 8 8"
    words += f" --model.width 4 --training.steps 1 --out {tmp_path}/run"
    assert main(words.split()) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == ["warning   layer_0: one", "warning   layer_1: two"]
