"""Tiny COCO folders for tests: three images, two categories with a gap between their ids."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {7: (10, 20), 3: (12, 16), 9: (8, 8)}
"""Image id to height and width, in the order of the json."""

CATEGORIES = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 2, "name": "cat"}]


def an_image(image_id, height, width):
    return {"id": image_id, "file_name": f"{image_id:03d}.jpg", "height": height, "width": width}


def an_object(number, image_id, box, category=2, **more):
    entry = {"id": number, "image_id": image_id, "category_id": category, "bbox": box}
    return entry | {"area": 1.5, "iscrowd": 0} | more


def write_json(path, annotations, images=None, categories=None):
    images = images if images is not None else [an_image(number, *size) for number, size in SIZES.items()]
    categories = categories if categories is not None else CATEGORIES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_images(folder: Path, sizes=SIZES):
    folder.mkdir(parents=True, exist_ok=True)
    for image_id, (height, width) in sizes.items():
        Image.fromarray(np.full((height, width, 3), 20 * image_id, np.uint8)).save(folder / f"{image_id:03d}.jpg")


def write_folder(root: Path, annotations, **more) -> Path:
    """The root of a COCO folder with the split "train"; its json."""
    write_images(root / "train2017")
    return write_json(root / "annotations/instances_train2017.json", annotations, **more)
