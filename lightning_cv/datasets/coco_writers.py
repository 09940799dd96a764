"""What a drawn scene is in COCO's words: its entries in the instance json and the panoptic json, and its PNG.

Letters: H, W size of a scene.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle

from lightning_cv.datasets.coco_panoptic import segment_colours, spread_id
from lightning_cv.datasets.drawn import DRAWN_CLASSES, DrawnScene

GROUND = "ground"
"""The one class of drawn scenes that is stuff: all pixels that no object covers."""

GROUND_ID = 92
"""Its category id; as in COCO, where stuff begins there, ids of things and stuff have a gap between them."""

Entry = dict[str, Any]  # json: numbers, texts and lists of them


def drawn_categories() -> list[Entry]:
    """The categories of a panoptic json: 10 things, then the ground."""
    things = [{"id": label, "name": name, "isthing": 1} for label, name in enumerate(DRAWN_CLASSES, start=1)]
    return [entry | {"supercategory": "drawn"} for entry in (*things, {"id": GROUND_ID, "name": GROUND, "isthing": 0})]


class CocoPages:
    """Collects the scenes of a split, then writes `instances_*.json`, `panoptic_*.json`; PNG files as they come.

    Masks of instances are compressed run lengths of the visible pixels and areas are their sums. No crowds, no void.

    Args:
        folder: the folder `annotations`.
        name: what follows in the file names, such as "train2017".
        info: of both files.
    """

    def __init__(self, folder: Path, name: str, info: Entry) -> None:
        self.folder, self.name, self.info = folder, name, info
        self.images: list[Entry] = []
        self.objects: list[Entry] = []
        self.segmented: list[Entry] = []
        (folder / f"panoptic_{name}").mkdir(parents=True)

    def add(self, image_id: int, file_name: str, scene: DrawnScene) -> None:
        """Takes the next scene, whose picture has this name."""
        height, width = scene.class_mask.shape
        self.images.append({"id": image_id, "file_name": file_name, "height": height, "width": width})
        self.objects += _objects(image_id, scene)
        ground = scene.class_mask == 0
        masks = [*scene.instance_masks, ground] if ground.any() else [*scene.instance_masks]
        labels = [*scene.labels.tolist(), GROUND_ID]
        png = Path(file_name).with_suffix(".png").name
        self.segmented.append(
            {
                "image_id": image_id,
                "file_name": png,
                "segments_info": [_segment(n, labels[n - 1], mask) for n, mask in enumerate(masks, start=1)],
            }
        )
        ids = np.zeros((height, width), np.int32)
        for number, mask in enumerate(masks, start=1):
            ids[mask] = spread_id(number)
        Image.fromarray(segment_colours(ids)).save(self.folder / f"panoptic_{self.name}" / png, compress_level=3)

    def write(self) -> None:
        """Writes both json files."""
        categories = drawn_categories()
        things = [
            {key: value for key, value in entry.items() if key != "isthing"} for entry in categories if entry["isthing"]
        ]
        head = {"info": self.info, "licenses": [], "images": self.images}
        for kind, annotations, declared in (
            ("instances", self.objects, things),
            ("panoptic", self.segmented, categories),
        ):
            content = head | {"annotations": annotations, "categories": declared}
            (self.folder / f"{kind}_{self.name}.json").write_text(json.dumps(content))


def _objects(image_id: int, scene: DrawnScene) -> list[Entry]:
    objects = zip(scene.labels.tolist(), scene.boxes.tolist(), scene.instance_masks, strict=True)
    found: list[Entry] = []
    for number, (label, (x1, y1, x2, y2), mask) in enumerate(objects):
        code = rle.encode(np.asfortranarray(mask, np.uint8))
        found.append(
            {
                "id": image_id * 100 + number,
                "image_id": image_id,
                "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(np.count_nonzero(mask)),
                "iscrowd": 0,
                "segmentation": {"size": list(mask.shape), "counts": code["counts"].decode("ascii")},
            }
        )
    return found


def _segment(number: int, category_id: int, mask: NDArray[np.bool_]) -> Entry:
    columns, rows = np.flatnonzero(mask.any(axis=0)).tolist(), np.flatnonzero(mask.any(axis=1)).tolist()
    return {
        "id": spread_id(number),
        "category_id": category_id,
        "area": int(np.count_nonzero(mask)),
        "bbox": [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1],
        "iscrowd": 0,
    }
