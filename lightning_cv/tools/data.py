"""The verb `lightning-cv data`: draw scenes, or fetch a public data set, below the data root."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

DATA_SETS = ("voc2007", "voc2012", "mnist")
"""What `get` can fetch."""


def main(argv: Sequence[str]) -> int:
    """Runs `data draw ...` or `data get ...`; the exit status: 0, or 2 with one line on the error stream."""
    arguments = parser().parse_args(argv)
    try:
        folder = _draw(arguments) if arguments.verb == "draw" else get(arguments.name, arguments.root)
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: torchvision, where no mirror answers
        print(f"lightning-cv data {arguments.verb}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(folder)
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments of both verbs."""
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument("--root", metavar="DIR", default="data", help="data root (default: %(default)s)")
    top = argparse.ArgumentParser(prog="lightning-cv data", description="Draw scenes or fetch public data sets.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="draw | get")
    draw = verbs.add_parser(
        "draw",
        parents=[root],
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
    fetch = verbs.add_parser(
        "get",
        parents=[root],
        help="fetch a public data set with torchvision",
        description="Fetches a data set from where its authors or torchvision keep it. VOC's images are under Flickr's "
        "terms, MNIST under CC BY-SA 3.0. A folder that is there already is left as it is. Prints the folder.",
    )
    fetch.add_argument("name", choices=DATA_SETS, help="which")
    return top


def draw(root: str | Path, layout: str, counts: dict[str, int], size: int, seed: int) -> Path:
    """Draws scenes below `root/drawn`; the folder that a reader takes as its root."""
    from lightning_cv.datasets.writers import drawn_folder, write_coco, write_voc  # `--help` shall not wait for them

    folder = drawn_folder(root, layout, counts, size, seed)
    if layout == "coco":
        write_coco(folder, counts, seed, size)
    else:
        write_voc(folder, "2007", counts, seed, size)
    return folder


def get(name: str, root: str | Path) -> Path:
    """Fetches one of `DATA_SETS` into the data root; the folder it lies in. A folder that is there is left as it is."""
    from lightning_cv.datasets.fetch import fetch

    return fetch(name, root)


def _draw(arguments: argparse.Namespace) -> Path:
    counts = {"train": arguments.train, "val": arguments.val, "test": arguments.test}
    return draw(arguments.root, arguments.layout, counts, arguments.size, arguments.seed)
