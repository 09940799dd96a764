"""`lightning-cv data check` of COCO folders: instances and panoptic segments."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from lightning_cv.datasets.writers import write_coco
from lightning_cv.tools.data import main
from lightning_cv.tools.data_check import check
from lightning_cv.tools.data_check_rle import decode_runs, mask_problem

SIDE = 48


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("check") / "drawn"
    return write_coco(root, {"train": 2, "val": 2}, seed=2, size=SIDE)


@pytest.fixture
def root(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "copy"))


def found(root: Path, classes: tuple[str, ...] = ()) -> dict[str, int]:
    return {kind: case.total for kind, case in check(root, "coco", classes).problems.items()}


def change(root: Path, edit, name: str = "instances_val2017") -> None:
    path = root / "annotations" / f"{name}.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def set_first(key: str, value: object):
    return lambda content: content["annotations"][0].update({key: value})


def first_without(key: str):
    return lambda content: content["annotations"][0].pop(key)


def test_a_good_folder(root, capsys):
    assert main(["check", str(root)]) == 0
    assert "annotation files, " in capsys.readouterr().out


DAMAGE = {
    "no number": (set_first("bbox", [1, 2, float("nan"), 4]), "box with coordinates that are no numbers"),
    "text": (set_first("bbox", [1, "two", 3, 4]), "box with coordinates that are no numbers"),
    "negative": (set_first("bbox", [10, 10, -5, 4]), "box with swapped corners"),
    "empty": (set_first("bbox", [10, 10, 5, 0]), "box without area"),
    "outside": (set_first("bbox", [100, 10, 5, 5]), "box outside its picture"),
    "reaching out": (set_first("bbox", [40, 10, 20, 5]), "box reaching out of its picture"),
    "no box": (first_without("bbox"), "object without a box"),
    "short box": (set_first("bbox", [1, 2, 3]), "object without a box"),
    "category": (set_first("category_id", 99), "category that is not declared"),
    "image": (set_first("image_id", 99), "image that is not declared"),
    "no id": (first_without("id"), "object without an id"),
    "same id": (lambda c: c["annotations"][0].update(id=c["annotations"][1]["id"]),
                "annotation id that is there twice"),
    "crowd": (set_first("iscrowd", 2), "iscrowd that is neither 0 nor 1"),
    "rle size": (lambda c: c["annotations"][0]["segmentation"].update(size=[3, 3]),
                 "run-length mask of another size than its picture"),
    "rle runs": (set_first("segmentation", {"size": [SIDE, SIDE], "counts": "0`0"}),
                 "run-length mask whose runs do not fill its picture"),
    "raw runs": (set_first("segmentation", {"size": [SIDE, SIDE], "counts": [5, 6]}),
                 "run-length mask whose runs do not fill its picture"),
    "no runs": (set_first("segmentation", {"size": [SIDE, SIDE]}),
                "run-length mask whose runs do not fill its picture"),
    "line": (set_first("segmentation", [[1, 1, 5, 5]]), "polygon of fewer than three points"),
    "odd": (set_first("segmentation", [[1, 1, 5, 5, 9, 1, 3]]), "polygon of fewer than three points"),
    "no pixel": (set_first("segmentation", {"size": [SIDE, SIDE], "counts": [SIDE * SIDE]}), "mask without a pixel"),
    "line of three": (set_first("segmentation", [[1, 1, 5, 5, 9, 9]]), "mask without a pixel"),
    "polygon": (set_first("segmentation", [[1, 1, 5, 5, 9, 99]]), "polygon reaching out of its picture"),
    "nan polygon": (set_first("segmentation", [[1, 1, 5, float("nan"), 9, 9]]),
                    "polygon with coordinates that are no numbers"),
    "good polygon": (set_first("segmentation", [[0, 0, SIDE, 0, SIDE, SIDE]]), None),
    "no segmentation": (first_without("segmentation"), None),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "image id that is there twice"),
    "no width": (lambda c: c["images"].append({"id": 5, "file_name": "5.jpg"}),
                 "image without id, file_name, width or height"),
    "category twice": (lambda c: c["categories"].append(c["categories"][0]), "category id that is there twice"),
    "name twice": (lambda c: c["categories"].append({"id": 77, "name": c["categories"][0]["name"]}),
                   "category name that is there twice"),
    "blank name": (lambda c: c["categories"].append({"id": 77, "name": " "}), "category without id or name"),
    "no name": (lambda c: c["categories"].append({"id": 77}), "category without id or name"),
    "more images": (lambda c: c["images"].append({"id": 5, "file_name": "5.jpg", "width": 4, "height": 4}),
                    "missing picture"),
    "stated size": (lambda c: c["images"][-1].update(width=SIDE + 1), "size that differs from the picture's"),
    "no list": (lambda c: c.pop("annotations"), "annotation that cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found(root, name):
    edit, kind = DAMAGE[name]
    change(root, edit)
    kinds = found(root)
    if name == "stated size":  # the run lengths of that picture differ too
        kinds.pop("run-length mask of another size than its picture")
    assert set(kinds) == ({kind} if kind else set())


def test_damaged_files(root):
    first, second = sorted((root / "val2017").iterdir())
    first.write_bytes(first.read_bytes()[:300])
    second.unlink()
    assert found(root) == {"picture that cannot be read": 1, "missing picture": 1}
    (root / "annotations/instances_train2017.json").write_text('{"images": [')
    assert found(root)["annotation that cannot be read"] == 1


def test_duplicates_between_splits(root):
    train, val = (sorted((root / split).iterdir())[0] for split in ("train2017", "val2017"))
    shutil.copy(train, val)
    assert found(root) == {"same picture in two splits": 1}
    change(root, lambda content: content["images"].append(json.loads(
        (root / "annotations/instances_train2017.json").read_text())["images"][1]))  # fmt: skip
    assert found(root) == {"same picture in two splits": 1, "same id in two splits": 1, "missing picture": 1}


def test_pictures_that_nothing_lists_and_names_that_are_not_wanted(root):
    shutil.copy(next((root / "val2017").iterdir()), root / "val2017/other.jpg")
    findings = check(root, "coco", ("disc",))
    assert {kind: case.total for kind, case in findings.notes.items()} == {"picture that no annotation file lists": 1}
    assert list(findings.problems) == ["unknown class"]
    assert "'disc'" not in " ".join(findings.problems["unknown class"].examples)


# --- panoptic


def write_panoptic(root: Path) -> None:
    """Two pictures of 8 x 6 pixels: void, a thing with id 300 and stuff with id 70000."""
    ids = np.zeros((6, 8), np.int64)
    ids[1:4, 2:7], ids[4:] = 300, 70000
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    folder = root / "annotations/panoptic_val2017"
    for path in (folder, root / "val2017"):
        path.mkdir(parents=True)
    images, annotations = [], []
    for number in (1, 2):
        Image.fromarray(colours).save(folder / f"{number}.png")
        Image.fromarray(colours + np.uint8(number)).save(root / f"val2017/{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 8, "height": 6})
        segments = [
            {"id": 300, "category_id": 1, "iscrowd": 0, "bbox": [2, 1, 5, 3], "area": 15},
            {"id": 70000, "category_id": 92, "iscrowd": 0, "bbox": [0, 4, 8, 2], "area": 16},
        ]
        annotations.append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    categories = [{"id": 1, "name": "person", "isthing": 1}, {"id": 92, "name": "sky", "isthing": 0}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/panoptic_val2017.json").write_text(json.dumps(content))


def segment(number: int, **changes: object):
    return lambda content: content["annotations"][0]["segments_info"][number].update(changes)


PANOPTIC = {
    "good": (lambda c: None, {}),
    "id": (segment(0, id=301), {"segment in the mask that the json does not have": 1,
                                "segment in the json that the mask does not have": 1}),
    "left out": (lambda c: c["annotations"][0]["segments_info"].pop(),
                 {"segment in the mask that the json does not have": 1}),
    "twice": (lambda c: c["annotations"][0]["segments_info"].append(c["annotations"][0]["segments_info"][0]),
              {"annotation id that is there twice": 1}),
    "category": (segment(0, category_id=2), {"category that is not declared": 1}),
    "area": (segment(1, area=17), {"area that differs from the mask's": 1}),
    "crowd": (segment(0, iscrowd="yes"), {"iscrowd that is neither 0 nor 1": 1}),
    "box": (segment(0, bbox=[2, 1, 50, 3]), {"box reaching out of its picture": 1}),
    "no annotation": (lambda c: c["annotations"].pop(), {"missing annotation": 1}),
    "again": (lambda c: c["annotations"].append(c["annotations"][0]), {"image that is annotated twice": 1}),
    "image": (lambda c: c["annotations"].append(c["annotations"][0] | {"image_id": 9}),
              {"image that is not declared": 1}),
    "no segments": (lambda c: c["annotations"].append({"image_id": 1}),
                    {"annotation without image_id, file_name or segments_info": 1}),
    "file": (lambda c: c["annotations"][0].update(file_name="9.png"), {"missing mask": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", PANOPTIC)
def test_panoptic_damage_is_found_and_nothing_else(tmp_path, name):
    edit, expected = PANOPTIC[name]
    write_panoptic(tmp_path)
    change(tmp_path, edit, "panoptic_val2017")
    assert found(tmp_path) == expected


def test_panoptic_masks_that_cannot_be_used(tmp_path):
    write_panoptic(tmp_path)
    masks = tmp_path / "annotations/panoptic_val2017"
    (masks / "1.png").write_bytes((masks / "1.png").read_bytes()[:60])
    with Image.open(masks / "2.png") as mask:
        mask.resize((16, 6), Image.Resampling.NEAREST).save(masks / "2.png")
    assert found(tmp_path) == {
        "mask that cannot be read": 1,
        "size that differs from the picture's": 1,
        "area that differs from the mask's": 2,
    }


# --- run lengths


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_are_those_of_pycocotools(seed):
    mask = np.random.default_rng(seed).random((30, 40)) < [0.02, 0.3, 0.5, 0.98, 0.0][seed]
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    text = code["counts"].decode()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel(), [2]])))  # where a run ends
    assert decode_runs(text) == np.diff(np.concatenate([[0], edges])).tolist()
    assert mask_problem({"size": [30, 40], "counts": text}, width=40, height=30) == (
        "" if mask.any() else "mask without a pixel"
    )
    assert mask_problem({"size": [40, 30], "counts": text}, width=40, height=30) != ""


@pytest.mark.data
@pytest.mark.parametrize(("folder", "pictures"), [("coco", 121), ("coco_tiny", 60)])
def test_the_real_samples_are_good(shared_data, folder, pictures):
    findings = check(shared_data / folder, "coco", (), jobs=2)
    assert findings.checked["pictures"] == pictures
    assert findings.problems == {}
