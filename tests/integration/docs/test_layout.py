"""What keeps the tree easy to find one's way in: sizes of modules and folders, empty `__init__`."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

#: Most modules at the root of a folder, most and fewest lines of a module.
MAX_MODULES, MAX_LINES, MIN_LINES = 14, 300, 40
PACKAGES = ("kernels", "pipeline", "exporters", "benchmarks", "package")


def _modules(root: Path, *packages: str) -> list[Path]:
    return [path for package in packages for path in sorted((root / package).rglob("*.py"))]


def test_no_folder_of_the_pipeline_has_too_many_modules(root: Path) -> None:
    by_folder: dict[Path, int] = defaultdict(int)
    for path in _modules(root, "pipeline"):
        by_folder[path.parent] += path.name != "__init__.py"
    too_many = {str(f.relative_to(root)): n for f, n in by_folder.items() if n > MAX_MODULES}
    assert not too_many


def test_no_module_is_too_long(root: Path) -> None:
    lines = {path: len(path.read_text().splitlines()) for path in _modules(root, *PACKAGES)}
    assert not {str(p.relative_to(root)): n for p, n in lines.items() if n > MAX_LINES}


def test_packages_re_export_and_do_nothing_else(root: Path) -> None:
    for path in _modules(root, "kernels", "pipeline", "exporters"):
        if path.name != "__init__.py" or path.parts[-3:-1] == ("exporters", "families"):
            continue
        if path.parent.parent.name == "families":  # a family is an object
            continue
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body[1:]:
            names = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
            assert names or isinstance(node, ast.Import | ast.ImportFrom), (path, node.lineno)


def _imported(root: Path) -> dict[str, set[Path]]:
    """Return the modules that import each module, by its dotted name."""
    users: dict[str, set[Path]] = defaultdict(set)
    for path in _modules(root, *PACKAGES):
        package = ("sluice", *path.relative_to(root).parent.parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*base, *(node.module or "").split(".")]).rstrip(".")
                users[module].add(path)
                for alias in node.names:
                    users[f"{module}.{alias.name}"].add(path)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    users[alias.name].add(path)
    return users


def test_a_small_module_has_more_than_one_user(root: Path) -> None:
    users, text = _imported(root), (root / "pyproject.toml").read_text()
    lonely = []
    for path in _modules(root, "pipeline"):
        name = ".".join(("sluice", *path.relative_to(root).with_suffix("").parts))
        command = path.parent == root / "pipeline" / "cli" or f"{name}:" in text
        if path.name in ("__init__.py", "__main__.py", "api.py") or command:
            continue
        if len(path.read_text().splitlines()) < MIN_LINES and len(users[name]) < 2:
            lonely.append(str(path.relative_to(root)))
    assert not lonely


def test_the_import_contract_is_short_and_complete(root: Path) -> None:
    table = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]
    contracts = table["contracts"]
    assert len(contracts) <= 12
    (pipeline,) = (c for c in contracts if c.get("containers") == ["sluice.pipeline"])
    assert pipeline["exhaustive"]
    assert pipeline["exhaustive_ignores"] == ["api", "testing", "graphs"]
    ignored = {c["name"]: c["ignore_imports"] for c in contracts if "ignore_imports" in c}
    assert ignored == {"only transport imports zmq": ["sluice.pipeline.transport.* -> zmq"]}


@pytest.mark.parametrize("package", ["kernels", "pipeline", "exporters", "benchmarks"])
def test_no_module_imports_itself_through_its_package(root: Path, package: str) -> None:
    """A module takes a name from the module that defines it, never from its own `__init__`."""
    for path in _modules(root, package):
        if "families" in path.parts:  # a family's `__init__` holds the family
            continue
        own = ".".join(("sluice", *path.relative_to(root).parent.parts))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and path.name != "__init__.py":
                itself = (
                    node.module == own if not node.level else node.level == 1 and not node.module
                )
                modules = {p.stem for p in path.parent.iterdir()}
                assert not itself or {a.name for a in node.names} <= modules, (path, node.lineno)
