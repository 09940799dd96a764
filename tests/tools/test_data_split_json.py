"""COCO folders whose splits hold their json, `{split}/_annotations.coco.json`: check, stats and show read them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_cv.datasets.coco import CocoDetection
from lightning_cv.datasets.writers import write_coco
from lightning_cv.tools.data import main
from lightning_cv.tools.data_check import check
from lightning_cv.tools.data_check_layout import SPLIT_JSON, find_layout

SIDE = 48
COUNTS = {"train": 3, "valid": 2}


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("usual") / "drawn"
    return write_coco(root, {"train": COUNTS["train"], "val": COUNTS["valid"]}, seed=2, size=SIDE)


@pytest.fixture
def root(usual, tmp_path) -> Path:
    """The same scenes; each json numbers its images from 0, as tools do that export one split after the other."""
    root = tmp_path / "exported"
    for split, name in (("train", "train2017"), ("valid", "val2017")):
        shutil.copytree(usual / name, root / split)
        content = json.loads((usual / f"annotations/instances_{name}.json").read_text())
        number = {image["id"]: position for position, image in enumerate(content["images"])}
        for image in content["images"]:
            image["id"] = number[image["id"]]
        for item in content["annotations"]:
            item["image_id"] = number[item["image_id"]]
        (root / split / SPLIT_JSON).write_text(json.dumps(content))
    return root


def problems(root: Path) -> dict[str, int]:
    return {kind: case.total for kind, case in check(root, "coco", ()).problems.items()}


def change(root: Path, split: str, edit) -> None:
    path = root / split / SPLIT_JSON
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("above", [False, True])
def test_a_good_folder(root, capsys, above):
    if above:  # in a data root
        root = root.rename(root.with_name("coco")).parent
    assert find_layout(root, "auto") == "coco"
    assert main(["check", str(root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["layout"], report["checked"]["annotation files"], report["checked"]["pictures"]) == ("coco", 2, 5)
    assert report["notes"] == {}


def test_the_cache_of_a_large_json_is_no_picture(root, monkeypatch):
    monkeypatch.setattr("lightning_cv.datasets.coco_cache.LARGE", 0)
    CocoDetection(root, "train", annotations=f"train/{SPLIT_JSON}", images="train")
    assert (root / "train/.lightning_cv").is_dir()
    findings = check(root, "coco", ())
    assert (findings.problems, findings.notes) == ({}, {})
    assert findings.checked["pictures"] == 5


def test_damage_is_found(root):
    first, second, *_ = sorted((root / "train").glob("*.jpg"))
    first.write_bytes(first.read_bytes()[:300])
    second.unlink()
    change(root, "valid", lambda content: content["annotations"][0].update(category_id=99))
    change(root, "valid", lambda content: content["annotations"][1].update(bbox=[10, 10, 5, 0]))
    assert problems(root) == {
        "picture that cannot be read": 1,
        "missing picture": 1,
        "category that is not declared": 1,
        "box without area": 1,
    }
    (root / "valid" / SPLIT_JSON).write_text("{")
    assert problems(root)["annotation that cannot be read"] == 1


def test_splits_share_ids_but_must_not_share_pictures(root):
    train, valid = (sorted((root / split).glob("*.jpg"))[0] for split in COUNTS)
    shutil.copy(train, valid)
    case = check(root, "coco", ()).problems
    assert list(case) == ["same picture in two splits"]
    [example] = case["same picture in two splits"].examples
    assert "in train and" in example
    assert example.endswith("in valid")


def stats(capsys, *arguments: object) -> dict:
    assert main(["stats", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_stats_are_those_of_the_usual_layout(root, usual, capsys):
    for here, there in (([], []), (["--split", "valid"], ["--split", "val"])):
        found, expected = stats(capsys, root, *here), stats(capsys, usual, *there)
        assert found["images"] == (2 if here else 5)
        assert {key: found[key] for key in ("objects", "classes", "boxes")} == {
            key: expected[key] for key in ("objects", "classes", "boxes")
        }
    assert main(["stats", str(root), "--split", "val"]) == 2
    assert "has no split 'val': there are train, valid" in capsys.readouterr().err


def test_show_draws_the_same_picture(root, usual, tmp_path, capsys):
    pictures = []
    for folder, split in ((root, "valid"), (usual, "val")):
        out = tmp_path / f"{split}.png"
        options = ["--split", split, "--preset", "eval", "--size", "64", "--masks", "--out", str(out)]
        assert main(["show", str(folder), *options]) == 0
        pictures.append(np.array(Image.open(out)))
    assert np.array_equal(*pictures)
    capsys.readouterr()
    assert main(["show", str(root), "--split", "val", "--out", str(tmp_path / "x.png")]) == 2
    assert capsys.readouterr().err == f"lightning-cv data show: {root} has no split 'val': there are train, valid\n"


def test_a_folder_of_neither_kind_names_both(tmp_path, capsys):
    assert main(["check", str(tmp_path), "--layout", "coco"]) == 2
    words = "annotations/instances_*.json or panoptic_*.json, or SPLIT/_annotations.coco.json"
    assert words in capsys.readouterr().err
