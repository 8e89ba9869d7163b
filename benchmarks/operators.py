"""What Laplacians cost: every method side by side, and ours against the literal form's Hessian.

    python benchmarks/operators.py            # all of it, about ten minutes on two cores
    python benchmarks/operators.py headline   # or `methods`: one of the two
    python benchmarks/operators.py table      # the rows as Markdown
    python benchmarks/operators.py --quick    # a smoke run: small, nothing is written

Networks of about 19,000 parameters, 1,024 points in d dimensions, float32. "Laplacian" is that of
all points, "gradient" value and parameter gradient of mean (lap u + f)^2; the whole batch at once,
in one program, where nothing else is said. Before anything is timed the methods' values and
gradients are held to the Hessian's in float64 at a few points. The headline compares training
steps at d = 2: (a) the trace of the Hessian of the literal form, whole batch; (b) that of the lean
form in chunks, the fastest; (c) the default of `laplacian` in chunks of 256 points, beside which
stand smaller and larger ones. A ratio is the median of the rounds' ratios. Memory is XLA's
temporary memory of the gradient's program, compile seconds are of tracing, lowering and compiling
it. Rows are added to benchmarks/results/operators.json when they are done.
"""

import argparse
import dataclasses
import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from timing import (
    Program,
    Row,
    add_row,
    by_machine,
    compiled,
    markdown,
    milliseconds,
    timings,
)
from timing import read_rows as rows_of

import lrnn_jax as lj
from lrnn_jax.operators import Method, laplacian
from lrnn_jax.training import initial_state, make_step

RESULTS = Path(__file__).parent / "results" / "operators.json"
POINTS = 1024
METHODS: tuple[Method, ...] = ("hessian", "forward_over_reverse", "taylor", "forward")
DIMENSIONS = (1, 2, 3, 5, 10)
CHUNKS = (256, 64, 128, 512)  # of (c), the one that counts first
HESSIAN_CHUNKS = (128, 512)  # its best is among them, and each takes long to compile
LEAST = {"a/c": 12.0, "b/c": 4.0}  # how many times as fast (c) should be, at least
MOST = {"memory": 1 / 15, "compile": 1 / 3}  # of (a)'s, at most

_LRNN: dict[str, Any] = {"depth": 3, "rank": 32, "components": 4, "hidden": 8, "activation": "sin"}
NETWORKS: dict[str, Any] = {
    "LRNN": lj.LRNN(in_dim=2, out_dim=1, **_LRNN),
    "tanh MLP": lj.MLP(in_dim=2, out_dim=1, width=96, depth=3),
    "SIREN": lj.Siren(in_dim=2, out_dim=1, width=96, depth=3),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = ("all", "headline", "methods", "table")
    parser.add_argument("stage", nargs="?", default="all", choices=stages)
    parser.add_argument("--quick", action="store_true", help="few points, nothing is written")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dimensions", type=int, nargs="+", default=list(DIMENSIONS))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    if options.stage == "table":
        print(table(read_rows()))
        return 0
    if options.quick:
        options.rounds, options.dimensions = 2, [2]
    points, depth = (32, {"depth": 1}) if options.quick else (POINTS, {})
    keep: Callable[[Row], None] = print if options.quick else functools.partial(add_row, RESULTS)
    jax.block_until_ready(jax.jit(jnp.dot)(jnp.ones((64, 64)), jnp.ones(64)))  # what is paid once
    if options.stage in ("all", "headline"):
        chunks = CHUNKS[:1] if options.quick else CHUNKS
        model = dataclasses.replace(NETWORKS["LRNN"], **depth)
        row = headline(model, points, options.rounds, chunks)
        keep({"stage": "headline", "name": "LRNN, d = 2"} | row)
    if options.stage in ("all", "methods"):
        compare_methods(options, points, depth, keep)
    if not options.quick:
        print(table(read_rows()))
    return 0


def compare_methods(
    options: argparse.Namespace, points: int, fields: dict[str, Any], keep: Callable[[Row], None]
) -> None:
    """A row for each network and each d."""
    for name in options.networks:
        for d in options.dimensions:
            print(f"{name}, d = {d}: compiling", flush=True)
            model = dataclasses.replace(NETWORKS[name], in_dim=d, **fields)
            row = methods_row(model, points, options.rounds)
            keep({"stage": "methods", "name": f"{name}, d = {d}", "dimension": d} | row)


# Programs ----------------------------------------------------------------------------------------


def operator(model: Any, method: Method) -> Callable[[Any, jax.Array], jax.Array]:
    """(params, x) -> the Laplacian at all points."""

    def all_points(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(laplacian(functools.partial(model.apply, params), method=method))(x)

    return all_points


def loss_of(model: Any, method: Method) -> Callable[[Any, tuple[jax.Array, jax.Array]], jax.Array]:
    """(params, (x, f)) -> mean (lap u + f)^2."""
    apply = operator(model, method)
    return lambda params, data: jnp.mean((apply(params, data[0]) + data[1]) ** 2)


def problem(d: int, points: int) -> tuple[jax.Array, jax.Array]:
    """Points in [-1, 1) and the right-hand side pi^2 d prod sin(pi x), float32."""
    x = np.random.default_rng(0).uniform(-1, 1, (points, d))
    f = d * np.pi**2 * np.sin(np.pi * x).prod(axis=1, keepdims=True)
    return jnp.asarray(x, jnp.float32), jnp.asarray(f, jnp.float32)


def require_equal(
    models: Sequence[Any], methods: Sequence[Method], data: Any, tolerance: float = 1e-9
) -> float:
    """The largest relative difference from the first, of values and gradients in float64.

    It compiles without optimisation, as nothing of it is timed.
    """
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    params = models[0].init(jax.random.key(0))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, data))
        losses = [loss_of(*each) for each in zip(models, methods, strict=True)]
        every = jax.jit(
            lambda params, data: [jax.value_and_grad(loss)(params, data) for loss in losses],
            compiler_options=options if jax.default_backend() == "cpu" else None,
        )
        expected, *found = jax.device_get(every(*wide))
    worst = max((_relative(each, expected) for each in found), default=0.0)
    if not worst < tolerance:
        sys.exit(f"the methods' losses or gradients differ by {worst:.1e} of the largest")
    return worst


def _relative(found: Any, expected: Any) -> float:
    """The largest difference, in units of the largest entry, of the loss and of its gradient."""

    def largest(tree: Any) -> float:
        return max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(tree))

    def relative(found: Any, expected: Any) -> float:
        return largest(jax.tree.map(np.subtract, found, expected)) / largest(expected)

    return max(map(relative, found, expected))


# Rows --------------------------------------------------------------------------------------------


def methods_row(model: Any, points: int, rounds: int) -> Row:
    """Every exact method, on the whole batch; the Hessian is timed three times only."""
    x, f = data = problem(model.in_dim, points)
    params = model.init(jax.random.key(0))
    row: Row = {"points": points, "parameters": model.parameter_count}
    few = (x[:4], f[:4])
    row["difference"] = require_equal([model] * len(METHODS), METHODS, few)
    values: dict[str, Program] = {}
    gradients: dict[str, Program] = {}
    for method in METHODS:
        values[method] = compiled(operator(model, method), params, x)
        gradients[method] = compiled(jax.value_and_grad(loss_of(model, method)), params, data)
    for kind, programs in (("laplacian", values), ("gradient", gradients)):
        runs = {name: program.run for name, program in programs.items()}
        row[f"{kind}_ms"] = milliseconds(runs, rounds, slow=("hessian",))
    row["mb"] = {name: round(program.temp_mb, 2) for name, program in gradients.items()}
    row["compile_seconds"] = {n: round(p.compile_seconds, 2) for n, p in gradients.items()}
    row["fastest"] = min(METHODS, key=row["gradient_ms"].__getitem__)
    return row


def headline(lean: lj.LRNN, points: int, rounds: int, chunks: Sequence[int]) -> Row:
    """Training steps of the LRNN at d = 2; see the top."""
    print("headline: compiling", flush=True)
    literal = dataclasses.replace(lean, implementation="reference")
    x, f = data = problem(2, points)
    row: Row = {"points": points, "parameters": lean.parameter_count}
    same = [literal, lean, lean]
    row["difference"] = require_equal(same, ("hessian", "hessian", "auto"), (x[:4], f[:4]))
    programs = {"a": training_step(literal, "hessian", data, None)}
    ours = {f"c {chunk}": training_step(lean, "auto", data, chunk) for chunk in chunks}
    few = [chunk for chunk in chunks if chunk in HESSIAN_CHUNKS] or chunks
    theirs = {f"b {chunk}": training_step(lean, "hessian", data, chunk) for chunk in few}
    programs |= ours | theirs
    times = timings({name: program.run for name, program in programs.items()}, rounds)
    ms = {name: round(statistics.median(own), 3) for name, own in times.items()}
    best = {"b": min(theirs, key=ms.__getitem__), "c": f"c {chunks[0]}"}
    row |= {"ms": ms, "compared": best, "fastest": min(ours, key=ms.__getitem__)}
    row |= {"least_ms": {name: round(min(own), 3) for name, own in times.items()}}
    row |= {"mb": {name: round(program.temp_mb, 2) for name, program in programs.items()}}
    row |= {"compile_seconds": {n: round(p.compile_seconds, 2) for n, p in programs.items()}}
    for kind, name in (("a", "a"), ("b", best["b"])):
        ratios = [t / c for t, c in zip(times[name], times[best["c"]], strict=True)]
        row[f"{kind}/c"] = round(statistics.median(ratios), 2)
    for kind in ("mb", "compile_seconds"):
        row[f"{kind}_share"] = round(row[kind][best["c"]] / row[kind]["a"], 4)
    return row


def training_step(model: Any, method: Method, data: Any, chunk: int | None) -> Program:
    """Value and gradient of the residual's mean square and Adam, from the parameters of key 0."""

    def loss(field: Any, data: Any, key: jax.Array) -> jax.Array:
        del key
        x, f = data
        return jnp.mean((jax.vmap(laplacian(field, method=method))(x) + f) ** 2)

    optimizer, key = optax.adam(1e-3), jax.random.key(0)
    step = make_step(model, loss, optimizer, chunk=chunk)
    return compiled(step, initial_state(model.init(key), optimizer), data, key)


# Tables ------------------------------------------------------------------------------------------


def read_rows() -> list[Row]:
    """All rows so far."""
    return rows_of(RESULTS)


def table(rows: list[Row]) -> str:
    """Both tables of each machine."""
    parts: list[str] = []
    for machine, own in by_machine(rows).items():
        where = f"{machine}, jax {own[-1]['jax']}"
        lines = [_headline_line(row) for row in own if row["stage"] == "headline"]
        parts += [f"Training steps at d = 2, 1,024 points; {where}:", markdown(_HEADLINE, lines)]
        rows = [row for row in own if row["stage"] == "methods"]
        lines = [_line(row, method) for row in rows for method in METHODS]
        parts += [f"Methods, in ms, 1,024 points; {where}:", markdown(_METHODS, lines)]
    return "\n\n".join(parts)


_HEADLINE = ["net", "a ms", "b ms", "c ms", "a/c", "b/c", "memory a, c", "compile a, c"]
_METHODS = ["net", "method", "Laplacian", "gradient", "memory", "compile"]


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


def _line(row: Row, method: str) -> list[str]:
    return [
        row["name"],
        method,
        f"{row['laplacian_ms'][method]:.1f}",
        f"{row['gradient_ms'][method]:.1f}",
        f"{row['mb'][method]:.1f} MB",
        f"{row['compile_seconds'][method]:.1f} s",
    ]


if __name__ == "__main__":
    sys.exit(main())
