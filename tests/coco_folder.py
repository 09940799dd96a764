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


SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]


def small_folder(tmp_path):
    """Objects of images 7 and 3 in mixed order, one of them a crowd; image 9 has none."""
    runs = {"size": [12, 16], "counts": [12, 24, 156]}  # the second and third of 16 columns
    write_folder(
        tmp_path,
        [
            an_object(11, 3, [1, 0, 2, 12], category=18, iscrowd=1, segmentation=runs),
            an_object(12, 7, [0.5, 1, 2.25, 3], segmentation=SQUARE),
            an_object(10, 3, [4, 4, 3, 5], segmentation=SQUARE),
            an_object(13, 7, [0, 0, 20, 10], category=18, segmentation=SQUARE),
        ],
    )
    return tmp_path


def samples_of(dataset):
    return [dataset[index] for index in range(len(dataset))]
