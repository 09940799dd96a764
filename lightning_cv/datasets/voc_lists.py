"""Which images a split of a VOC folder names, over several years, and where their files lie.

A split is a list of `ImageSets`, or several: "train+val", "2007/trainval+2012/trainval", "2011/val - sbd/train".
"""

import filecmp
import re
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.repairs import Repairs

Kind = Literal["Main", "Segmentation"]
SBD = "sbd"
"""The year that stands for the Semantic Boundaries Dataset (Hariharan et al. 2011), in the folder `sbd` of the root."""

SEG11VALID = "2011/val - sbd/train"
"""The 736 images on which Shelhamer et al. 2017 (FCN) report: VOC 2011's validation without SBD's training images."""
TRAINAUG = "2012/train+sbd/train+sbd/val - 2012/val"
"""The 10,582 training images usual since Chen et al. 2015 (DeepLab): VOC 2012 and SBD, not VOC 2012's validation."""


class Listed(NamedTuple):
    """An image that a list names, and the folder of its year."""

    folder: Path
    image_id: str

    @property
    def of_sbd(self) -> bool:
        """Whether its mask is one of SBD's MATLAB files."""
        return self.folder.name == SBD

    @property
    def image(self) -> Path:
        """Its picture."""
        return self.folder / ("img" if self.of_sbd else "JPEGImages") / f"{self.image_id}.jpg"

    @property
    def xml(self) -> Path:
        """Its annotated boxes."""
        return self.folder / "Annotations" / f"{self.image_id}.xml"

    @property
    def class_mask(self) -> Path:
        """Its class mask."""
        name = f"cls/{self.image_id}.mat" if self.of_sbd else f"SegmentationClass/{self.image_id}.png"
        return self.folder / name

    @property
    def object_mask(self) -> Path:
        """Its object mask."""
        name = f"inst/{self.image_id}.mat" if self.of_sbd else f"SegmentationObject/{self.image_id}.png"
        return self.folder / name


def read_split(root: str | Path, year: str, kind: Kind, split: str, repairs: Repairs) -> list[Listed]:
    """The images of a split, each id once, in the order of the lists.

    An id that several years list is the first one's image if the pictures are the same, as those of 2011 are in 2012,
    and an error otherwise: results and metrics name images by their ids. SBD's pictures are VOC's.

    Args:
        root: the folder that holds `VOCdevkit` and, where a term says so, `sbd`.
        year: of the terms that name none.
        kind: folder of the lists.
        split: terms joined by "+" or, with spaces around it, "-", which takes images away; a term is the name of a
            list, or year/name.
        repairs: is told of ids that one list has twice; what several lists share is no fault.
    """
    chosen: dict[str, Listed] = {}
    again: list[Listed] = []  # listed by another year before
    sign = "+"
    for part in re.split(r"(\+|\s-\s)", split):
        if part.strip() in ("+", "-"):
            sign = part.strip()
            continue
        term_year, _, name = part.strip().rpartition("/")
        folder = year_folder(root, term_year or year)
        for image_id in read_list(folder, kind, name, repairs):
            item = Listed(folder, image_id)
            if sign == "-":
                chosen.pop(image_id, None)
            elif chosen.setdefault(image_id, item) != item:
                again.append(item)
    if not chosen:
        raise DataError(f"split {split!r} below {root} leaves no image")
    for item in again:
        if item.image_id in chosen:
            _refuse_other_picture(chosen[item.image_id], item, split)
    return list(chosen.values())


def _refuse_other_picture(one: Listed, other: Listed, split: str) -> None:
    """An error where two folders have different pictures under one id."""
    if one.of_sbd or other.of_sbd:
        return
    if not (one.image.is_file() and other.image.is_file() and filecmp.cmp(one.image, other.image, shallow=False)):
        raise DataError(
            f"split {split!r}: the image id {one.image_id} is in {one.folder} and in {other.folder}, not with the same "
            "picture: results name images by their ids, so rename those of one folder or leave it out"
        )


def years_of(split: str) -> list[str]:
    """The years that the terms of a split name.

    >>> years_of("train+2012/trainval - sbd/val")
    ['2012', 'sbd']
    """
    terms = [part.strip() for part in re.split(r"\+|\s-\s", split)]
    return [term.rpartition("/")[0] for term in terms if "/" in term]


def year_folder(root: str | Path, year: str) -> Path:
    """The folder of a year, or of SBD."""
    folder = Path(root) / SBD if year == SBD else Path(root) / "VOCdevkit" / f"VOC{year}"
    if not folder.is_dir():
        name = SBD if year == SBD else f"voc{year}"
        raise DataError(
            f"no folder {folder}: fetch the real pictures with `lightning-cv data get {name} --root {root}` "
            f"or draw scenes with `lightning-cv data draw --root {root}`"
        )
    return folder


def read_list(folder: Path, kind: Kind, name: str, repairs: Repairs) -> list[str]:
    """The image ids of one list of a year's folder in their order, each once; `repairs` is told of repeats."""
    lists = folder if folder.name == SBD else folder / "ImageSets" / kind
    path = lists / f"{name}.txt"
    if not path.is_file():
        known = sorted(file.stem for file in lists.glob("*.txt") if "_" not in file.stem)
        raise DataError(f"no list {path}: splits here are {', '.join(known) or '(none)'}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a readable list ({error})") from None
    listed = [line.split()[0] for line in lines if line.strip()]
    if not listed:
        raise DataError(f"{path} lists no image")
    counts = Counter(listed)
    for image_id in [image_id for image_id, count in counts.items() for _ in range(count - 1)]:
        repairs.note("repeated id of a list passed over", f"{path}, {image_id}")
    return list(counts)


def refuse_missing(paths: list[Path], asked_by: str) -> None:
    """An error where a file is missing; one look into each folder."""
    there: dict[Path, set[str]] = {}
    for path in paths:
        if path.parent not in there:
            there[path.parent] = {file.name for file in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in there[path.parent]:
            raise DataError(f"no file {path}, which split {asked_by} names")
