"""Straightforward PyTorch versions of LRNN and SIREN, for speed.py and accelerators.py.

A layer of an LRNN is a Linear to rank x components outputs, component functions by broadcasting,
torch.prod and LayerNorm; the head is linear.

Axis letters: n points, i inputs, r rank, k components, h hidden units.
"""

from typing import Any

import common
import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]

import lrnn_jax as lj


class ProductLayer(torch.nn.Module):
    """LayerNorm of prod_k (1 + gamma sum_h v_h sin(omega0 (a_h z_k + c_h)))."""

    def __init__(self, model: lj.LRNN, in_dim: int, rank: int) -> None:
        super().__init__()
        shape = (rank, model.components, model.hidden)
        self.projection = torch.nn.Linear(in_dim, rank * model.components)
        self.a = torch.nn.Parameter(torch.empty(shape))
        self.c = torch.nn.Parameter(torch.empty(shape))
        self.v = torch.nn.Parameter(torch.empty(shape))
        self.norm = torch.nn.LayerNorm(rank, eps=model.norm_epsilon)
        self.omega0, self.gamma = model.omega0, model.scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, i) -> (n, r)."""
        z = self.projection(x).unflatten(-1, self.a.shape[:2])
        units = torch.sin(self.omega0 * (self.a * z[..., None] + self.c))
        g = (self.v * units).sum(-1)
        return self.norm(torch.prod(1 + self.gamma * g, dim=-1))


class Sine(torch.nn.Module):
    """sin(omega0 x)."""

    def __init__(self, omega0: float) -> None:
        super().__init__()
        self.omega0 = omega0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Elementwise."""
        return torch.sin(self.omega0 * x)


def lrnn(model: lj.LRNN, params: Any) -> torch.nn.Module:
    """The LRNN with our parameters, for the activation 'sin' and default settings."""
    widths = (model.in_dim, *model.ranks)
    layers = [ProductLayer(model, widths[n], widths[n + 1]) for n in range(model.depth)]
    for index, layer in enumerate(layers):
        leaves = params[f"layer_{index}"]
        _set(layer.projection.weight, leaves["projection"]["weight"], rows=True)
        _set(layer.projection.bias, leaves["projection"]["bias"], rows=True)
        _set(layer.a, leaves["component"]["inner_weight"])
        _set(layer.c, leaves["component"]["inner_bias"])
        _set(layer.v, leaves["component"]["outer_weight"])
        _set(layer.norm.weight, leaves["norm"]["scale"])
        _set(layer.norm.bias, leaves["norm"]["shift"])
    return torch.nn.Sequential(*layers, _linear(params["head"]))


def siren(model: lj.Siren, params: Any) -> torch.nn.Module:
    """The SIREN with our parameters."""
    stack: list[torch.nn.Module] = []
    for index in range(model.depth):
        stack += [_linear(params[f"layer_{index}"]), Sine(model.omega0)]
    return torch.nn.Sequential(*stack, _linear(params["head"]))


def _linear(params: Any) -> torch.nn.Module:
    layer = torch.nn.Linear(*params["weight"].shape)
    _set(layer.weight, params["weight"])
    _set(layer.bias, params["bias"])
    return layer


def _set(parameter: torch.Tensor, leaf: Any, rows: bool = False) -> None:
    """Set to our leaf with reversed axes: (h, k, r) to (r, k, h); `rows`: (i, k, r) to (r k, i)."""
    values = np.asarray(leaf).T
    if rows:
        values = values.reshape(-1, *values.shape[2:])
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values.copy()))


class Peer:
    """A training step in PyTorch, with its fused Adam.

    Args:
      model: LRNN or SIREN of this package.
      params: the initial parameters.
      data: points and values.
      compiled: whether the loss, and with it the gradient, goes through torch.compile.
    """

    def __init__(self, model: Any, params: Any, data: Any, compiled: bool) -> None:
        torch.set_num_threads(common.threads())
        self.device = device()
        module = siren(model, params) if isinstance(model, lj.Siren) else lrnn(model, params)
        self.module = module.to(self.device)
        self.x, self.y = (torch.tensor(np.asarray(leaf), device=self.device) for leaf in data)
        self.loss = torch.compile(self._loss) if compiled else self._loss
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3, fused=True)

    def _loss(self) -> torch.Tensor:
        return torch.mean((self.module(self.x) - self.y) ** 2)

    def values(self) -> np.ndarray:
        """Values of the module at the points."""
        with torch.no_grad():
            return self.module(self.x).cpu().numpy()

    def run(self, count: int) -> None:
        """Take `count` steps: value, gradient and Adam update."""
        for _ in range(count):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


def device() -> str:
    """PyTorch's name of the kind of device that JAX uses."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def available() -> bool:
    """Whether PyTorch can use that device."""
    return device() == "cpu" or torch.cuda.is_available()


def version() -> str:
    """The version of PyTorch."""
    return torch.__version__
