"""The page of public names is what can be imported."""

import importlib
import importlib.util
import inspect
from pathlib import Path

import lrnn_jax

ROOT = Path(__file__).parents[1]


def generator():
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_lists_what_can_be_imported():
    """If this fails: python docs/api.py > docs/api.md"""
    assert (ROOT / "docs" / "api.md").read_text() == generator().page()


def test_every_package_of_the_root_is_on_the_page():
    packages = {name for name in lrnn_jax.__all__ if inspect.ismodule(getattr(lrnn_jax, name))}
    assert {f"lrnn_jax.{name}" for name in packages} <= set(generator().PACKAGES)


def test_a_name_stands_for_one_thing():
    """Two packages may export one object; no two objects have one name."""
    owners: dict[str, object] = {}
    for path in generator().PACKAGES:
        package = importlib.import_module(path)
        for name in package.__all__:
            thing = getattr(package, name)
            assert owners.setdefault(name, thing) is thing, f"{path}.{name} is another thing"
