"""The verb `lightning-cv proposals`: find boxes of likely objects, keep them, and say how many objects they cover."""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lightning_cv.errors import UserError
from lightning_cv.locks import RunLock

if TYPE_CHECKING:  # `--help` shall not wait for it
    from lightning_cv.contracts import DetectionSample, DetectionTarget
    from lightning_cv.datasets.proposals import Boxes, Entry, Picture, Proposals, Samples
    from lightning_cv.datasets.selective_search import SelectiveSearch
    from lightning_cv.metrics.proposals import ProposalFigures

LIMITS = (10, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_SAVED_EVERY = 200
"""Pictures after which the index is written, so that a build that goes on has little to look at again."""


class Built(NamedTuple):
    """What became of one picture."""

    image_id: str
    entry: "Entry | None"
    trouble: str  # why there is no entry
    seconds: float = 0  # of the search; 0 where the boxes were there


def main(argv: Sequence[str]) -> int:
    """Build or judge; the exit status, 1 where pictures could not be read."""
    options = _parser().parse_args(argv)
    if options.verb == "pack":
        from lightning_cv.datasets.proposals import pack

        print(f"{pack(options.folder, options.file)} pictures -> {options.file}")
        return 0
    from lightning_cv.datasets.proposals import open_proposals
    from lightning_cv.tools.data_show import open_folder

    options.masks = False
    source, _ = open_folder(options)
    troubles = 0
    if options.verb == "build":
        if options.processes < 1:
            raise UserError(f"--processes must be at least 1, got {options.processes}")
        troubles = _build(source, options)
    if options.verb == "recall" or not (options.no_recall or troubles):
        figures = recall(source, open_proposals(options.out))
        print(json.dumps(as_json(figures)) if options.json else table(figures))
    return 1 if troubles else 0


def _build(source: "Samples", options: argparse.Namespace) -> int:
    """Build, tell of it; the number of pictures that could not be read."""
    from lightning_cv.datasets.selective_search import SelectiveSearch

    search = SelectiveSearch(options.mode, options.width, options.min_side, most=options.most, seed=options.seed)
    seconds: list[float] = []
    troubles = build(source, search, options.out, options.processes, quiet=options.quiet, seconds=seconds)
    for line in troubles:
        print(f"skipped {line}", file=sys.stderr)
    size = sum(file.stat().st_size for file in options.out.glob("*/*.npy"))
    if not options.json:
        print(f"{len(source) - len(troubles)} of {len(source)} pictures -> {options.out}, {size / 1e6:.1f} MB in all")
        if seconds:
            print(f"{len(seconds)} searched, {sum(seconds) / len(seconds):.2f} s each")
    return len(troubles)


def build(
    source: "Samples",
    search: "SelectiveSearch",
    folder: Path,
    processes: int = 1,
    quiet: bool = True,
    seconds: list[float] | None = None,
) -> list[str]:
    """Find and keep the boxes of all pictures that a folder has not yet; a line for each that could not be read.

    Args:
        source: the pictures.
        search: finds the boxes of one.
        folder: the cache.
        processes: pictures that are searched at once.
        quiet: no progress bar.
        seconds: takes those of each search.

    Raises:
        UserError: another process is at work in the folder.
        DataError: the folder holds something else, or boxes that were found otherwise.
    """
    from lightning_cv.datasets.proposals import refuse_other_cache

    refuse_other_cache(folder, search.settings)  # before a lock is left in a folder of something else
    folder.mkdir(parents=True, exist_ok=True)
    with RunLock(folder):
        return _build_all(source, search, folder, processes, quiet, [] if seconds is None else seconds)


def _build_all(
    source: "Samples", search: "SelectiveSearch", folder: Path, processes: int, quiet: bool, seconds: list[float]
) -> list[str]:
    from rich.progress import track

    from lightning_cv.datasets.proposals import add_to_index, begin

    begin(folder, search.settings)
    entries, troubles = {}, []
    for done in track(
        _all(source, search, folder, processes), total=len(source), description="proposals", disable=quiet
    ):
        if done.entry is None:
            troubles.append(done.trouble)
            continue
        entries[done.image_id] = done.entry
        if done.seconds:
            seconds.append(done.seconds)
        if len(entries) % _SAVED_EVERY == 0:
            add_to_index(folder, entries)
    add_to_index(folder, entries)
    return troubles


def _all(source: "Samples", search: "SelectiveSearch", folder: Path, processes: int) -> Iterator[Built]:
    if processes == 1:
        yield from (_one(source, search, folder, index) for index in range(len(source)))
        return
    context = multiprocessing.get_context("spawn")  # a forked copy of a process with threads may hang
    with ProcessPoolExecutor(processes, context, _prepare, (source, search, folder)) as pool:
        waiting = [pool.submit(_one_of_mine, index) for index in range(len(source))]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise UserError(
                f"a process that searched pictures was killed, perhaps for memory; what was found is kept in {folder}: "
                "run the same command again, or with fewer --processes"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_MINE: "list[tuple[Samples, SelectiveSearch, Path]]" = []
"""What this process works on: set once rather than sent with every picture."""


def _prepare(source: "Samples", search: "SelectiveSearch", folder: Path) -> None:
    import cv2
    import torch

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    _MINE.append((source, search, folder))


def _one_of_mine(index: int) -> Built:
    return _one(*_MINE[-1], index)


def _one(source: "Samples", search: "SelectiveSearch", folder: Path, index: int) -> Built:
    from lightning_cv.datasets.errors import DataError
    from lightning_cv.datasets.proposals import add_picture

    try:
        sample = source[index]
    except DataError as error:
        return Built("", None, str(error))
    seconds = 0.0

    def timed(image: "Picture") -> "Boxes":
        nonlocal seconds
        begun = time.perf_counter()
        boxes = search(image)
        seconds = time.perf_counter() - begun
        return boxes

    entry = add_picture(folder, sample["image"], timed)
    return Built(sample["image_id"], entry, "", seconds)


def recall(source: "Samples", proposals: "Proposals", limits: Sequence[int] = LIMITS) -> "ProposalFigures":
    """How many of a data set's objects its proposals cover, difficult and crowd objects not counted."""
    import torch

    from lightning_cv.metrics.proposals import ProposalRecall

    metric = ProposalRecall(limits)
    for index in range(len(source)):
        sample = source[index]
        height, width = sample["image"].shape[:2]
        boxes = torch.from_numpy(proposals.boxes_of(sample["image_id"], sample["image"]))
        metric.update(
            [boxes],
            [torch.arange(len(boxes), 0, -1).float()],
            [file_target(sample)],
            (height, width),
        )
    return metric.compute()


def file_target(sample: "DetectionSample") -> "DetectionTarget":
    """The objects of a picture in pixels of its file; a crowd counts as difficult."""
    import torch

    return {
        "image_id": sample["image_id"],
        "boxes": torch.from_numpy(sample["boxes"]),
        "labels": torch.from_numpy(sample["labels"]),
        "difficult": torch.from_numpy(sample["difficult"] | sample.get("crowd", sample["difficult"])),
        "original_size": (sample["image"].shape[0], sample["image"].shape[1]),
    }


def table(figures: "ProposalFigures") -> str:
    """Figures as lines of text."""
    lines = ["proposals  recall at IoU 0.5  average recall"]
    for limit, half, average in zip(figures.limits, figures.recall_50, figures.average_recall, strict=True):
        lines.append(f"{limit:>9}  {half:>17.3f}  {average:>14.3f}")
    return "\n".join(lines)


def as_json(figures: "ProposalFigures") -> dict[str, list[float]]:
    """Figures as plain values."""
    return {
        "proposals": list(figures.limits),
        "recall_50": figures.recall_50.tolist(),
        "average_recall": figures.average_recall.tolist(),
    }


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="lightning-cv proposals", description="Boxes of likely objects by selective search, kept in a folder."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="build | recall | pack")
    build = verbs.add_parser(
        "build",
        help="find and keep the boxes of a data set's pictures",
        description="Searches the pictures of a split of a VOC or COCO folder and keeps their boxes; pictures that are "
        "done are not searched again, so that a build that was stopped goes on; one build at a time works in a folder. "
        "Prints how many objects are covered.",
    )
    judge = verbs.add_parser("recall", help="how many objects kept boxes cover, by number of boxes")
    for parser in (build, judge):
        parser.add_argument("root", type=Path, metavar="DATA", help="the folder that holds VOCdevkit, or a COCO folder")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the boxes")
        parser.add_argument("--layout", choices=("auto", "voc", "coco"), default="auto", help="(default: %(default)s)")
        parser.add_argument("--split", default="train", help="(default: %(default)s)")
        parser.add_argument("--year", default=None, help="of the folder (default: 2007 for VOC, 2017 for COCO)")
        parser.add_argument("--classes", metavar="A,B,...", help="class names of a VOC-like folder, in label order")
        parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    one = verbs.add_parser("pack", help="put kept boxes into one file, as segmentation by windows reads them")
    one.add_argument("folder", type=Path, metavar="DIR", help="folder of the boxes")
    one.add_argument("file", type=Path, metavar="FILE.npz", help="the file, overwritten if it exists")
    build.add_argument(
        "--mode", choices=("fast", "quality"), default="fast",
        help="8 groupings a picture, about 2,000 boxes, or 80, about 10,000 (default: %(default)s)",
    )  # fmt: skip
    build.add_argument(
        "--width", type=int, default=500, metavar="W",
        help="width at which pictures are searched, 0 for their own (default: %(default)s)",
    )  # fmt: skip
    build.add_argument(
        "--min-side", type=int, default=20, metavar="S",
        help="shortest side of a box, in pixels at that width (default: %(default)s)",
    )  # fmt: skip
    build.add_argument("--most", type=int, default=0, metavar="N", help="boxes kept of a picture (default: all)")
    build.add_argument("--seed", type=int, default=0, help="of the order of the boxes (default: %(default)s)")
    build.add_argument("--processes", type=int, default=1, metavar="N", help="pictures at once (default: %(default)s)")
    build.add_argument("--no-recall", action="store_true", help="do not print how many objects are covered")
    build.add_argument("--quiet", action="store_true", help="no progress bar")
    return top
