"""What `import lrnn_jax` loads."""

import subprocess
import sys


def test_the_import_loads_nothing_that_few_use():
    """Each of these takes 0.1 to 1 s; they are imported where they are used."""
    heavy = [
        "matplotlib",
        "skimage",
        "imageio",
        "PIL",
        "scipy.stats",
        "rich",
        "tifffile",
        "imagecodecs",
        "orbax",
    ]
    code = f"import sys, lrnn_jax; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_help_of_the_command_loads_no_orbax():
    code = (
        "import sys, atexit; from lrnn_jax.cli import main; "
        "atexit.register(lambda: print('orbax' in sys.modules)); main(['--help'])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("\nFalse\n")
