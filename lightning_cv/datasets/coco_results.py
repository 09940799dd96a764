"""Results in COCO's formats: lists of boxes and of masks, and panoptic segmentations as colours of PNG files.

Lin et al. 2014, "Microsoft COCO", results format of cocodataset.org; Kirillov et al. 2019, format as in panopticapi.
Letters: N objects or segments of an image; H, W of the prepared image; h, w of its file.
"""

import json
from pathlib import Path
from typing import TypedDict

import numpy as np
from PIL import Image
from torch import Tensor

from lightning_cv.contracts import Detections, FoundSegments, LabelMap, RunLengths
from lightning_cv.datasets.coco_panoptic import segment_colours, spread_id
from lightning_cv.errors import UserError
from lightning_cv.replaced import replaced


class BoxRow(TypedDict):
    """A result of `bbox` evaluation."""

    image_id: int
    category_id: int
    bbox: list[float]  # x, y, width, height
    score: float


class MaskRow(TypedDict):
    """A result of `segm` evaluation. Without a box: pycocotools would take the object's area from it."""

    image_id: int
    category_id: int
    segmentation: RunLengths
    score: float


class SegmentInfo(TypedDict):
    """A segment: its number in the PNG and its category."""

    id: int
    category_id: int


class PanopticEntry(TypedDict):
    """The segments of an image and the name of its PNG."""

    image_id: int
    file_name: str
    segments_info: list[SegmentInfo]


def is_coco_id(image_id: str) -> bool:
    """Whether an image id is a whole number as COCO writes them: no zeros before it."""
    return image_id.isdecimal() and str(int(image_id)) == image_id


def coco_id(image_id: str) -> int:
    """The image id as a number; an error where it is none."""
    if not (image_id.isascii() and image_id.isdecimal()):
        raise UserError(f"image {image_id!r} cannot be saved in COCO's format: its image ids are whole numbers")
    return int(image_id)


def box_rows(image_id: int, found: Detections, label_map: LabelMap) -> list[BoxRow]:
    """An image's boxes as COCO's results list them: corner and size, and the data set's own category ids."""
    columns = (_category_ids(found["labels"], label_map), found["boxes"].tolist(), found["scores"].tolist())
    return [
        {"image_id": image_id, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
        for category, (x1, y1, x2, y2), score in zip(*columns, strict=True)
    ]


def mask_rows(image_id: int, found: Detections, masks: list[RunLengths], label_map: LabelMap) -> list[MaskRow]:
    """An image's masks as COCO's results list them."""
    columns = (_category_ids(found["labels"], label_map), masks, found["scores"].tolist())
    return [
        {"image_id": image_id, "category_id": category, "segmentation": mask, "score": score}
        for category, mask, score in zip(*columns, strict=True)
    ]


def write_segments(folder: Path, image_id: int, found: FoundSegments, label_map: LabelMap) -> PanopticEntry:
    """The image's entry in the json; its PNG is written into the folder, which is made if it does not exist.

    Args:
        folder: named as the json is, without its ending.
        image_id: names the PNG.
        found: segments in pixels of the file, each with a pixel.
        label_map: the data set's own category ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [spread_id(position) for position in range(1, len(found["labels"]) + 1)]
    ids = np.array([0, *numbers], np.int32)[found["segments"].cpu().numpy()]  # (h, w)
    name = f"{image_id}.png"
    with replaced(folder / name) as file:
        Image.fromarray(segment_colours(ids)).save(file, format="PNG", compress_level=3)
    categories = _category_ids(found["labels"], label_map)
    infos = [SegmentInfo(id=number, category_id=of) for number, of in zip(numbers, categories, strict=True)]
    return PanopticEntry(image_id=image_id, file_name=name, segments_info=infos)


def write_results(path: Path, results: list[BoxRow] | list[MaskRow] | dict[str, list[PanopticEntry]]) -> None:
    """Writes the json: a list of rows, or `annotations` of a panoptic one."""
    with replaced(path) as file:
        file.write(json.dumps(results).encode())


def _category_ids(labels: Tensor, label_map: LabelMap) -> list[int]:
    return [label_map.dataset_ids[label - label_map.first] for label in labels.tolist()]
