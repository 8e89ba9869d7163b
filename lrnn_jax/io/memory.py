"""Limits on the memory of readers: those of the machine, the container and the process."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from lrnn_jax.errors import InputError

if sys.platform != "win32":
    import resource

_UNCHECKED = 1_000_000  # bytes; reading the files of the system takes longer than a small image


def require_memory(
    source: object,
    num_bytes: int,
    free_bytes: Callable[[], int | None] | None = None,
    advice: str = "",
) -> None:
    """Check that an allocation fits into the memory that is free.

    Call it before the allocation. Count everything that is alive at the peak: the decoder's
    buffer, copies, and the float64 array that the reader returns. Allocations below 1 MB are not
    checked.

    Args:
      source: the file, for the message.
      num_bytes: the peak, in bytes.
      free_bytes: returns how many bytes are free, or None if that is unknown; None uses
        `available_memory`.
      advice: what to change, appended to the message.

    Raises:
      InputError: `num_bytes` exceeds the free memory.
    """
    if num_bytes < _UNCHECKED:
        return
    free = available_memory() if free_bytes is None else free_bytes()
    if free is not None and num_bytes > free:
        raise InputError(
            f"{source} would take {num_bytes / 1e9:.1f} GB and {free / 1e9:.1f} GB of memory are "
            f"free{advice and '; '}{advice}"
        )


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process can still allocate.

    The minimum of: memory that is free or can be reclaimed without swapping, the room left in each
    control group (versions 1 and 2) that contains the process, and the room left under the
    resource limits RLIMIT_AS and RLIMIT_DATA.

    Args:
      root: where /proc and /sys are found; tests pass another folder.

    Returns:
      The number of bytes, >= 0; None where the system reports none of these.
    """
    rooms = [*_control_group_rooms(root), *_process_rooms(root)]
    machine = _field(root / "proc/meminfo", "MemAvailable")  # in kB
    if machine is not None:
        rooms.append(1024 * machine)
    return max(0, min(rooms)) if rooms else None


def _control_group_rooms(root: Path) -> Iterator[int]:
    """Yield limit - usage of the process's memory control group and of each group around it."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount = root / "sys/fs/cgroup"
            names = "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        folder = mount / group.lstrip("/")
        for level in (folder, *folder.parents):
            limit, used = (_number(level / name) for name in names[:2])
            if limit is not None and used is not None:
                # The kernel reclaims unused file pages before an allocation fails.
                yield limit - used + (_field(level / "memory.stat", names[2]) or 0)
            if level == mount:
                break


def _process_rooms(root: Path) -> Iterator[int]:
    if sys.platform == "win32":
        return
    for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            used = _field(root / "proc/self/status", name)  # in kB
            if used is not None:
                yield soft - 1024 * used


def _lines(path: Path) -> list[str]:
    """Return the lines of a system file; an empty list if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _field(path: Path, name: str) -> int | None:
    """The number of a line such as "MemAvailable:  123 kB" or "inactive_file 123"."""
    for line in _lines(path):
        if line.startswith(name):
            first, *rest = line.replace(":", " ").split()
            if first == name and rest and rest[0].isdigit():
                return int(rest[0])
    return None


def _number(path: Path) -> int | None:
    """Return the number in a system file; None for "max" and if there is no such file."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None
