"""The parallel-beam Radon transform of an image and its exact adjoint, in JAX.

The projection at angle a sums the columns of the image rotated by a about the pixel
(m // 2, m // 2). The image is interpolated linearly between pixels and is 0 outside:

    (R f)[a, s] = sum_t f(c + sin a (m/2 - s) + cos a (t - m/2), ...)

This is the convention of scikit-image's `radon(f, angles, circle=True)`, so `iradon` inverts it.
The adjoint gathers, for each pixel, the values of the at most three detectors that see it. The
transpose that JAX derives would use scatter, which takes thirty times as long on a CPU.

Axis letters: a angles, m pixels of a side and detectors.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from lrnn_jax.errors import InputError

__all__ = ["filtered_back_projection", "radon", "radon_adjoint", "require_angles", "view_angles"]

_FILTERS = ("ramp", "shepp-logan", "cosine", "hamming", "hann")
_REACH = 1.4143  # a pixel contributes to detectors and steps within sqrt(2) of its centre


def radon(image: Float[ArrayLike, "m m"], degrees: Float[ArrayLike, "a"]) -> Float[Array, "a m"]:
    """The sinogram of a square image: one row of m line integrals for each angle.

    The transform is linear in the image. It is differentiable in reverse mode, to any order.

    Args:
      image: pixel values; the unit of length is one pixel.
      degrees: angles in [0, 180]; the projection at 180 is the mirrored projection at 0.

    Raises:
      InputError: the image is not square, or an angle is out of range.
    """
    image, degrees = _floats(image), np.asarray(degrees, np.float64)
    if image.ndim != 2 or image.shape[0] != image.shape[1]:
        raise InputError(f"image: expected a square image (m, m), got {image.shape}")
    require_angles(degrees)
    return _forward(image, _turns(degrees, image.dtype))


def radon_adjoint(
    sinogram: Float[ArrayLike, "a m"], degrees: Float[ArrayLike, "a"]
) -> Float[Array, "m m"]:
    """The adjoint R' y of the Radon transform, defined by <R x, y> = <x, R' y>.

    Raises:
      InputError: the sinogram does not have one row for each angle, or an angle is out of range.
    """
    rows, degrees = _floats(sinogram), np.asarray(degrees, np.float64)
    _require_rows(rows, degrees)
    return _adjoint(rows, _turns(degrees, rows.dtype))


def filtered_back_projection(
    sinogram: Float[ArrayLike, "a m"], degrees: Float[ArrayLike, "a"], filter_name: str = "ramp"
) -> Float[np.ndarray, "m m"]:
    """Filtered back-projection by scikit-image's `iradon`, in float64.

    Args:
      sinogram: as returned by `radon`.
      degrees: angle of each row of the sinogram.
      filter_name: 'ramp', 'shepp-logan', 'cosine', 'hamming' or 'hann'.
    """
    rows, degrees = np.asarray(sinogram, np.float64), np.asarray(degrees, np.float64)
    _require_rows(rows, degrees)
    if filter_name not in _FILTERS:
        raise InputError(f"filter_name: expected one of {_FILTERS}, got {filter_name!r}")
    from skimage.transform import iradon

    return iradon(rows.T, degrees, filter_name=filter_name, circle=True)


def require_angles(degrees: Float[ArrayLike, "a"]) -> None:
    """Checks that there is at least one angle and that all angles lie in [0, 180].

    Raises:
      InputError: they do not; the message names the first invalid angle.
    """
    degrees = np.asarray(degrees, np.float64)
    if degrees.ndim != 1 or not len(degrees):
        raise InputError(f"angles: expected one or more, got shape {degrees.shape}")
    bad = ~((degrees >= 0) & (degrees <= 180))
    if bad.any():
        raise InputError(f"angles: expected degrees from 0 to 180, got {degrees[bad][0]}")


def _require_rows(rows: jax.Array | np.ndarray, degrees: np.ndarray) -> None:
    require_angles(degrees)
    if rows.ndim != 2 or rows.shape[0] != len(degrees):
        raise InputError(f"sinogram: expected {len(degrees)} rows (a, m), got {rows.shape}")


def view_angles(count: int, endpoint: bool = False) -> Float[np.ndarray, "a"]:
    """`count` equally spaced angles from 0 degrees; `endpoint` includes 180, which repeats 0."""
    if count < 1:
        raise InputError(f"views: expected an integer >= 1, got {count}")
    return np.linspace(0, 180, count, endpoint=endpoint)


def _floats(values: ArrayLike) -> jax.Array:
    """The values as floating-point numbers; integers become JAX's default float."""
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _turns(degrees: np.ndarray, dtype: jnp.dtype) -> Float[Array, "a 2"]:
    """(cos, sin) of each angle, computed in float64 and rounded to the dtype."""
    radians = np.deg2rad(degrees)
    return jnp.asarray(np.stack([np.cos(radians), np.sin(radians)], axis=-1), dtype)


def _offsets(side: int, dtype: jnp.dtype) -> Float[Array, "m"]:
    """Offsets of the pixels from the centre of rotation."""
    return jnp.arange(side, dtype=dtype) - side // 2


def _project(image: Float[Array, "m m"], turn: Float[Array, "2"]) -> Float[Array, "m"]:
    """Column sums of the image rotated by one angle."""
    side, (cos, sin) = image.shape[0], turn
    offset = _offsets(side, image.dtype)
    step, detector = offset[:, None], offset[None, :]
    row = side // 2 - sin * detector + cos * step
    column = side // 2 + cos * detector + sin * step
    return jnp.sum(_interpolate(jnp.pad(image, 1), row + 1, column + 1), axis=0)


def _interpolate(padded: jax.Array, row: jax.Array, column: jax.Array) -> jax.Array:
    """Bilinear interpolation of an image padded with zeros; 0 outside."""
    side = padded.shape[0]
    top = jnp.clip(jnp.floor(row), 0, side - 2)
    left = jnp.clip(jnp.floor(column), 0, side - 2)
    down, right = row - top, column - left
    corner = top.astype(jnp.int32) * side + left.astype(jnp.int32)

    def at(shift: int) -> jax.Array:
        return jnp.take(padded.ravel(), corner + shift)

    upper = (1 - right) * at(0) + right * at(1)
    lower = (1 - right) * at(side) + right * at(side + 1)
    inside = (down >= 0) & (down <= 1) & (right >= 0) & (right <= 1)
    return jnp.where(inside, (1 - down) * upper + down * lower, 0)


def _project_all(image: Float[Array, "m m"], turns: Float[Array, "a 2"]) -> Float[Array, "a m"]:
    """R, one angle at a time."""
    return lax.map(lambda turn: _project(image, turn), turns)


def _gather_all(rows: Float[Array, "a m"], turns: Float[Array, "a 2"]) -> Float[Array, "m m"]:
    """R', one angle at a time."""
    side = rows.shape[1]
    offset = _offsets(side, rows.dtype)

    def add(total: jax.Array, view: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        row, (cos, sin) = view
        detector = side // 2 + cos * offset[None, :] - sin * offset[:, None]
        step = side // 2 + sin * offset[None, :] + cos * offset[:, None]
        first, start = jnp.ceil(detector - _REACH), jnp.ceil(step - _REACH)
        for i in range(3):
            weight = sum(
                _weight(first + i - detector, start + j - step, start + j, (cos, sin), side)
                for j in range(3)
            )
            index = (first + i).astype(jnp.int32)
            seen = (index >= 0) & (index < side)
            value = jnp.take(row, jnp.clip(index, 0, side - 1))
            total += jnp.where(seen, weight * value, 0)
        return total, None

    return lax.scan(add, jnp.zeros((side, side), rows.dtype), (rows, turns))[0]


def _weight(
    across: jax.Array, along: jax.Array, step: jax.Array, turn: tuple, side: int
) -> jax.Array:
    """Bilinear weight of a pixel for a ray sample at this offset; 0 if there is no such sample."""
    cos, sin = turn
    row, column = cos * along - sin * across, cos * across + sin * along
    weight = jnp.maximum(0, 1 - jnp.abs(row)) * jnp.maximum(0, 1 - jnp.abs(column))
    return jnp.where((step >= 0) & (step < side), weight, 0)


_forward, _adjoint = jax.custom_vjp(_project_all), jax.custom_vjp(_gather_all)
_forward.defvjp(
    lambda image, turns: (_forward(image, turns), turns),
    lambda turns, rows: (_adjoint(rows, turns), jnp.zeros_like(turns)),
)
_adjoint.defvjp(
    lambda rows, turns: (_adjoint(rows, turns), turns),
    lambda turns, image: (_forward(image, turns), jnp.zeros_like(turns)),
)
