"""The verb `lightning-cv data`: fetch, draw, check, measure and look at data sets."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_cv.errors import UserError
from lightning_cv.tools import data_check, data_show, data_stats

if TYPE_CHECKING:  # `--help` shall not wait for it
    from lightning_cv.datasets.sources import DataSet

DATA_SETS = ("voc2007", "voc2011", "voc2012", "sbd", "coco2017", "mnist", "fashion-mnist", "celeba", "dsprites")
"""What `get` can fetch."""


def main(argv: Sequence[str]) -> int:
    """Runs one verb; the exit status: 0, 1 where a check found problems, or 2 with one line on the error stream."""
    arguments = parser().parse_args(argv)
    try:
        if arguments.verb == "check":
            return data_check.main(arguments)
        if arguments.verb == "stats":
            return data_stats.main(arguments)
        print(_made(arguments))
    except (UserError, ValueError, OSError) as error:
        print(f"lightning-cv data {arguments.verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of all verbs."""
    top = argparse.ArgumentParser(
        prog="lightning-cv data", description="Fetch public data sets, draw scenes, check, measure and look at folders."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="get | draw | check | stats | show")
    _add_get(verbs)
    _add_draw(verbs)
    data_check.add_parser(verbs)
    data_stats.add_parser(verbs)
    data_show.add_parser(verbs)
    return top


def draw(root: str | Path, layout: str, counts: dict[str, int], size: int, seed: int) -> Path:
    """Draws scenes below `root/drawn`; the folder that a reader takes as its root."""
    from lightning_cv.datasets.writers import drawn_folder, write_coco, write_voc

    folder = drawn_folder(root, layout, counts, size, seed)
    if layout == "coco":
        write_coco(folder, counts, seed, size)
    else:
        write_voc(folder, "2007", counts, seed, size)
    return folder


def get(name: str, root: str | Path, parts: Sequence[str] = (), agree: bool = False) -> Path:
    """Fetches what is missing of one of `DATA_SETS` into the data root; the folder it lies in.

    Says first what will be fetched and under which licence, and asks where the licence must be agreed to.

    Args:
        name: of the data set.
        root: data root.
        parts: of a data set that has several; all where there are none.
        agree: to the licence, without being asked.
    """
    from lightning_cv.datasets.fetch import fetch, missing_parts
    from lightning_cv.datasets.sources import data_set

    source = data_set(name)
    missing = missing_parts(source, root, parts)
    if missing:
        names = ", parts " + ", ".join(part.name for part in missing) if len(source.parts) > 1 else ""
        size = _megabytes(sum(part.packed for part in missing))
        print(f"{source.title}{names}: about {size} to fetch.\nLicence: {source.licence}.", file=sys.stderr)
        if source.asks and not agree:
            _ask(source)
    return fetch(name, root, parts, agreed=True)


def _made(arguments: argparse.Namespace) -> Path:
    """The folder or file that a verb made."""
    if arguments.verb == "show":
        return data_show.main(arguments)
    if arguments.verb == "get":
        return get(arguments.name, arguments.root, arguments.part, arguments.yes)
    counts = {"train": arguments.train, "val": arguments.val, "test": arguments.test}
    return draw(arguments.root, arguments.layout, counts, arguments.size, arguments.seed)


def _ask(source: "DataSet") -> None:
    """Returns if a person at the terminal agrees to the licence; an error otherwise."""
    if not sys.stdin.isatty():
        raise UserError(
            f"{source.name} needs your agreement to its licence: run with --yes to agree, nothing was fetched"
        )
    print("Do you agree? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"the licence of {source.name} was not agreed to, nothing was fetched")


def _megabytes(count: int) -> str:
    from lightning_cv.datasets.meter import megabytes

    return megabytes(count)


def _root() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--root", metavar="DIR", default="data", help="data root (default: %(default)s)")
    return root


def _add_get(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fetch = verbs.add_parser(
        "get",
        parents=[_root()],
        help="fetch a public data set",
        description="Fetches a data set's official archives, verifies and unpacks them, after printing size and "
        "licence. Goes on where an earlier call was interrupted. Only what is missing is fetched, what is there is "
        "left as it is. Prints the folder.",
    )
    fetch.add_argument("name", choices=DATA_SETS, help="which")
    fetch.add_argument(
        "--part", action="append", default=[], metavar="PART",
        help="only this part; may be repeated (coco2017: train, val, annotations, panoptic; celeba: images, "
        "attributes, identities, boxes, landmarks, partition; mnist, fashion-mnist: train-images, train-labels, "
        "test-images, test-labels)",
    )  # fmt: skip
    fetch.add_argument("--yes", action="store_true", help="agree to the licence without being asked")


def _add_draw(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    draw = verbs.add_parser(
        "draw",
        parents=[_root()],
        help="draw scenes of overlapping shapes as a VOC or COCO folder",
        description="Draws scenes with boxes, class masks and instance masks from a seed. Nothing is overwritten: "
        "a folder of the same recipe is used as it is. Prints the folder.",
    )
    draw.add_argument("--layout", choices=("voc", "coco"), default="voc", help="of the folder (default: %(default)s)")
    draw.add_argument("--train", metavar="N", type=int, default=2000, help="scenes for training (default: %(default)s)")
    draw.add_argument("--val", metavar="N", type=int, default=300, help="scenes for validation (default: %(default)s)")
    draw.add_argument("--test", metavar="N", type=int, default=300, help="scenes for the test (default: %(default)s)")
    draw.add_argument("--size", metavar="S", type=int, default=128, help="side in pixels (default: %(default)s)")
    draw.add_argument("--seed", metavar="S", type=int, default=0, help="of the scenes (default: %(default)s)")
