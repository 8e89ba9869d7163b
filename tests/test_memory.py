"""How much memory a reader may take: every limit that applies, read from the system's files."""

import subprocess
import sys

import pytest

from lrnn_jax import InputError
from lrnn_jax.io.memory import available_memory, require_memory

GIB = 2**30


@pytest.fixture
def system(tmp_path):
    """A root folder with /proc and /sys in it: 8 GiB are available, of no control group."""

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("proc/meminfo", f"MemTotal: {2**24} kB\nMemAvailable:   {8 * 2**20} kB\n")
    return tmp_path, write


def test_the_machine_alone(system):
    assert available_memory(system[0]) == 8 * GIB


def test_nothing_is_said_where_the_system_says_nothing(tmp_path):
    assert available_memory(tmp_path) is None


def test_version_2_takes_the_tightest_group_and_counts_reclaimable_pages(system):
    root, write = system
    write("proc/self/cgroup", "0::/outer/inner\n")
    write("sys/fs/cgroup/outer/inner/memory.max", "max\n")
    write("sys/fs/cgroup/outer/inner/memory.current", f"{GIB}\n")
    write("sys/fs/cgroup/outer/memory.max", f"{4 * GIB}\n")
    write("sys/fs/cgroup/outer/memory.current", f"{3 * GIB}\n")
    write("sys/fs/cgroup/outer/memory.stat", f"anon 5\ninactive_file {GIB // 2}\n")
    assert available_memory(root) == GIB + GIB // 2


def test_version_1(system):
    root, write = system
    write("proc/self/cgroup", "5:cpu:/job\n4:memory,hugetlb:/job\n")
    write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", f"{2 * GIB}\n")
    write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", f"{GIB}\n")
    assert available_memory(root) == GIB


def test_a_group_over_its_limit_leaves_nothing(system):
    root, write = system
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/memory.max", f"{GIB}\n")
    write("sys/fs/cgroup/memory.current", f"{2 * GIB}\n")
    assert available_memory(root) == 0


@pytest.mark.parametrize(("limit", "used"), [("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")])
def test_the_limits_of_the_process(limit, used):
    """In a child whose limit is 2 GiB above what it uses."""
    code = (
        "import resource, re, pathlib\n"
        "from lrnn_jax.io.memory import available_memory, require_memory\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        f"used = 1024 * int(re.search(r'{used}:\\s+(\\d+)', status)[1])\n"
        f"soft = used + 2 * {GIB}\n"
        f"resource.setrlimit(resource.{limit}, (soft, soft))\n"
        "print(available_memory())\n"
        "require_memory('file', 3 * 10**9)\n"
    )
    if (available_memory() or 0) < 4 * GIB:
        pytest.skip("needs Linux and 4 GiB of free memory")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "would take 3.0 GB and" in done.stderr
    assert abs(int(done.stdout) - 2 * GIB) < GIB // 8


def test_what_does_not_fit_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"^huge.png would take 1000000.0 GB and .* are free$"):
        require_memory("huge.png", 10**15)
    require_memory("small.png", 1000)
