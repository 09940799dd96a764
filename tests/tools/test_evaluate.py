"""`lightning-cv evaluate`: the official evaluators' numbers on saved predictions."""

import json
import math

import numpy as np
import pytest
from coco_folder import an_object, write_json
from PIL import Image
from voc_folder import voc_folder

from lightning_cv.cli import main
from lightning_cv.tools.evaluate import Scores, table


def scores(capsys, *arguments):
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


# --- golden numbers


@pytest.mark.data
@pytest.mark.parametrize("ap", ["area", "11point"])
def test_voc_detection_on_real_ground_truth(shared_data, capsys, ap):
    golden = shared_data / "golden_pred/VOC2007"
    found = scores(
        capsys, "voc-detection", "--gt", shared_data / "VOCdevkit/VOC2007", "--pred", golden / "Main", "--ap", ap,
        "--iou", 0.5, 0.75,
    )  # fmt: skip
    assert found["images"] == 128
    for iou in ("0.5", "0.75"):
        expected = json.loads((golden / "expected.json").read_text())[f"{ap}@{iou}"]
        assert found["figures"][f"map@{iou}"] == pytest.approx(expected["mAP_over_classes_with_npos"], abs=1e-6)
        for name, value in expected["per_class"].items():
            assert found["per_class"][name][f"ap@{iou}"] == pytest.approx(value, abs=1e-6), name
            assert found["per_class"][name]["objects"] == expected["npos"][name]


@pytest.mark.data
def test_voc_segmentation_on_real_ground_truth(shared_data, capsys):
    golden = shared_data / "golden_pred/VOC2007/Segmentation"
    found = scores(capsys, "voc-segmentation", "--gt", shared_data / "VOCdevkit/VOC2007", "--pred", golden)
    expected = json.loads((golden / "expected.json").read_text())
    assert found["images"] == 35
    assert [row["iou"] for row in found["per_class"].values()] == pytest.approx(expected["iou"], abs=1e-6)
    figures = found["figures"]
    names = {"miou": "miou_over_present", "pixel_accuracy": "pixel_acc", "mean_accuracy": "mean_class_acc"}
    assert {name: figures[name] for name in names} == {
        name: pytest.approx(expected[theirs], abs=1e-6) for name, theirs in names.items()
    }


@pytest.mark.data
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_on_real_ground_truth(shared_data, capsys, kind):
    golden = shared_data / "golden_pred/coco_tiny_val2017"
    found = scores(
        capsys, "coco", "--gt", shared_data / "coco_tiny/annotations/instances_val2017.json",
        "--pred", golden / f"{kind}_results.json", "--iou-type", kind,
    )  # fmt: skip
    expected = json.loads((golden / "expected.json").read_text())[kind]
    assert found["figures"] == {f"{kind}_{name}": pytest.approx(value, abs=1e-6) for name, value in expected.items()}


@pytest.mark.data
def test_panoptic_on_real_ground_truth(shared_data, capsys):
    golden = shared_data / "golden_pred/panoptic_val2017"
    truth = shared_data / "coco/annotations/panoptic_val2017.json"
    found = scores(capsys, "coco-panoptic", "--gt", truth, "--pred", golden / "panoptic_pred.json")
    expected = json.loads((golden / "expected.json").read_text())
    for part in ("All", "Things", "Stuff"):
        for figure in ("pq", "sq", "rq"):
            value = found["figures"][f"{figure}_{part.lower()}"]
            assert value == pytest.approx(expected[part][figure], abs=1e-6), (part, figure)
        assert found["figures"][f"classes_{part.lower()}"] == expected[part]["n"]
    names = {entry["id"]: entry["name"] for entry in json.loads(truth.read_text())["categories"]}
    for number, row in expected["per_class"].items():
        assert found["per_class"][names[int(number)]] == pytest.approx(row, abs=1e-6), number


TOY = {
    "area": {0.1: 0.3371980676, 0.3: 0.2456866804, 0.5: 0.0222222222, 0.75: 0.0},
    "11point": {0.1: 0.3333333333, 0.3: 0.2683982683, 0.5: 0.0303030303, 0.75: 0.0},
}


@pytest.mark.data
@pytest.mark.parametrize("ap", TOY)
def test_toy_boxes(shared_data, capsys, ap):
    folder = shared_data / "golden/object_detection_metrics"
    found = scores(
        capsys, "boxes-txt", "--gt", folder / "groundtruths", "--pred", folder / "detections", "--ap", ap,
        "--iou", *TOY[ap],
    )  # fmt: skip
    assert found["figures"] == {f"map@{iou:g}": pytest.approx(value, abs=1e-9) for iou, value in TOY[ap].items()}


# --- by hand


def write_results(folder, lines, split="val"):
    """Files of all VOC classes, empty but for the lines by class."""
    from lightning_cv.datasets.voc import VOC_CLASSES

    folder.mkdir(exist_ok=True)
    for name in VOC_CLASSES:
        (folder / f"comp4_det_{split}_{name}.txt").write_text(lines.get(name, ""))
    return folder


def voc(tmp_path, lines):
    tmp_path.mkdir(exist_ok=True)
    root = voc_folder(tmp_path)
    return [
        "voc-detection", "--gt", root / "VOCdevkit/VOC2007", "--split", "val",
        "--pred", write_results(tmp_path / "results", lines),
    ]  # fmt: skip


def test_equal_scores_rank_in_the_order_of_the_file(tmp_path, capsys):
    """The only object is found by the second line: precision 1/2, by the first: 1."""
    hit, miss = "c 0.5 2 1 7 7\n", "c 0.5 12 1 20 10\n"
    arguments = voc(tmp_path, {"tvmonitor": miss + hit})
    assert scores(capsys, *arguments)["figures"] == {"map@0.5": 0.5}
    write_results(tmp_path / "results", {"tvmonitor": hit + miss})
    found = scores(capsys, *arguments)
    assert found["figures"] == {"map@0.5": 1.0}
    assert found["per_class"]["dog"] == {"objects": 0, "ap@0.5": None}


def test_strict_asks_for_more_than_the_overlap(tmp_path, capsys):
    for place, line in (("gt", "a 0 0 9 9\n"), ("pred", "a 0.5 0 0 9 4\n")):  # 10 x 10 and 10 x 5 pixels
        (tmp_path / place).mkdir()
        (tmp_path / place / "1.txt").write_text(line)
    arguments = ["boxes-txt", "--gt", tmp_path / "gt", "--pred", tmp_path / "pred"]
    assert scores(capsys, *arguments)["figures"] == {"map@0.5": 1.0}
    assert scores(capsys, *arguments, "--strict")["figures"] == {"map@0.5": 0.0}


def test_the_table_names_classes_without_a_figure():
    text = table(Scores(3, {"miou": 0.5}, {"dog": {"iou": 0.5}, "cat": {"iou": math.nan}}, ["cat"]))
    assert text.splitlines() == [
        "images           3", "miou      0.500000", "",
        "class          iou", "dog       0.500000", "", "absent, in no mean: cat",
    ]  # fmt: skip
    rows = {"dog": {"iou": 0.5}, "cow": {"iou": 0.0}}
    assert table(Scores(3, {"miou": 0.25}, rows, [], ["cow"])).endswith("\n\nnot in the truth, count as 0: cow")


# --- bad input: one message that names the place, status 2


def refused(capsys, arguments, *pieces):
    assert main(["evaluate", *map(str, arguments)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    for piece in pieces:
        assert piece in error, error
    assert error.startswith("lightning-cv evaluate: ")


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("x 0.5 1 1 5 5", ["comp4_det_val_dog.txt, line 2", "image x", "list val"]),
        ("c nan 1 1 5 5", ["comp4_det_val_dog.txt, line 2"]),
        ("c 0.5 8 1 5 5", ["comp4_det_val_dog.txt, line 2", "far corner"]),
        ("c 0.5 1 1 5", ["comp4_det_val_dog.txt, line 2"]),
        ('{"image_id": 1}', ["comp4_det_val_dog.txt, line 2"]),
    ],
)
def test_voc_lines_that_cannot_be(tmp_path, capsys, line, pieces):
    refused(capsys, voc(tmp_path, {"dog": f"c 0.5 1 1 5 5\n{line}\n"}), *pieces)


def test_voc_files_that_cannot_be(tmp_path, capsys):
    arguments = voc(tmp_path, {})
    refused(capsys, arguments, "all result files are empty")
    (tmp_path / "results/comp4_det_val_zebra.txt").write_text("")
    refused(capsys, arguments, "comp4_det_val_zebra.txt", "unknown class")
    (tmp_path / "results/comp4_det_val_zebra.txt").unlink()
    (tmp_path / "results/comp4_det_val_cat.txt").unlink()
    refused(capsys, arguments, "no file", "comp4_det_val_cat.txt")
    (tmp_path / "results/comp3_det_val_cat.txt").write_text("")
    refused(capsys, arguments, "comp3 and comp4")
    refused(capsys, [*arguments[:-1], tmp_path / "nowhere"], "--pred", "nowhere")
    refused(capsys, ["voc-detection", "--gt", tmp_path, "--pred", tmp_path], "no VOC year folder")
    refused(capsys, [*arguments, "--iou", "1.5"], "--iou", "1.5")
    refused(
        capsys,
        ["voc-detection", "--gt", arguments[2], "--split", "train", *arguments[5:]],
        "split train",
        "of split val",
    )


def test_masks_that_cannot_be(tmp_path, capsys):
    folder, year = tmp_path / "masks", voc_folder(tmp_path) / "VOCdevkit/VOC2007"
    folder.mkdir()
    arguments = ["voc-segmentation", "--gt", year, "--split", "val", "--pred", folder]
    refused(capsys, arguments, "no PNG file")

    def write(name, height=10, value=15):
        Image.fromarray(np.full((height, 20), value, np.uint8)).save(folder / f"{name}.png")

    write("c")
    assert scores(capsys, *arguments)["figures"]["miou"] == pytest.approx(0.5 * (0 + 90 / 190))
    write("c", value=3)  # only a class that is not there: in the mean, with 0
    found = scores(capsys, *arguments)
    assert found["per_class"]["bird"]["iou"] == 0
    assert "bird" not in found["absent"]
    assert found["invented"] == ["bird"]
    assert "boat" in found["absent"]
    (folder / "c.png").unlink()
    write("a")
    refused(capsys, arguments, "a.png")
    (folder / "a.png").rename(folder / "c.png")
    write("c", height=9)
    refused(capsys, arguments, "c.png is 20 x 9 pixels", "20 x 10")
    write("c", value=21)
    refused(capsys, arguments, "c.png holds the class numbers [21]")
    write("c")
    write("strange")
    refused(capsys, arguments, "strange.png")
    (folder / "strange.png").unlink()
    (folder / "c.png").write_text("not a picture")
    refused(capsys, arguments, "c.png")


def coco(tmp_path, results, *more):
    triangle = {"segmentation": [[1, 1, 5, 1, 5, 5]]}
    truth = write_json(
        tmp_path / "truth.json",
        [an_object(1, 7, [1, 1, 4, 4], **triangle), an_object(2, 3, [2, 2, 8, 8], 18, **triangle)],
    )
    (tmp_path / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    return ["coco", "--gt", truth, "--pred", tmp_path / "results.json", *more]


def a_result(image_id=7, category=2, box=(1, 1, 4, 4), score=0.5, **more):
    return {"image_id": image_id, "category_id": category, "bbox": list(box), "score": score} | more


def test_coco_results_by_hand(tmp_path, capsys):
    found = scores(capsys, *coco(tmp_path, [a_result()]))
    assert found["per_class"] == {"dog": {"bbox_AP": 0.0}, "cat": {"bbox_AP": pytest.approx(1.0)}}
    assert found["figures"]["bbox_AP"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("results", "pieces"),
    [
        ([a_result(), a_result(image_id=99)], ["results[1]", "image_id 99"]),
        ([a_result(category=1)], ["results[0]", "category_id 1"]),
        ([a_result(score=float("nan"))], ["results[0]", "score nan"]),
        ([a_result(box=(1, 1, -4, 4))], ["results[0]", "negative width"]),
        ([a_result(box=(1, 1, 4))], ["results[0]", "x, y, width, height"]),
        ([a_result(id=5), a_result(id=5)], ["results[1]", "id 5", "second entry"]),
        ([a_result(image_id=[1])], ["results[0]", "image_id [1]"]),
        ([a_result(category={})], ["results[0]", "category_id {}"]),
        (json.dumps([a_result()]).replace("0.5", "9" * 400), ["results[0]", "no finite number"]),
        ([], ["holds no result"]),
        ("", ["is not JSON"]),
        ({"annotations": []}, ["no list of COCO results"]),
        ([17], ["results[0]", "image_id None"]),
    ],
)
def test_coco_results_that_cannot_be(tmp_path, capsys, results, pieces):
    refused(capsys, coco(tmp_path, results), "results.json", *pieces)


def change_truth(tmp_path, change):
    content = json.loads((tmp_path / "truth.json").read_text())
    change(content)
    (tmp_path / "truth.json").write_text(json.dumps(content))


def first(kind, **values):
    return lambda content: content[kind][0].update(values)


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        (first("annotations", area=None), ["annotations[0]", "area"]),
        (first("annotations", iscrowd=None), ["annotations[0]", "iscrowd"]),
        (first("annotations", id=2), ["annotations[1] (id 2)", "second entry"]),
        (first("annotations", category_id=999), ["annotations[0]", "category_id 999"]),
        (first("annotations", image_id=999), ["annotations[0]", "image_id 999"]),
        (first("annotations", bbox=[1, 1, float("nan"), 4]), ["annotations[0]", "bbox"]),
        (first("annotations", segmentation=[[1, 2]]), ["annotations[0]", "three points"]),
        (first("annotations", segmentation={"size": [3, 3], "counts": [9]}), ["annotations[0]", "another size"]),
        (
            first("annotations", segmentation={"size": [10, 20], "counts": [0.5, 199.5]}),
            ["annotations[0]", "do not fill"],
        ),
        (first("annotations", segmentation=[[1, 1, 5e6, 1, 5, 5]]), ["annotations[0]", "far outside", "10 x 20"]),
        (first("annotations", segments_info=[]), ["panoptic json"]),
        (first("images", id=3), ["images[1] (id 3)", "second entry"]),
        (first("images", height=None), ["annotations[0]", "height and width of image 7"]),
        (lambda content: content["images"].append("x"), ["images[3]", "whole number"]),
        (first("categories", name=None), ["categories[0]", "no name"]),
        (first("categories", name="cat"), ["categories[1]", "a second category of the name 'cat'"]),
    ],
)
def test_a_ground_truth_that_no_figure_can_be_made_of(tmp_path, capsys, change, pieces):
    arguments = coco(tmp_path, [a_result()], "--iou-type", "bbox", "segm")
    change_truth(tmp_path, change)
    refused(capsys, arguments, "truth.json", *pieces)


def test_options_of_other_kinds_are_refused(tmp_path, capsys):
    refused(capsys, coco(tmp_path, [a_result()], "--iou", "0.75"), "--iou is an option of voc-detection and boxes-txt")
    refused(capsys, coco(tmp_path, [a_result()], "--strict"), "--strict")
    refused(capsys, [*voc(tmp_path / "v", {}), "--iou-type", "segm"], "--iou-type is an option of coco")
    for names in ("a,,b", "a, a"):
        refused(capsys, [*voc(tmp_path / names, {}), "--classes", names], "--classes")


def panoptic(tmp_path, change=lambda content: None, pixels=1):
    """One image of 4 x 4 pixels, one segment; the prediction equals the truth but for `change`."""
    for name, value in (("truth", 1), ("pred", pixels)):
        (tmp_path / name).mkdir(exist_ok=True)
        colours = np.zeros((4, 4, 3), np.uint8)
        colours[..., 0] = value
        Image.fromarray(colours).save(tmp_path / name / "a.png")
        entry = {"image_id": 7, "file_name": "a.png", "segments_info": [{"id": 1, "category_id": 2, "iscrowd": 0}]}
        content = {"images": [{"id": 7, "height": 4, "width": 4}], "annotations": [entry]}
        content["categories"] = [{"id": 2, "name": "cat", "isthing": 1}]
        if name == "pred":
            change(content)
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return ["coco-panoptic", "--gt", tmp_path / "truth.json", "--pred", tmp_path / "pred.json"]


def test_panoptic_by_hand(tmp_path, capsys):
    assert scores(capsys, *panoptic(tmp_path))["per_class"] == {"cat": {"pq": 1.0, "sq": 1.0, "rq": 1.0}}


def set_in(entry, **values):
    return lambda content: content["annotations"][0].update(values) if entry is None else (
        content["annotations"][0]["segments_info"][entry].update(values)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "pixels", "pieces"),
    [
        (set_in(None, image_id=8), 1, ["image_id 8"]),
        (set_in(0, category_id=9), 1, ["image 7", "segment 1", "category_id 9"]),
        (set_in(None), 3, ["image 7", "[3]"]),
        (lambda content: content.pop("annotations"), 1, ["no annotations", "other format"]),
        (lambda content: content["annotations"].clear(), 1, ["holds no annotation"]),
        (lambda content: content["annotations"].extend(content["annotations"]), 1, ["annotation [1]", "image 7"]),
        (set_in(None, file_name=None), 1, ["annotation [0]", "file_name"]),
        (set_in(None, file_name="../truth/a.png"), 1, ["image 7", "leads out"]),
        (set_in(None, file_name="b.png"), 1, ["no file", "b.png"]),
        (set_in(0, category_id=[1]), 1, ["image 7", "segment 1", "category_id [1]"]),
        (set_in(0, id=10**30), 1, ["image 7", "no whole number"]),
    ],
)
def test_panoptic_results_that_cannot_be(tmp_path, capsys, change, pixels, pieces):
    refused(capsys, panoptic(tmp_path, change, pixels), "pred", *pieces)


def test_a_fault_of_the_panoptic_truth_is_not_blamed_on_the_prediction(tmp_path, capsys):
    arguments = panoptic(tmp_path)
    change_truth(tmp_path, set_in(0, id=3))
    refused(capsys, arguments, "truth.json: image 7", "not listed")


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("a 0.5 0 0 9", ["1.txt, line 1", "class score x y width height"]),
        ("a inf 0 0 9 9", ["1.txt, line 1", "not finite"]),
        ("a 0.5 0 0 -9 9", ["1.txt, line 1", "negative"]),
        ("b 0.5 0 0 9 9", ["1.txt, line 1", "unknown class 'b'"]),
        ("", ["holds no box"]),
    ],
)
def test_box_lists_that_cannot_be(tmp_path, capsys, line, pieces):
    for place, text in (("gt", "a 0 0 9 9\n"), ("pred", line)):
        (tmp_path / place).mkdir()
        (tmp_path / place / "1.txt").write_text(text)
    arguments = ["boxes-txt", "--gt", tmp_path / "gt", "--pred", tmp_path / "pred"]
    refused(capsys, arguments, *pieces)


def test_a_box_list_of_an_unknown_image(tmp_path, capsys):
    for place, name, text in (("gt", "1", "a 0 0 9 9\n"), ("pred", "2", "a 0.5 0 0 9 9\n")):
        (tmp_path / place).mkdir()
        (tmp_path / place / f"{name}.txt").write_text(text)
    refused(capsys, ["boxes-txt", "--gt", tmp_path / "gt", "--pred", tmp_path / "pred"], "2.txt", "no such image")
