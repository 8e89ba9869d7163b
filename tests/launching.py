"""Start a program of the tests as two processes of `jax.distributed`."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def run_two_processes(program: str, *arguments: object, cwd: Path) -> list[Ended]:
    """Run `python PROGRAM NUMBER PORT *arguments` with the numbers 0 and 1."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    file = Path(__file__).with_name(program)
    both = [
        subprocess.Popen(
            [sys.executable, str(file), str(number), str(port), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        for number in range(2)
    ]
    try:
        said = [process.communicate(timeout=300) for process in both]
    finally:
        for process in both:
            process.kill()  # one of them waits for long if the other has failed
    return [Ended(p.returncode, *texts) for p, texts in zip(both, said, strict=True)]
