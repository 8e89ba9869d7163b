"""Read a MATLAB file from standard input, in a process that may crash; see arrays.py.

    python mat_script.py LIMIT < FILE

LIMIT is the number of bytes of memory that the process may take, or "none". Standard output is a
line of JSON, {"error", "memory", "contents"}, followed by the only numeric three-axis array in .npy
format.
"""

import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import scipy.io

if sys.platform != "win32":
    import resource


def limit_memory(num_bytes: int) -> None:
    """Limit this process to `num_bytes` more address space."""
    status = Path("/proc/self/statm")
    if sys.platform != "win32" and status.exists():
        used = resource.getpagesize() * int(status.read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (used + num_bytes, used + num_bytes))


def main() -> None:
    """Read the file and write the result to standard output."""
    if sys.argv[1] != "none":
        limit_memory(int(sys.argv[1]))
    answer, array = {"error": "", "memory": False, "contents": ""}, None
    # SciPy warns and returns wrong numbers for the floating-point formats of a VAX and of a Cray.
    warnings.filterwarnings("error", "We do not support byte ordering")
    try:
        values = scipy.io.loadmat(io.BytesIO(sys.stdin.buffer.read()))
        values = {name: value for name, value in values.items() if not name.startswith("__")}
        volumes = [v for v in values.values() if np.ndim(v) == 3 and np.asarray(v).dtype != object]
        described = (f"{name[:40]} {np.shape(value)}" for name, value in values.items())
        answer["contents"] = ", ".join(described)[:120] or "nothing"
        if len(volumes) == 1:
            file = io.BytesIO()
            np.save(file, volumes[0], allow_pickle=False)
            array = file.getbuffer()
    except MemoryError:
        answer["memory"] = True
    except Exception as error:  # SciPy raises many types; treat all as a damaged file
        answer["error"] = (str(error).splitlines() or [type(error).__name__])[0][:100]
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    if array is not None:
        sys.stdout.buffer.write(array)


if __name__ == "__main__":
    main()
