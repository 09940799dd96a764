"""Imports go in one direction, and heavy or chatty libraries stay where they belong: read from the sources."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "lightning_cv"

LEVELS = [
    {"__init__", "contracts", "errors", "interrupts", "replaced"},
    {"ops", "locks"},
    {"models", "metrics", "datasets", "viz", "transforms", "tracking", "schedules", "scalars"},
    {"tasks", "datamodules", "callbacks", "checkpoints"},
    {"tools"},
    {"cli"},
    {"sweeps"},
    {"__main__"},
]
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module an import statement of a file names, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(path: Path) -> list[str]:
    part = part_of(path)
    found = []
    for name in imports(path):
        root, *rest = name.split(".")
        if root == "lightning_cv" and rest:
            other = rest[0] if rest[0] in LEVEL_OF else "__init__"
            if other != part and LEVEL_OF[other] >= LEVEL_OF[part]:
                found.append(f"{part} must not import {name}")
        if name.startswith("lightning_cv.models") and part in ("tasks", "datamodules", "callbacks"):
            found.append(f"{part} must not know a net: {name}")
        if name.startswith("lightning_cv.tasks") and part in ("datamodules", "callbacks"):
            found.append(f"{part} must not know a task: {name}")
        if root == "wandb" and part not in ("tracking", "sweeps"):
            found.append("only tracking and sweeps may import wandb")
        if part == "ops" and root not in {"torch", "torchvision", "numpy", "lightning_cv", *sys.stdlib_module_names}:
            found.append(f"ops must not import {root}")
        if part == "models" and root in ("lightning", "wandb"):
            found.append(f"models must not import {root}")
    return found


def test_every_part_of_the_package_has_a_level() -> None:
    assert {part_of(path) for path in FILES} <= set(LEVEL_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_layers(path: Path) -> None:
    assert violations(path) == []


def test_the_check_sees_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "ops" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("import wandb\nfrom lightning_cv.tasks import Task\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert len(violations(bad)) == 3


@pytest.mark.parametrize("part", ["tasks", "datamodules", "callbacks"])
def test_the_check_sees_a_concrete_net(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / part / "bad.py"
    bad.parent.mkdir()
    bad.write_text("from lightning_cv.models import SSD\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert violations(bad) == [f"{part} must not know a net: lightning_cv.models.SSD"]


def test_no_file_is_long() -> None:
    long = [f"{p}: {n}" for p in FILES if (n := len(p.read_text().splitlines())) > 400]
    assert long == []


def test_the_command_line_is_light_until_a_verb_needs_more() -> None:
    """Help, version and list import neither torch nor Lightning."""
    code = (
        "import sys; from lightning_cv.cli import main; main(['--help']); main(['--version']); main(['list']);"
        "print([m for m in ('torch', 'lightning', 'wandb', 'albumentations', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
