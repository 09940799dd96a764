"""`lightning-cv data check`: finds what is wrong with the files of a data set."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for the others
    from lightning_cv.tools.data_check_findings import Case, Findings


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the arguments of `check`."""
    parser = verbs.add_parser(
        "check",
        help="find missing, damaged and contradicting files of a data set",
        description="Reads every picture, mask and annotation of a folder and prints what is wrong, a line a kind. "
        "Exit status: 0 nothing is wrong, 1 something is, 2 the folder cannot be checked.",
    )
    add_folder_arguments(parser)
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="processes that decode pictures (default: one a processor)"
    )


def add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `check` and `stats` share."""
    layouts = ("auto", "voc", "coco", "celeba", "mnist", "masks")
    parser.add_argument("root", metavar="ROOT", help="a folder that holds a data set, or one of several")
    parser.add_argument("--layout", choices=layouts, default="auto", help="of the folder (default: %(default)s)")
    parser.add_argument("--classes", metavar="A,B,...", help="class names (default: as the folder says, or VOC's 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def main(arguments: argparse.Namespace) -> int:
    """Checks a folder and prints the findings; the exit status."""
    from lightning_cv.tools.data_check_layout import find_layout
    from lightning_cv.tools.data_check_look import available_processors

    jobs = available_processors() if arguments.jobs is None else arguments.jobs
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    root = Path(arguments.root)
    layout = find_layout(root, arguments.layout)
    findings = check(root, layout, class_names(root, layout, arguments.classes), jobs)
    if arguments.json:
        print(json.dumps({"root": str(root), "layout": layout} | findings.summary(), indent=1))
    else:
        _print(findings, layout)
    return 1 if findings.problems else 0


def check(root: Path, layout: str, classes: Sequence[str], jobs: int = 1) -> "Findings":
    """Everything that is wrong with a folder of a layout.

    Args:
        root: the folder.
        layout: "voc", "coco", "celeba", "mnist" or "masks".
        classes: names that are allowed; where there are none, any (of VOC folders: none).
        jobs: processes that decode pictures.
    """
    from lightning_cv.tools import (
        data_check_celeba,
        data_check_coco,
        data_check_masks,
        data_check_mnist,
        data_check_voc,
    )
    from lightning_cv.tools.data_check_findings import Findings

    findings = Findings(root)
    if layout == "voc":
        data_check_voc.check_voc(root, classes, findings, jobs)
    elif layout == "coco":
        data_check_coco.check_coco(root, classes, findings, jobs)
    elif layout == "celeba":
        data_check_celeba.check_celeba(root, findings, jobs)
    elif layout == "mnist":
        data_check_mnist.check_mnist(root, findings)
    else:
        data_check_masks.check_masks(root, classes, findings, jobs)
    return findings


def class_names(root: Path, layout: str, asked: str | None) -> tuple[str, ...]:
    """The names asked for, those of a drawn folder's recipe, or VOC's; none where the files themselves declare them."""
    if asked is not None:
        names = tuple(name.strip() for name in asked.split(","))
        if not all(names) or len(set(names)) < len(names):
            raise UserError(f"--classes needs different names, separated by commas, got {asked!r}")
        return names
    if layout != "voc":
        return ()
    recipe = root / "recipe.json"
    if recipe.is_file():
        try:
            return tuple(str(name) for name in json.loads(recipe.read_text())["classes"])
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{recipe} names no classes: say them with --classes") from None
    from lightning_cv.datasets.voc import VOC_CLASSES

    return VOC_CLASSES


def _print(findings: "Findings", layout: str) -> None:
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    counts = ", ".join(f"{count:,} {what}" for what, count in findings.checked.items())
    console.print(f"{findings.root} ({layout}): {counts or 'no files'}", markup=False, soft_wrap=True)
    if findings.problems:
        console.print(_table("problem", findings.problems))
    if findings.notes:
        console.print(_table("note", findings.notes))
    total = sum(case.total for case in findings.problems.values())
    verdict = f"problems: {total:,}, kinds: {len(findings.problems)}" if total else "nothing is wrong"
    console.print(verdict, markup=False)


def _table(title: str, cases: "dict[str, Case]") -> object:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title, "count", "first")
    table.columns[0].ratio, table.columns[2].ratio = 2, 3
    table.columns[1].justify = "right"
    table.columns[2].overflow = "fold"
    for kind, case in sorted(cases.items(), key=lambda entry: -entry[1].total):
        table.add_row(kind, f"{case.total:,}", escape(case.examples[0]))
    return table
