"""LRNN and SIREN in PyTorch, written plainly, for the stage `peers` of speed.py.

An LRNN here is one layer after the other: a Linear to rank x components numbers, component
functions by broadcasting, torch.prod, LayerNorm; then a linear head.

Axis letters: n points, i inputs, r rank, k components, h hidden units.
"""

from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from timing import threads

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
    """The same LRNN, with our parameters: activation 'sin', and the defaults."""
    widths = (model.in_dim, *model.ranks)
    layers = [ProductLayer(model, widths[n], widths[n + 1]) for n in range(model.depth)]
    for index, layer in enumerate(layers):
        own = params[f"layer_{index}"]
        _set(layer.projection.weight, own["projection"]["weight"], rows=True)
        _set(layer.projection.bias, own["projection"]["bias"], rows=True)
        _set(layer.a, own["component"]["inner_weight"])
        _set(layer.c, own["component"]["inner_bias"])
        _set(layer.v, own["component"]["outer_weight"])
        _set(layer.norm.weight, own["norm"]["scale"])
        _set(layer.norm.bias, own["norm"]["shift"])
    return torch.nn.Sequential(*layers, _linear(params["head"]))


def siren(model: lj.Siren, params: Any) -> torch.nn.Module:
    """The same SIREN, with our parameters."""
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
    """Our leaf with its axes reversed: (h, k, r) as (r, k, h); `rows`: (i, k, r) as (r k, i)."""
    values = np.asarray(leaf).T
    if rows:
        values = values.reshape(-1, *values.shape[2:])
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values.copy()))


class Peer:
    """A PyTorch module with its points, its optimiser and its loss.

    Args:
      model: LRNN or SIREN of this package.
      params: its parameters, which the module starts from.
      data: points and values.
      compiled: the loss goes through torch.compile, and so does its gradient; Adam is PyTorch's
        fused one either way.
    """

    def __init__(self, model: Any, params: Any, data: Any, compiled: bool) -> None:
        torch.set_num_threads(threads())
        self.device = device()
        own = siren(model, params) if isinstance(model, lj.Siren) else lrnn(model, params)
        self.module = own.to(self.device)
        self.x, self.y = (torch.tensor(np.asarray(leaf), device=self.device) for leaf in data)
        self.loss = torch.compile(self._loss) if compiled else self._loss
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3, fused=True)

    def _loss(self) -> torch.Tensor:
        return torch.mean((self.module(self.x) - self.y) ** 2)

    def values(self) -> np.ndarray:
        """The module's values at the points."""
        with torch.no_grad():
            return self.module(self.x).cpu().numpy()

    def run(self, count: int) -> None:
        """`count` steps: value, gradient and Adam."""
        for _ in range(count):
            self.optimizer.zero_grad()
            self.loss().backward()
            self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


def device() -> str:
    """The device of JAX's kind, by PyTorch's name."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def available() -> bool:
    """PyTorch can use that device."""
    return device() == "cpu" or torch.cuda.is_available()


def version() -> str:
    """That of PyTorch."""
    return torch.__version__
