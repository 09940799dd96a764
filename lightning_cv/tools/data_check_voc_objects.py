"""VOC's object masks beside the class masks and annotations: whether they show the same objects. H, W of a mask."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_cv.tools.data_check_findings import Findings

VOID = 255


def check_objects(
    mask: Path, class_mask: Path, names: Sequence[str], classes: Sequence[str], findings: Findings
) -> None:  # fmt: skip
    """Compares how many objects of each class an object mask shows with the annotated ones.

    Args:
        mask: of the objects, of the same size as the next.
        class_mask: of the same picture.
        names: classes of the annotated objects.
        classes: names in the order of the values of class masks, from 1.
        findings: is told. An object may be hidden, which is a note; a mask must be of an object.
    """
    values = (0 if value > len(classes) else value for value in classes_of_objects(_read(class_mask), _read(mask)))
    shown = Counter("background" if value == 0 else classes[value - 1] for value in values)
    annotated = Counter(names)
    for name, count in (shown - annotated).items():
        findings.problem("mask of no annotated object", mask, f"{shown[name]} of {name}, {count} too many")
    for name, count in (annotated - shown).items():
        findings.note("object without pixels in its mask", mask, f"{shown[name]} of {name}, {count} too few")


def classes_of_objects(classes: NDArray[np.uint8], objects: NDArray[np.uint8]) -> list[int]:
    """For each object of a mask (H, W), the class that most of its pixels have.

    >>> classes_of_objects(np.array([[8, 8, 0, 12]], np.uint8), np.array([[1, 1, 1, 2]], np.uint8))
    [8, 12]
    """
    values = np.setdiff1d(np.unique(objects), [0, VOID]).tolist()
    return [int(np.bincount(classes[objects == value], minlength=256)[:VOID].argmax()) for value in values]


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.array(picture)
