"""How deep an LRNN can be: the gradient's variance at the start, and what training makes of it.

    python benchmarks/depth.py

For each depth and omega0: the variance of the gradient with respect to the first layer's output,
over that at the head, and the least mean squared error of the last ten of 150 Adam steps at the
better of two learning rates. The picture is scikit-image's camera at 32 x 32; rank 24, 4
components.
"""

import itertools

import jax
import jax.numpy as jnp
import optax

import lrnn_jax as lj
from lrnn_jax.diagnostics import variance_by_layer

DEPTHS = (1, 2, 3, 4, 6)
FREQUENCIES = (30.0, 10.0, 3.0)
RATES = (1e-3, 3e-3)


def loss(u, data, key):
    """Mean squared error."""
    del key
    return jnp.mean((u(data[0]) - data[1]) ** 2)


def main() -> None:
    picture = lj.Image(source="camera", size=(32, 32)).load()
    data = jnp.asarray(picture.x), jnp.asarray(picture.y)
    print("| omega0 | depth | gradient at layer 0 / at the head | least loss, 150 steps |")
    print("|---|---|---|---|")
    for omega0, depth in itertools.product(FREQUENCIES, DEPTHS):
        model = lj.LRNN(in_dim=2, out_dim=1, depth=depth, rank=24, components=4, omega0=omega0)
        params = model.init(jax.random.key(0))
        gradient = variance_by_layer(model, params, data[0], jax.random.key(1)).gradient
        least = []
        for rate in RATES:
            adam = optax.adam(rate)
            losses = lj.fit(model, loss, data, adam, key=jax.random.key(0), steps=150)[1]
            least.append(float(losses[-10:].min()))
        print(f"| {omega0:g} | {depth} | {gradient[0] / gradient[-1]:.1e} | {min(least):.1e} |")


if __name__ == "__main__":
    main()
