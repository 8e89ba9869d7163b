"""Training steps compiled ahead of time for a TPU v5e: bytes, memory, FLOPs. No TPU is needed.

`python benchmarks/accelerators.py compile` runs this script in a process with the environment that
the compiler needs. The counts are XLA's for the compiled program:

  gigabytes           "bytes accessed" by all instructions. The body of a loop counts once; a copy
                      from the memory of the chip (HBM) to its vector memory (VMEM) ahead of its use
                      counts up to six times.
  without_copies      the same for a program compiled without such copies: closer to the traffic
                      between the memory and the chip.
  megabytes           temporary memory.
  gigaflops           floating-point operations; the body of a loop counts once.
  concatenates        instructions that concatenate arrays to one of at least 50 MB.
  collectives         instructions that communicate between chips.

A step is the value and gradient of a mean squared error and an Adam update in float32, of all
points at once unless the name says otherwise. A population of n members is one vmap of the step;
"n in m" is a loop over groups of m members, of which one is counted.
"""

import argparse
import functools
import importlib.metadata
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import common
import jax
import numpy as np
import operators
import optax
from accelerators import PAPER, POINTS, SIREN, WIDE
from common import FOLDER, Results, Row
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding
from zoo import nearest

import lrnn_jax as lj
from lrnn_jax.kernels.platform import traced_for
from lrnn_jax.training import initial_state, make_step
from lrnn_jax.training.points import PointSharding

LARGE = 50e6  # bytes of a concatenated array that is counted
WITHOUT_COPIES: dict[str, str | bool] = {
    "xla_vf_vmem_max_outstanding_prefetches": "0",
    "xla_vf_vmem_max_outstanding_evictions": "0",
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}


class Case(NamedTuple):
    """A function and the shapes of its arguments.

    Attributes:
      function: what is compiled.
      arguments: pytrees of arrays or `jax.ShapeDtypeStruct`s with their shardings.
      facts: fields of the row, such as the number of points.
      both: also compile it without copies ahead of use.
    """

    function: Callable
    arguments: tuple
    facts: Row
    both: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=FOLDER)
    parser.add_argument("--missing", action="store_true", help="only rows not yet in the results")
    parser.add_argument("--only", default="", help="rows whose part and name contain this text")
    options = parser.parse_args()
    results = Results(options.results / "tpu_v5e.json", identity=("part", "name"))
    target = results.path if common.RECORDING else common.LOCAL / results.path.name
    recorded = [(row["part"], row["name"]) for row in replace(results, path=target).read()]
    machine = f"TPU v5e, compiled by libtpu {importlib.metadata.version('libtpu')}"
    chips = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4").devices
    for part, cases in PARTS.items():
        for name, build in cases(chips):
            chosen = options.only in f"{part}: {name}"
            if not chosen or (options.missing and (part, name) in recorded):
                continue
            try:
                with traced_for("tpu"):
                    row = counts(build())
            except Exception as error:  # such as a program that does not fit into the memory
                row = {"error": common.describe(error)}
            results.add({"part": part, "name": name, **row, "machine": machine})


def counts(case: Case) -> Row:
    """Compile a case and count."""
    begun = time.perf_counter()
    lowered = jax.jit(case.function).lower(*case.arguments)
    program = lowered.compile()
    seconds = time.perf_counter() - begun
    cost, text = program.cost_analysis() or {}, program.as_text() or ""
    row = {
        **case.facts,
        "gigabytes": cost.get("bytes accessed", 0.0) / 1e9,
        "megabytes": common.temp_mb(program),
        "gigaflops": cost.get("flops", 0.0) / 1e9,
        "concatenates": large_concatenates(text),
        "collectives": collectives(text),
        "compile_seconds": seconds,
    }
    if case.both:
        plain = lowered.compile(compiler_options=WITHOUT_COPIES).cost_analysis() or {}
        row["without_copies"] = plain.get("bytes accessed", 0.0) / 1e9
    return row


def large_concatenates(text: str) -> int:
    """The number of concatenate instructions of a compiled program with a large result."""
    shapes = re.findall(r"= (\w+)\[([\d,]*)\]\S* concatenate\(", text)
    sizes = [BYTES.get(kind, 4) * math.prod(map(int, dims.split(","))) for kind, dims in shapes]
    return sum(size >= LARGE for size in sizes)


def collectives(text: str) -> str:
    """The collectives of a compiled program, such as "2 all-reduce"."""
    found = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return ", ".join(f"{count} {name}" for name, count in found.items() if count)


# Cases -------------------------------------------------------------------------------------------

Cases = Iterator[tuple[str, Callable[[], Case]]]


def step_case(
    model: Any,
    chips: Any,
    points: int = POINTS,
    *,
    loss: Callable = common.squared_error,
    both: bool = False,
    **options: Any,
) -> Case:
    """A training step on one chip; `options` of `make_step`."""
    return _case(model, loss, points, SingleDeviceSharding(chips[0]), None, both, **options)


def _case(
    model: Any,
    loss: Callable,
    points: int,
    everywhere: Sharding,
    by_point: Sharding | None,
    both: bool,
    **options: Any,
) -> Case:
    optimizer = optax.adam(1e-3)
    step = make_step(model, loss, optimizer, **options)
    state = jax.eval_shape(lambda: initial_state(model.init(jax.random.key(0)), optimizer))
    data = tuple(
        jax.ShapeDtypeStruct((points, d), np.float32) for d in (model.in_dim, model.out_dim)
    )
    key = jax.ShapeDtypeStruct((2,), np.uint32)

    def function(state: Any, data: Any, key: jax.Array) -> Any:
        return step(state, data, jax.random.wrap_key_data(key))

    arguments = (
        _placed(state, everywhere),
        _placed(data, by_point or everywhere),
        _placed(key, everywhere),
    )
    return Case(function, arguments, {"points": points}, both)


def _placed(tree: Any, sharding: Sharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def steps(chips: Any) -> Cases:
    """A step of 65,536 points of each network."""
    models = {
        "SIREN": SIREN,
        "SPDER": lj.Spder(in_dim=2, out_dim=1),
        "paper": PAPER,
        "paper, sin": replace(PAPER, activation="sin"),
        "paper, bfloat16": replace(PAPER, compute_dtype="bfloat16"),
        "paper, fused": replace(PAPER, implementation="pallas"),
        "paper, fused, bfloat16": replace(PAPER, implementation="pallas", compute_dtype="bfloat16"),
        "h8, fused": replace(WIDE, implementation="pallas"),
        "paper, literal form": replace(PAPER, implementation="reference"),
        "paper, rank 104": replace(PAPER, rank=104),
        "paper, rank 112": replace(PAPER, rank=112),
        "h8": WIDE,
        "NestNet, height 1 (ReLU)": lj.NestNet(in_dim=2, out_dim=3, height=1),
        "NestNet, height 2": lj.NestNet(in_dim=2, out_dim=3, height=2),
        "NestNet, height 3": lj.NestNet(in_dim=2, out_dim=3, height=3),
    }
    for name, model in models.items():
        both = "rank" not in name and "literal" not in name
        yield name, functools.partial(step_case, model, chips, both=both)


def chunks(chips: Any) -> Cases:
    """The paper's network in chunks of points."""
    for chunk in (32_768, 16_384, 4_096):
        yield f"paper, chunk {chunk}", functools.partial(step_case, PAPER, chips, chunk=chunk)


def population(chips: Any) -> Cases:
    """Many networks of about 5,000 parameters, 4,096 points."""
    model = nearest(lambda rank: lj.LRNN(in_dim=2, out_dim=1, rank=rank, components=4), 5000)
    yield "1 member", functools.partial(step_case, model, chips, 4096)
    for members in (8, 32, 128, 1024):
        yield f"{members} members", functools.partial(population_case, model, chips, members)
    for members, group in ((1024, 8), (1024, 32)):
        name = f"{members} members in {group}"
        yield name, functools.partial(population_case, model, chips, members, group)


def population_case(model: Any, chips: Any, members: int, group: int | None = None) -> Case:
    """A step of every member, under one vmap or in a loop over groups of members."""
    single = step_case(model, chips, 4096)
    state, data, key = single.arguments

    def stacked(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct((members, *leaf.shape), leaf.dtype, sharding=leaf.sharding)

    def function(states: Any, data: Any, key: jax.Array) -> Any:
        def one(state: Any) -> Any:
            return single.function(state, data, key)

        return jax.lax.map(one, states, batch_size=group) if group else jax.vmap(one)(states)

    facts = {"points": 4096, "members_counted": group or members}
    return Case(function, (jax.tree.map(stacked, state), data, key), facts)


def laplacian(chips: Any) -> Cases:
    """A step of the Poisson equation, 8,192 points: our Laplacian, the trace of the Hessian."""
    for dim in (2, 10):
        model = replace(PAPER, in_dim=dim, activation="sin", norm="none")
        for method in ("auto", "hessian"):
            build = functools.partial(
                step_case, model, chips, 8192, loss=operators.residual_loss(method)
            )
            yield f"d = {dim}, {method}", build


def devices(chips: Any) -> Cases:
    """The paper's network, 393,216 points on 8 chips."""
    mesh = Mesh(np.asarray(chips), ("points",))
    everywhere, by_point = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("points",)))
    for name, chunk in (("default chunk", 65_536), ("chunk 16384", 16_384)):
        yield (
            f"paper, 8 chips, {name}",
            functools.partial(
                _case,
                PAPER,
                common.squared_error,
                393_216,
                everywhere,
                by_point,
                False,
                chunk=chunk,
                sharding=PointSharding(mesh, ("points",), stored=True),
            ),
        )


PARTS: Mapping[str, Callable[[Any], Cases]] = {
    "steps": steps,
    "chunks": chunks,
    "population": population,
    "laplacian": laplacian,
    "devices": devices,
}


if __name__ == "__main__":
    main()
