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
    ]
    code = f"import sys, lrnn_jax; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
