"""How deep an LRNN can be: variance of the gradient at the start, and loss after training.

    python benchmarks/depth.py

For each depth and omega0: the variance of the gradient with respect to the first layer's output
divided by that at the head, and the least mean squared error of the last ten of 150 Adam steps, at
the better of two learning rates. The image is scikit-image's camera at 32 x 32; the LRNNs have rank
24 and 4 components.
"""

import itertools

import common
import jax
import jax.numpy as jnp
import optax

import lrnn_jax as lj
from lrnn_jax.diagnostics import variance_by_layer

DEPTHS = (1, 2, 3, 4, 6)
FREQUENCIES = (30.0, 10.0, 3.0)
RATES = (1e-3, 3e-3)


def main() -> None:
    image = lj.Image(source="camera", size=(32, 32)).load()
    data = jnp.asarray(image.x), jnp.asarray(image.y)
    lines = []
    for omega0, depth in itertools.product(FREQUENCIES, DEPTHS):
        model = lj.LRNN(in_dim=2, out_dim=1, depth=depth, rank=24, components=4, omega0=omega0)
        params = model.init(jax.random.key(0))
        gradient = variance_by_layer(model, params, data[0], jax.random.key(1)).gradient
        least = []
        for rate in RATES:
            loss, adam, key = common.squared_error, optax.adam(rate), jax.random.key(0)
            losses = lj.fit(model, loss, data, adam, key=key, steps=150)[1]
            least.append(float(losses[-10:].min()))
        ratio = gradient[0] / gradient[-1]
        lines.append([f"{omega0:g}", f"{depth}", f"{ratio:.1e}", f"{min(least):.1e}"])
    header = "omega0 | depth | gradient at layer 0 / at the head | least loss, 150 steps"
    print(common.markdown(header, lines))


if __name__ == "__main__":
    main()
