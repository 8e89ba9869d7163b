"""Boxes and the points drawn from them."""

import jax
import numpy as np
import pytest
from scipy.stats import qmc

from lrnn_jax import InputError
from lrnn_jax.domains import Box, sample_box, sample_faces

BOX = Box((0, -1, 2), (1, 1, 5))


def test_a_boxes_numbers():
    assert (BOX.dim, BOX.volume, len(BOX.faces)) == (3, 6.0, 6)
    inside = BOX.contains(np.array([[0.5, 0, 3], [0, -1, 2], [1.1, 0, 3]]))
    assert inside.tolist() == [True, True, False]


@pytest.mark.parametrize("sampler", ["uniform", "latin_hypercube", "sobol"])
def test_points_fill_the_box(sampler, key):
    x = np.asarray(sample_box(BOX, key, 512, sampler))
    assert x.shape == (512, 3)
    assert BOX.contains(x).all()
    middle = (np.array(BOX.low) + np.array(BOX.high)) / 2
    np.testing.assert_allclose(x.mean(axis=0), middle, atol=0.2)


def test_a_latin_hypercube_has_one_point_in_each_slab(key):
    x = np.asarray(sample_box(Box((0, 0), (1, 1)), key, 100, "latin_hypercube"))
    for axis in (0, 1):
        assert sorted((x[:, axis] * 100).astype(int)) == list(range(100))
    assert abs(np.corrcoef(x.T)[0, 1]) < 0.4  # the two orders are drawn apart


def test_sobol_is_evener_than_chance_and_another_for_another_key():
    box = Box((0, 0), (1, 1))
    keys = jax.random.split(jax.random.key(0), 2)
    first, second = (np.asarray(sample_box(box, key, 256, "sobol")) for key in keys)
    chance = np.asarray(sample_box(box, jax.random.key(1), 256, "uniform"))
    assert qmc.discrepancy(first) < qmc.discrepancy(chance) / 10
    assert np.abs(first - second).min() > 0
    assert sample_box(box, jax.random.key(2), 100, "sobol").shape == (100, 2)


def test_faces_take_turns(key):
    x = np.asarray(sample_faces(BOX, key, 12, BOX.faces))
    ends = np.stack([np.array(BOX.low), np.array(BOX.high)])
    hits = (x[:, None, :] == ends[None]).sum(axis=0)  # (side, axis)
    assert hits.tolist() == [[2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("sampler", ["uniform", "latin_hypercube", "sobol"])
@pytest.mark.parametrize("dim", [2, 3])
def test_every_face_is_filled(sampler, dim, key):
    """Sobol's points must not be dealt to the faces in turn: each would fill half of its face."""
    box = Box((0,) * dim, (1,) * dim)
    x = np.asarray(sample_faces(box, key, 100 * 2 * dim, box.faces, sampler))
    for turn, (axis, side) in enumerate(box.faces):
        own = x[turn :: 2 * dim]
        assert (own[:, axis] == side).all()
        for other in set(range(dim)) - {axis}:
            assert np.histogram(own[:, other], 8, (0, 1))[0].min() > 0


def test_a_mesh_knows_open_ends():
    mesh = Box((0, 0), (1, 1)).mesh((4, 3), (False, True)).reshape(4, 3, 2)
    assert mesh[:, 0, 0].tolist() == [0, 0.25, 0.5, 0.75]
    assert mesh[0, :, 1].tolist() == [0, 0.5, 1]


def test_nonsense_is_refused(key):
    with pytest.raises(InputError, match="points: expected an integer >= 1, got 0"):
        sample_box(BOX, key, 0)
