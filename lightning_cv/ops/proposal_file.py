"""Object proposals of many pictures in one file.

An `.npz` with the arrays `image_ids` (I,), `sizes` (I, 2) as height and width, `counts` (I,) and `boxes` (sum of
counts, 4): best box first, x1, y1, x2, y2 in pixels of the picture, far edge exclusive. `lightning-cv proposals pack`
writes one of what `build` has found; who found the boxes of another file, and how, is its user's business.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

MARGIN = 1.0
"""Pixels by which boxes may reach beyond their picture, as rounding and files that count from 1 make them."""


class Listed(NamedTuple):
    """Proposals of one picture."""

    boxes: NDArray[np.float32]  # (P, 4), best first
    size: tuple[int, int]  # height and width of the picture


def read_proposals(path: str | Path) -> dict[str, Listed]:
    """Proposals by image id, boxes cut to their pictures, beyond which they may reach by `MARGIN`.

    Raises:
        ValueError: naming the file and what is wrong with it, or the image and its first box that cannot be.
    """
    if not Path(path).is_file():
        raise ValueError(f"no file of proposals at {path}")
    try:
        with np.load(path, allow_pickle=False) as content:
            ids, sizes, counts, boxes = (content[name] for name in ("image_ids", "sizes", "counts", "boxes"))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:  # TypeError: a single array
        raise ValueError(f"{path}: not a file of proposals ({error})") from None
    if not (len(ids) == len(counts) == len(sizes) and boxes.shape == (counts.sum(), 4) and sizes.shape[1:] == (2,)):
        raise ValueError(
            f"{path}: image_ids {ids.shape}, sizes {sizes.shape}, counts {counts.shape} that add up to "
            f"{counts.sum()} and boxes {boxes.shape} do not fit together"
        )
    parts = np.split(np.asarray(boxes, np.float32), np.cumsum(counts))[:-1]
    return {
        str(name): Listed(_cut(part, int(height), int(width), f"{path}, image {name}"), (int(height), int(width)))
        for name, part, (height, width) in zip(ids.tolist(), parts, sizes.tolist(), strict=True)
    }


def _cut(boxes: NDArray[np.float32], height: int, width: int, where: str) -> NDArray[np.float32]:
    """Boxes (P, 4) of a picture, cut to it."""
    is_box = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if not is_box.all():
        raise ValueError(f"{where}: x2 and y2 must exceed x1 and y1 in every box, got {boxes[~is_box][0].tolist()}")
    cut = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    is_inside = (np.abs(cut - boxes) <= MARGIN).all(axis=1) & (cut[:, 2:] > cut[:, :2]).all(axis=1)
    if not is_inside.all():
        raise ValueError(
            f"{where}: box {boxes[~is_inside][0].tolist()} lies outside of the picture, {width} x {height} pixels"
        )
    return cut


def write_proposals(file: BinaryIO, proposals: Mapping[str, Listed]) -> None:
    """Write what `read_proposals` reads."""
    np.savez(
        file,
        image_ids=np.array(list(proposals), np.str_),
        sizes=np.array([one.size for one in proposals.values()], np.int64).reshape(-1, 2),
        counts=np.array([len(one.boxes) for one in proposals.values()], np.int64),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes for one in proposals.values())]),
    )
