"""Parts of images to train on instead of whole images: around objects, or around object proposals.

Letters: M windows, N objects of an image, H, W its size. Boxes are x1, y1, x2, y2 in pixels, far edge exclusive.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_cv.contracts import VOID, SegmentationSample
from lightning_cv.datasets.errors import DataError
from lightning_cv.ops.counters import mix
from lightning_cv.ops.proposal_file import Listed, read_proposals

Boxes = NDArray[np.float32]
Mask = NDArray[np.uint8]


class ObjectSource(Protocol):
    """Images with class masks whose single objects are known, too."""

    ids: list[str]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> SegmentationSample: ...
    def masks_of(self, index: int) -> tuple[Mask, Mask]:
        """Class mask and object mask (H, W) of an image, both 0 without an object and VOID where neither counts."""
        ...


class Windows(NamedTuple):
    """Which part of which image each sample shows, and the object that it is about."""

    images: NDArray[np.int64]  # (M,), positions in the source
    boxes: Boxes  # (M, 4)
    labels: NDArray[np.int64]  # (M,), class of the object
    objects: NDArray[np.int64]  # (M,), its value in the object mask


class WindowedImages:
    """The windows of images as samples of their own, by position.

    Args:
        source: the images.
        windows: what is shown.
        only_object: pixels of other objects are background.
    """

    def __init__(self, source: ObjectSource, windows: Windows, only_object: bool) -> None:
        self.source, self.windows, self.only_object = source, windows, only_object

    def __len__(self) -> int:
        return len(self.windows.images)

    def __getitem__(self, index: int, /) -> SegmentationSample:
        image = int(self.windows.images[index])
        sample = self.source[image]
        mask = sample["mask"]
        if self.only_object:
            _, objects = self.source.masks_of(image)
            mask = np.where((objects == self.windows.objects[index]) | (mask == VOID), mask, 0).astype(np.uint8)
        x1, y1, x2, y2 = self.windows.boxes[index].astype(int).tolist()
        return {
            "image_id": sample["image_id"],
            "image": np.ascontiguousarray(sample["image"][y1:y2, x1:x2]),
            "mask": np.ascontiguousarray(mask[y1:y2, x1:x2]),
        }


class TrainingWindows(ABC):
    """What a data module trains on instead of whole images; see its `windows`.

    Args:
        context: sides of a window in those of the box that it is made around; cut at the edge of the image.
        balance: repeat windows of rarer classes until each class has as many as the commonest.
    """

    only_object = False

    def __init__(self, context: float = 1.2, balance: bool = True) -> None:
        if context < 1:
            raise ValueError(f"{type(self).__name__}: context must be at least 1, got {context}")
        self.context, self.balance = context, balance

    @abstractmethod
    def boxes_of(self, image: int, image_id: str, objects: Boxes, size: tuple[int, int]) -> Boxes:
        """Boxes to make windows around, (M, 4), of an image (height, width) and the tight boxes of its objects."""

    @abstractmethod
    def chosen(self, boxes: Boxes, objects: Boxes) -> NDArray[np.int64]:
        """For each of those boxes the object that it is about, (M,), or -1 for none, which leaves it out."""

    def files(self) -> list[Path]:
        """What the windows are read from, besides masks."""
        return []

    def of(self, source: ObjectSource) -> WindowedImages:
        """The windows of all images, in their order."""
        parts: list[Windows] = []
        for image, image_id in enumerate(source.ids):
            classes, masks = source.masks_of(image)
            values, labels, tight = tight_boxes(classes, masks)
            boxes = self.boxes_of(image, image_id, tight, (masks.shape[0], masks.shape[1]))
            about = self.chosen(boxes, tight)
            kept = np.flatnonzero(about >= 0)
            around = enlarged(boxes[kept], self.context, masks.shape[0], masks.shape[1])
            number = np.full(len(kept), image, np.int64)
            parts.append(Windows(number, around, labels[about[kept]], values[about[kept]]))
        labels = np.concatenate([part.labels for part in parts])
        if len(labels) == 0:
            raise DataError(f"{type(self).__name__}: no window in any of {len(source)} images")
        rows = balanced(labels) if self.balance else np.arange(len(labels))
        windows = Windows(
            np.concatenate([part.images for part in parts])[rows],
            np.concatenate([part.boxes for part in parts])[rows],
            labels[rows],
            np.concatenate([part.objects for part in parts])[rows],
        )
        return WindowedImages(source, windows, self.only_object)


class ObjectWindows(TrainingWindows):
    """A window around each object, which alone is labelled: stage 1 of DeconvNet.

    Noh et al. 2015, section 4.2: a tight box around each annotated object, 1.2 times as large, other pixels background;
    rarer classes repeated. Differs: void pixels stay void.
    """

    only_object = True

    def boxes_of(self, image: int, image_id: str, objects: Boxes, size: tuple[int, int]) -> Boxes:
        """The objects' own boxes."""
        return objects

    def chosen(self, boxes: Boxes, objects: Boxes) -> NDArray[np.int64]:
        """Each its own."""
        return np.arange(len(objects))


class ProposalWindows(TrainingWindows):
    """A window around each proposal that overlaps an object well, all classes labelled: stage 2 of DeconvNet.

    Noh et al. 2015, section 4.2: candidates with an intersection over union of at least 0.5. Without a file, boxes
    stand in that are drawn around each object by moving and stretching its own: as hard as proposals that found the
    object, but no detector has to run first.

    Args:
        file: of proposals, see `ops.proposal_file`; None draws boxes.
        most: proposals of an image, the best ones of the file; without a file, boxes drawn for each object.
        overlap: least intersection over union with an object's tight box.
        jitter: largest shift, in the object's sides, and largest change of a side, as a power of 2, of drawn boxes.
        draw_seed: of drawn boxes; the run's seed does not touch them.
        context, balance: as for `TrainingWindows`.
    """

    def __init__(
        self,
        file: str | None = None,
        most: int = 50,
        overlap: float = 0.5,
        jitter: float = 0.5,
        draw_seed: int = 0,
        context: float = 1.2,
        balance: bool = True,
    ) -> None:
        super().__init__(context, balance)
        if most < 1 or not 0 < overlap <= 1 or jitter < 0:
            raise ValueError(
                "ProposalWindows: most is at least 1, overlap above 0 and at most 1, jitter not negative, got "
                f"{most}, {overlap} and {jitter}"
            )
        self.file, self.most, self.overlap, self.jitter, self.draw_seed = file, most, overlap, jitter, draw_seed
        self.proposals: dict[str, Listed] | None = None

    def files(self) -> list[Path]:
        """The proposals."""
        return [Path(self.file)] if self.file is not None else []

    def of(self, source: ObjectSource) -> WindowedImages:
        """The windows of all images, in their order."""
        self.proposals = read_proposals(self.file) if self.file is not None else None
        return super().of(source)

    def boxes_of(self, image: int, image_id: str, objects: Boxes, size: tuple[int, int]) -> Boxes:
        """Those of the file, or drawn ones."""
        if self.proposals is None:
            rng = np.random.default_rng(mix(self.draw_seed, image))
            return jittered(objects, self.most, self.jitter, rng, size)
        if image_id not in self.proposals:
            raise DataError(f"{self.file} has no proposals for image {image_id}")
        return clipped(self.proposals[image_id].boxes[: self.most], *size)

    def chosen(self, boxes: Boxes, objects: Boxes) -> NDArray[np.int64]:
        """The object that a box overlaps most, if well enough."""
        if len(objects) == 0 or len(boxes) == 0:
            return np.full(len(boxes), -1)
        overlaps = overlap_of(boxes, objects)
        return np.where(overlaps.max(axis=1) >= self.overlap, overlaps.argmax(axis=1), -1)


def tight_boxes(classes: Mask, objects: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64], Boxes]:
    """Value, class (N,) and box (N, 4) of each object of a mask; an object's class is that of most of its pixels."""
    values = np.setdiff1d(np.unique(objects), [0, VOID]).astype(np.int64)
    labels, boxes = np.zeros(len(values), np.int64), np.zeros((len(values), 4), np.float32)
    for row, value in enumerate(values):
        ys, xs = np.nonzero(objects == value)
        labels[row] = np.bincount(classes[ys, xs], minlength=VOID + 1)[:VOID].argmax()
        boxes[row] = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    known = labels > 0  # an object that is void or background in the class mask is none
    return values[known], labels[known], boxes[known]


def enlarged(boxes: Boxes, factor: float, height: int, width: int) -> Boxes:
    """Boxes `factor` times as large about their middles, in whole pixels, cut at the edge of the image, (M, 4)."""
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    grown = np.concatenate([np.floor(middle - half), np.ceil(middle + half)], axis=1).astype(np.float32)
    return np.asarray(np.clip(grown, 0, np.array([width, height] * 2)), np.float32)


def clipped(boxes: Boxes, height: int, width: int) -> Boxes:
    """The boxes cut to an image, without those of which less than a pixel a side is left."""
    inside = np.clip(boxes, 0, np.array([width, height] * 2, np.float32)).astype(np.float32)
    return inside[((inside[:, 2:] - inside[:, :2]) >= 1).all(axis=1)]


def jittered(objects: Boxes, count: int, jitter: float, rng: np.random.Generator, size: tuple[int, int]) -> Boxes:
    """`count` boxes around each object, one object after the other, cut to the image (height, width)."""
    sides = np.repeat(objects[:, 2:] - objects[:, :2], count, axis=0)
    middles = np.repeat((objects[:, :2] + objects[:, 2:]) / 2, count, axis=0)
    middles = middles + sides * rng.uniform(-jitter, jitter, sides.shape)
    halves = sides * 2 ** rng.uniform(-jitter, jitter, sides.shape) / 2
    return clipped(np.concatenate([middles - halves, middles + halves], axis=1).astype(np.float32), *size)


def overlap_of(boxes: Boxes, objects: Boxes) -> NDArray[np.float32]:
    """Intersection over union (M, N)."""
    first = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], objects[None, :, 2:])
    shared = (last - first).clip(min=0).prod(axis=-1)
    areas = [(part[:, 2:] - part[:, :2]).prod(axis=-1) for part in (boxes, objects)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared), np.float32)


def balanced(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of all windows, those of rarer classes repeated in turn until all classes have as many, by class.

    >>> balanced(np.array([1, 2, 2, 2, 1])).tolist()
    [0, 4, 0, 1, 2, 3]
    """
    most = int(np.bincount(labels).max())
    return np.concatenate([np.resize(np.flatnonzero(labels == label), most) for label in np.unique(labels)])
