"""Cost of Laplacians: all exact methods compared, and ours against the literal form's Hessian.

    python benchmarks/operators.py            # both stages, about ten minutes on two cores
    python benchmarks/operators.py headline   # one stage: headline or methods
    python benchmarks/operators.py table      # the rows as Markdown
    python benchmarks/operators.py --quick    # a short test run that writes nothing

Networks of about 19,000 parameters, 1,024 points in d dimensions, float32. "Laplacian" is the
Laplacian at all points, "gradient" the value and parameter gradient of mean (lap u + f)^2. Unless
stated otherwise, one program takes the full batch. Before any timing, values and gradients of all
methods are compared with the Hessian's in float64 at a few points.

The stage `methods` includes the forward Laplacian of folx (https://github.com/microsoft/folx) if it
is installed: pip install "lrnn-jax[peers]".

The stage `headline` compares training steps at d = 2: (a) the trace of the Hessian of the literal
form, full batch; (b) that of the lean form, at its fastest chunk; (c) the default method of
`laplacian`, in chunks of 256 points and of other sizes. A ratio is the median of the rounds'
ratios. Memory is XLA's temporary memory of the gradient's program; compile seconds are those of
tracing, lowering and compiling it.
"""

import argparse
import dataclasses
import functools
import importlib.util
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from common import FOLDER, Program, Results, Row

import lrnn_jax as lj
from lrnn_jax.operators import laplacian

RESULTS = Results(FOLDER / "operators.json")
POINTS = 1024
METHODS = ("hessian", "forward_over_reverse", "taylor", "forward")
DIMENSIONS = (1, 2, 3, 5, 10)
CHUNKS = (256, 64, 128, 512)  # of (c); the first one enters the ratios
HESSIAN_CHUNKS = (128, 512)  # of (b); fewer, as each takes long to compile
LEAST = {"a/c": 12.0, "b/c": 4.0}  # lower limits of the speed-up of (c)
MOST = {"memory": 1 / 15, "compile": 1 / 3}  # upper limits of the shares of (a)'s

_LRNN: dict[str, Any] = {"depth": 3, "rank": 32, "components": 4, "hidden": 8, "activation": "sin"}
NETWORKS: dict[str, Any] = {
    "LRNN": lj.LRNN(in_dim=2, out_dim=1, **_LRNN),
    "tanh MLP": lj.MLP(in_dim=2, out_dim=1, width=96, depth=3),
    "SIREN": lj.Siren(in_dim=2, out_dim=1, width=96, depth=3),
}


def main() -> None:
    parser = common.stage_parser(__doc__, ("all", "headline", "methods"), default="all")
    parser.add_argument("--quick", action="store_true", help="few points, nothing is written")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dimensions", type=int, nargs="+", default=list(DIMENSIONS))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    options = common.parse(parser, RESULTS, table)
    if options.quick:
        options.rounds, options.dimensions = 2, [2]
    points, depth = (32, {"depth": 1}) if options.quick else (POINTS, {})
    record: Callable[[Row], None] = print if options.quick else RESULTS.add
    # The first product of a process pays for what is initialised only once.
    jax.block_until_ready(jax.jit(jnp.dot)(jnp.ones((64, 64)), jnp.ones(64)))
    if options.stage in ("all", "headline"):
        chunks = CHUNKS[:1] if options.quick else CHUNKS
        model = dataclasses.replace(NETWORKS["LRNN"], **depth)
        row = headline(model, points, options.rounds, chunks)
        record({"stage": "headline", "name": "LRNN, d = 2"} | row)
    if options.stage in ("all", "methods"):
        compare_methods(options, points, depth, record)
    if not options.quick:
        print(table(RESULTS.read()))


def compare_methods(
    options: argparse.Namespace, points: int, fields: dict[str, Any], record: Callable[[Row], None]
) -> None:
    """Record a row for each network and number of dimensions."""
    methods = METHODS
    if importlib.util.find_spec("folx") is None:
        print('skipped: folx is not installed (pip install "lrnn-jax[peers]")', flush=True)
    else:
        methods += ("folx",)
    for name in options.networks:
        for d in options.dimensions:
            print(f"{name}, d = {d}: compiling", flush=True)
            model = dataclasses.replace(NETWORKS[name], in_dim=d, **fields)
            row = methods_row(model, methods, points, options.rounds)
            record({"stage": "methods", "name": f"{name}, d = {d}", "dimension": d} | row)


# Programs ----------------------------------------------------------------------------------------


def operator(method: str) -> Callable[[Any], Callable[[jax.Array], jax.Array]]:
    """u -> its Laplacian at many points; `method` is one of `laplacian`'s or "folx"."""
    if method != "folx":
        return lambda u: jax.vmap(laplacian(u, method=method))  # pyright: ignore[reportArgumentType]
    import folx  # pyright: ignore[reportMissingImports]

    # Not folx.LoopLaplacianOperator, which returns the second derivatives unsummed in 0.2.30.
    return lambda u: jax.vmap(lambda x: folx.forward_laplacian(u)(x).laplacian)


def residual_loss(method: str) -> Callable[[Any, tuple[jax.Array, jax.Array], Any], jax.Array]:
    """(u, (x, f), key) -> mean (lap u + f)^2; the key is not used."""
    apply = operator(method)
    return lambda u, data, _: jnp.mean((apply(u)(data[0]) + data[1]) ** 2)


def value_and_gradient(model: Any, method: str) -> Callable[[Any, Any], Any]:
    """(params, data) -> the residual loss and its parameter gradient."""
    loss = residual_loss(method)
    return jax.value_and_grad(lambda p, data: loss(functools.partial(model.apply, p), data, None))


def problem(d: int, points: int) -> tuple[jax.Array, jax.Array]:
    """Points in [-1, 1) and the right-hand side f = pi^2 d prod sin(pi x), float32."""
    x = np.random.default_rng(0).uniform(-1, 1, (points, d))
    f = d * np.pi**2 * np.sin(np.pi * x).prod(axis=1, keepdims=True)
    return jnp.asarray(x, jnp.float32), jnp.asarray(f, jnp.float32)


def require_equal(
    models: Sequence[Any], methods: Sequence[str], data: Any, tolerance: float = 1e-9
) -> float:
    """Compare losses and gradients with those of the first model and method, in float64.

    Returns the largest relative difference; the process exits if it is not below `tolerance`. The
    program is compiled without optimisation, as it is not timed.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    params = models[0].init(jax.random.key(0))
    with jax.enable_x64(True):
        inputs = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, data))
        functions = [value_and_gradient(*pair) for pair in zip(models, methods, strict=True)]
        evaluate = jax.jit(
            lambda params, data: [function(params, data) for function in functions],
            compiler_options=options if jax.default_backend() == "cpu" else None,
        )
        expected, *results = jax.device_get(evaluate(*inputs))
    return max(
        common.require_close(f"loss or gradient of '{method}'", value, reference, tolerance)
        for method, result in zip(methods[1:], results, strict=True)
        for value, reference in zip(result, expected, strict=True)
    )


# Rows --------------------------------------------------------------------------------------------


def methods_row(model: Any, methods: Sequence[str], points: int, rounds: int) -> Row:
    """All exact methods on the full batch. The Hessian is slow, so it is timed three times only."""
    x, f = data = problem(model.in_dim, points)
    params = model.init(jax.random.key(0))
    row: Row = {"points": points, "parameters": model.parameter_count}
    row["difference"] = require_equal([model] * len(methods), methods, (x[:4], f[:4]))
    values: dict[str, Program] = {}
    gradients: dict[str, Program] = {}
    for method in methods:
        apply = operator(method)
        values[method] = common.compiled(
            lambda p, x, apply=apply: apply(functools.partial(model.apply, p))(x), params, x
        )
        gradients[method] = common.compiled(value_and_gradient(model, method), params, data)
    row["laplacian_ms"] = common.milliseconds(values, rounds, slow=("hessian",))
    row["gradient_ms"] = common.milliseconds(gradients, rounds, slow=("hessian",))
    row["mb"] = common.rounded(gradients, "temp_mb")
    row["compile_seconds"] = common.rounded(gradients, "compile_seconds")
    row["fastest"] = min(methods, key=row["gradient_ms"].__getitem__)
    return row


def headline(lean: lj.LRNN, points: int, rounds: int, chunks: Sequence[int]) -> Row:
    """Training steps (a), (b) and (c) of the LRNN at d = 2."""
    print("headline: compiling", flush=True)
    literal = dataclasses.replace(lean, implementation="reference")
    x, f = data = problem(2, points)
    row: Row = {"points": points, "parameters": lean.parameter_count}
    methods = ("hessian", "hessian", "auto")
    row["difference"] = require_equal([literal, lean, lean], methods, (x[:4], f[:4]))
    hessian, auto = residual_loss("hessian"), residual_loss("auto")
    hessian_chunks = [chunk for chunk in chunks if chunk in HESSIAN_CHUNKS] or chunks
    a = {"a": common.training_step(literal, data, loss=hessian)}
    c = common.training_steps("c", lean, data, chunks, auto)
    b = common.training_steps("b", lean, data, hessian_chunks, hessian)
    programs = a | c | b
    times = common.timings(programs, rounds)
    ms = common.summary(times)
    best = {"b": min(b, key=ms.__getitem__), "c": f"c {chunks[0]}"}
    row |= {"ms": ms, "compared": best, "fastest": min(c, key=ms.__getitem__)}
    row |= {"least_ms": common.summary(times, min), "mb": common.rounded(programs, "temp_mb")}
    row["compile_seconds"] = common.rounded(programs, "compile_seconds")
    for kind, name in (("a", "a"), ("b", best["b"])):
        ratios = [t / c for t, c in zip(times[name], times[best["c"]], strict=True)]
        row[f"{kind}/c"] = round(statistics.median(ratios), 2)
    for kind in ("mb", "compile_seconds"):
        row[f"{kind}_share"] = round(row[kind][best["c"]] / row[kind]["a"], 4)
    return row


# Tables ------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """The tables of both stages for each machine."""
    parts: list[str] = []
    for machine, group in common.by_machine(rows).items():
        where = f"{machine}, jax {group[-1]['jax']}"
        lines = [_headline_line(row) for row in group if row["stage"] == "headline"]
        if lines:
            parts += [
                f"Training steps at d = 2, 1,024 points; {where}:",
                common.markdown(HEADLINE, lines),
            ]
        chosen = [row for row in group if row["stage"] == "methods"]
        lines = [_method_line(row, method) for row in chosen for method in row["gradient_ms"]]
        parts += [f"Methods, in ms, 1,024 points; {where}:", common.markdown(COMPARISON, lines)]
    return "\n\n".join(parts)


HEADLINE = "net | a ms | b ms | c ms | a/c | b/c | memory a, c | compile a, c"
COMPARISON = "net | method | Laplacian | gradient | memory | compile"


def _headline_line(row: Row) -> list[str]:
    b, c = row["compared"]["b"], row["compared"]["c"]
    ms, mb, seconds = row["ms"], row["mb"], row["compile_seconds"]
    return [
        row["name"],
        f"{ms['a']:.1f}",
        f"{ms[b]:.1f} ({b.split()[1]})",
        f"{ms[c]:.1f} ({c.split()[1]})",
        f"{row['a/c']:.1f} (>= {LEAST['a/c']:g})",
        f"{row['b/c']:.1f} (>= {LEAST['b/c']:g})",
        f"{mb['a']:.1f}, {mb[c]:.1f} MB: 1/{1 / row['mb_share']:.0f} "
        f"(<= 1/{1 / MOST['memory']:.0f})",
        f"{seconds['a']:.1f}, {seconds[c]:.1f} s: 1/{1 / row['compile_seconds_share']:.1f} "
        f"(<= 1/{1 / MOST['compile']:.0f})",
    ]


def _method_line(row: Row, method: str) -> list[str]:
    return [
        row["name"],
        method,
        f"{row['laplacian_ms'][method]:.1f}",
        f"{row['gradient_ms'][method]:.1f}",
        f"{row['mb'][method]:.1f} MB",
        f"{row['compile_seconds'][method]:.1f} s",
    ]


if __name__ == "__main__":
    main()
