"""COCO's figures for boxes and for instance masks from records in memory. Letters: K classes; G objects of an image."""

from collections.abc import Sequence
from typing import NamedTuple

from pycocotools import mask as rle

from lightning_cv.metrics.coco_results import CocoFigures, Entry, coco_figures
from lightning_cv.metrics.voc import Floats, ImageResult

BEYOND_ALL_SIZES = 1e12
"""An object area in px^2 beyond COCO's range "all" (1e10): the evaluation leaves such an object out, yet matches it."""


def box_figures(images: Sequence[ImageResult], num_classes: int) -> CocoFigures:
    """COCO's twelve figures and the AP by label, 1 to K.

    Crowds are COCO's: any number of detections may lie in one. A difficult object (VOC's mark, which COCO has not) need
    not be found and a detection matched to it is not counted, one for each such object. It is NOT treated as a crowd,
    which would also forgive every small false positive inside its box.
    """
    shapes = [_boxes(image) for image in images]
    return coco_figures(_truth(images, num_classes, shapes), _results(images, shapes), "bbox")


def mask_figures(images: Sequence[ImageResult], num_classes: int) -> CocoFigures:
    """The same for instance masks. An object without an area that is given has that of its mask.

    Raises:
        ValueError: naming the image, of which there are no masks.
    """
    shapes = [_masks(image) for image in images]
    return coco_figures(_truth(images, num_classes, shapes), _results(images, shapes), "segm")


class _Shapes(NamedTuple):
    """What is compared of an image, as entries of COCO's format."""

    found: list[Entry]  # of each detection
    true: list[Entry]  # of each object
    areas: list[float]  # of each object


def _boxes(image: ImageResult) -> _Shapes:
    areas = (image.true_boxes[:, 2:] - image.true_boxes[:, :2]).prod(1)  # (G,)
    found, true = ([{"bbox": _corner_and_size(box)} for box in boxes] for boxes in (image.boxes, image.true_boxes))
    return _Shapes(found, true, areas.tolist())


def _masks(image: ImageResult) -> _Shapes:
    if image.masks is None or image.true_masks is None:
        raise ValueError(f"image {image.image_id}: its detections or its objects have no masks, which are evaluated")
    found, true = ([{"segmentation": mask} for mask in masks] for masks in (image.masks, image.true_masks))
    return _Shapes(found, true, [float(rle.area(mask)) for mask in image.true_masks])


def _truth(images: Sequence[ImageResult], num_classes: int, shapes: Sequence[_Shapes]) -> Entry:
    numbered = enumerate(zip(images, shapes, strict=True), 1)
    objects = [entry for number, pair in numbered for entry in _objects_of(*pair, number)]
    return {
        "images": [{"id": i, "height": image.size[0], "width": image.size[1]} for i, image in enumerate(images, 1)],
        "categories": [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)],
        "annotations": [entry | {"id": number} for number, entry in enumerate(objects, 1)],
    }


def _objects_of(image: ImageResult, shapes: _Shapes, number: int) -> list[Entry]:
    areas = shapes.areas if image.areas is None else image.areas.tolist()
    crowd = [False] * len(areas) if image.crowd is None else image.crowd.tolist()
    columns = (shapes.true, image.true_labels.tolist(), areas, image.difficult.tolist(), crowd)
    return [
        shape
        | {
            "image_id": number,
            "category_id": label,
            "area": BEYOND_ALL_SIZES if difficult else area,
            "iscrowd": int(many),
        }
        for shape, label, area, difficult, many in zip(*columns, strict=True)
    ]


def _results(images: Sequence[ImageResult], shapes: Sequence[_Shapes]) -> list[Entry]:
    return [
        shape | {"image_id": number, "category_id": label, "score": score}
        for number, (image, (found, _, _)) in enumerate(zip(images, shapes, strict=True), 1)
        for shape, score, label in zip(found, image.scores.tolist(), image.labels.tolist(), strict=True)
    ]


def _corner_and_size(box: Floats) -> list[float]:
    x1, y1, x2, y2 = box.tolist()
    return [x1, y1, x2 - x1, y2 - y1]
