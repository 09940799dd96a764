"""Detections as plain text: a file an image, a line a box: `class score x y width height`.

Corner and size count pixels, and the far edge is part of the box: it is width + 1 pixels wide. A box narrower than one
pixel, for which there is no such width, becomes one of a pixel.
"""

from pathlib import Path

import numpy as np

from lightning_cv.contracts import Detections, LabelMap
from lightning_cv.errors import UserError
from lightning_cv.replaced import replaced


def write_box_list(folder: Path, image_id: str, found: Detections, label_map: LabelMap) -> Path:
    """The file written, `folder/{image_id}.txt`, empty where nothing was found.

    Args:
        folder: made if it does not exist.
        image_id: names the file, so that it must hold no slash.
        found: boxes in pixels of the file.
        label_map: class names, none of which may hold a space.
    """
    path = folder / f"{image_id}.txt"
    if path.parent != folder:
        raise UserError(f"image {image_id!r}: no file of boxes can have this name, for it holds a slash")
    for name in label_map.names:
        if any(character.isspace() for character in name):
            raise UserError(f"class {name!r} cannot be written in boxes-txt: a line is divided at spaces")
    folder.mkdir(parents=True, exist_ok=True)
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True)
    lines = [f"{label_map.name(label)} {_plain(score, *_corner_and_size(box))}\n" for label, score, box in rows]
    with replaced(path) as file:
        file.write("".join(lines).encode())
    return path


def _corner_and_size(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, max(x2 - 1 - x1, 0.0), max(y2 - 1 - y1, 0.0)]


def _plain(*values: float) -> str:
    """All digits and no exponent.

    >>> _plain(1e-7, 12.0)
    '0.0000001 12'
    """
    return " ".join(np.format_float_positional(value, trim="-") for value in values)
