"""The oracle of every model of the zoo."""

from lrnn_jax import models
from oracles.kan import cheby_kan, kan
from oracles.lrnn import SIGMA, lrnn, lrnn_layer
from oracles.mfn import mfn
from oracles.mlp import ffn, finer, gauss, mlp, relu_pe
from oracles.nestnet import nested_activation, nestnet
from oracles.separable import cp_tensor, grid, spinn, tucker_tensor
from oracles.wire import wire

ORACLES = {
    models.LRNN: lrnn,
    models.LRNNLayer: lrnn_layer,
    models.NestNet: nestnet,
    models.NestedActivation: nested_activation,
    models.Siren: lambda model, params, x: mlp(
        params, x, SIGMA["sin"], model.omega0, model.first_omega0
    ),
    models.Spder: lambda model, params, x: mlp(params, x, SIGMA[model.activation], model.omega0),
    models.MLP: lambda model, params, x: mlp(params, x, SIGMA[model.activation]),
    models.Finer: finer,
    models.Gauss: gauss,
    models.ReluPE: relu_pe,
    models.FFN: ffn,
    models.Wire: wire,
    models.Wire2D: wire,
    models.FourierNet: mfn,
    models.GaborNet: mfn,
    models.KAN: kan,
    models.ChebyKAN: cheby_kan,
    models.Grid: grid,
    models.Spinn: lambda model, params, x: spinn(model, params, x, SIGMA[model.activation]),
    models.CPTensor: cp_tensor,
    models.TuckerTensor: tucker_tensor,
}


def oracle(model, params, x):
    """y(x) for points (n, in_dim) in float64, from the definition of the model."""
    return ORACLES[type(model)](model, params, x)
