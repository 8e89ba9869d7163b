"""The floor plan: imports only go down, and rooms on one floor do not import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "lrnn_jax"

# A room is a file or a folder of lrnn_jax/. Rooms of one floor are listed together.
FLOORS = (
    ("errors",),
    ("checks", "typing"),
    ("trees",),
    ("domains", "fields", "io", "kernels"),
    ("grids", "metrics", "models", "operators", "plot", "pointwise", "residuals"),
    ("diagnostics", "interop", "optimizers", "pde", "signals", "tabular"),
    ("inverse", "reports", "training"),
    ("experiments", "flax"),
    ("solving", "studies"),
    ("cli",),
    ("__main__",),
)
# Imported where it is used, because that takes 0.1 s or more and few need it.
LAZY = {
    "imagecodecs",
    "imageio",
    "matplotlib",
    "orbax.checkpoint",
    "PIL",
    "scipy",
    "skimage",
    "tifffile",
}
LAZY |= {"lrnn_jax.plot", "lrnn_jax.kernels.pallas", "lrnn_jax.experiments", "rich"}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


class _Runtime(ast.NodeTransformer):
    """Removes `if TYPE_CHECKING:` blocks, whose imports are annotations alone."""

    def visit_If(self, node):
        return None if getattr(node.test, "id", None) == "TYPE_CHECKING" else node


def imports(path: Path) -> list[str]:
    """Every module of lrnn_jax that a file imports, at the top or inside a function."""
    found = []
    for node in ast.walk(_Runtime().visit(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name for name in found if name.split(".")[0] == "lrnn_jax"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down(path):
    room = room_of(path)
    assert room in FLOOR_OF, f"{room} is on no floor: add it to the plan"
    for name in imports(path):
        parts = name.split(".")
        assert len(parts) > 1, f"{path} imports the package's top"
        if parts[1] != room:
            assert FLOOR_OF[parts[1]] < FLOOR_OF[room], f"{path} imports {name}"


def is_lazy(name: str) -> bool:
    return any(name == lazy or name.startswith(f"{lazy}.") for lazy in LAZY)


def modules_of(node: ast.AST) -> list[str]:
    """The modules that a statement imports; none if it is no import."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_stand_at_the_top_unless_they_are_lazy(path):
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            inner = [name for node in ast.walk(function) for name in modules_of(node)]
            assert all(map(is_lazy, inner)), f"{path}: {function.name} imports {inner}"
    if (
        room_of(path) not in ("plot", "experiments", "studies", "cli")
        and path.name != "mat_script.py"
    ):
        eager = [name for node in tree.body for name in modules_of(node) if is_lazy(name)]
        assert not eager, f"{path} imports {eager} at the top: import it where it is used"


def test_matplotlib_is_imported_by_plot_alone():
    users = {
        room_of(path)
        for path in FILES
        for node in ast.walk(_Runtime().visit(ast.parse(path.read_text())))
        if any(name.split(".")[0] == "matplotlib" for name in modules_of(node))
    }
    assert users == {"plot"}


def test_every_init_only_re_exports():
    for path in ROOT.rglob("__init__.py"):
        for node in ast.parse(path.read_text()).body:
            plain = isinstance(node, ast.Import | ast.ImportFrom | ast.Assign)
            plain |= (
                isinstance(node, ast.If) or getattr(node, "name", None) == "__getattr__"
            )  # loaded on use
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert plain or docstring, f"{path}: line {node.lineno} does more than re-export"
