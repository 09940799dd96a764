"""Object proposals as text: a line of JSON an image.

{"image_id": "2007_000032", "boxes": [[x1, y1, x2, y2], ...]}, best box first, in pixels of the file, far edge
exclusive.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_proposals(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Boxes (N, 4) by image id, best first."""
    if not Path(path).is_file():
        raise ValueError(f"no file of proposals at {path}")
    found: dict[str, NDArray[np.float32]] = {}
    with Path(path).open() as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                boxes = np.asarray(entry["boxes"], np.float32).reshape(-1, 4)
                found[str(entry["image_id"])] = boxes
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: not an image_id with boxes of 4 numbers ({error!r})"
                ) from None
            if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
                raise ValueError(f"{path}, line {number}: x2 and y2 must exceed x1 and y1 in every box")
    return found
