"""Prediction on the images people have: any size, any mode, some broken."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from lightning_cv.cli import main
from lightning_cv.cli.fit import launch
from lightning_cv.cli.predictor import load_model, read_picture
from lightning_cv.datasets.coco_panoptic import read_png, segment_ids
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.ops.box_inference import Fused
from lightning_cv.ops.dense_inference import Averaged, Tiles

SCENES = ["--data.train=8", "--data.val=2", "--data.test=2", "--data.size=64", "--data.batch_size=4"]
SHORT = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint a task, barely trained."""
    root = tmp_path_factory.mktemp("runs")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTNING_CV_DATA", str(root / "data"))
        for name, options in (
            ("detection/ssd_drawn", SCENES),
            ("segmentation/fcn_drawn", SCENES),
            ("instance/mask_rcnn_drawn", SCENES),
            ("segmentation/multilabel_drawn", SCENES),
            ("panoptic/panoptic_fpn_drawn", SCENES),
            ("vae/beta_vae_digits", ["--trainer.limit_train_batches=1"]),
        ):
            run = launch("fit", ["--config", name, "--runs", str(root), *SHORT, *options]).run_dir
            found["multilabel" if "multilabel" in name else name.split("/")[0]] = run / "checkpoints" / "last.ckpt"
    return found


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Images as they come: sizes, modes, an EXIF rotation, a folder in the folder, and two files that are broken."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    picture.save(folder / "rgb.jpg")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.png")
    picture.convert("RGBA").save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 256).save(folder / "deep.png")
    picture.resize((33, 7)).save(folder / "more" / "rgb.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    picture.save(folder / "turned.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes((folder / "rgb.jpg").read_bytes()[:300])
    (folder / "text.png").write_text("no image")
    (folder / "notes.txt").write_text("not looked at")
    return folder


WRITTEN = {"masks", "panoptic_results"}
"""Folders of what is no picture."""
GOOD = ["alpha", "cmyk", "deep", "grey", "more/rgb", "palette", "rgb", "turned"]


@pytest.mark.parametrize("task", ["detection", "segmentation", "multilabel", "panoptic", "vae"])
def test_every_readable_image_gets_a_picture_and_the_status_tells_of_the_others(
    task: str, checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", "--ckpt", str(checkpoints[task]), "--images", str(photos), "--out", str(out)]) == 1
    errors = capsys.readouterr().err
    assert "broken.jpg" in errors
    assert "text.png" in errors
    drawn = {str(p.relative_to(out).with_suffix("")) for p in out.rglob("*.png") if not WRITTEN & set(p.parts)}
    assert drawn == set(GOOD)


def test_boxes_come_in_coco_form_in_pixels_of_the_upright_file(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    main(["predict", "--ckpt", str(checkpoints["detection"]), "--images", str(photos), "--out", str(out), "--quiet"])
    index = json.loads((out / "index.json").read_text())
    sizes = {
        image["id"]: read_picture(Path(image["file_name"])).shape
        for image in index["images"]
        if Path(image["file_name"]).name not in ("broken.jpg", "text.png")
    }
    rows = json.loads((out / "predictions.json").read_text())
    assert rows, "an untrained net at score 0.01 finds something"
    for row in rows:
        x, y, width, height = row["bbox"]
        rows_of_pixels, columns, _ = sizes[row["image_id"]]
        assert x >= -0.01
        assert y >= -0.01
        assert x + width <= columns + 0.02
        assert y + height <= rows_of_pixels + 0.02
    assert {row["category_id"] for row in rows} <= {category["id"] for category in index["categories"]}


def test_instances_are_told_with_their_masks(checkpoints: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--out", str(out), "--min-score", "0", "--show-score", "0", "--quiet"]
    assert main(["predict", "--ckpt", str(checkpoints["instance"]), "--images", str(photos / "rgb.jpg"), *options]) == 0
    rows = json.loads((out / "predictions.json").read_text())
    assert rows
    model = load_model(checkpoints["instance"], "cpu")
    image = read_picture(photos / "rgb.jpg")  # 90 x 130, shown as 64 x 64 at most
    (found,) = model.task.predict_step(model.datamodule.prepare_image(image)[None])
    assert len(rows) == len(found["scores"])
    placement = model.datamodule.placement(90, 130)
    for row, mask in zip(rows, found["masks"], strict=True):
        decoded = rle.decode(row["segmentation"])
        assert decoded.shape == (90, 130)
        for y, x in ((10, 20), (45, 65), (80, 120), (60, 30)):
            there = (
                int((y + 0.5) * placement.y_scale + placement.top),
                int((x + 0.5) * placement.x_scale + placement.left),
            )
            assert decoded[y, x] == mask[there]


def test_masks_have_the_size_of_their_image(checkpoints: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["predict", "--ckpt", str(checkpoints["segmentation"]), "--images", str(photos), "--out", str(out), "--quiet"])
    for name, size in (("rgb", (130, 90)), ("turned", (90, 130)), ("more/rgb", (33, 7))):
        with Image.open(out / "masks" / f"{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.size == size


def test_segments_come_in_the_official_form_in_pixels_of_the_file(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    main(["predict", "--ckpt", str(checkpoints["panoptic"]), "--images", str(photos), "--out", str(out), "--quiet"])
    files = {image["id"]: Path(image["file_name"]) for image in json.loads((out / "index.json").read_text())["images"]}
    entries = json.loads((out / "panoptic_results.json").read_text())["annotations"]
    assert len(entries) == len(GOOD)
    model = load_model(checkpoints["panoptic"], "cpu")
    for entry in entries:
        image = read_picture(files[entry["image_id"]])
        ids = segment_ids(read_png(out / "panoptic_results" / entry["file_name"]))
        assert ids.shape == image.shape[:2]
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in entry["segments_info"]}
        assert {segment["category_id"] for segment in entry["segments_info"]} <= set(model.label_map.dataset_ids)
    things = {number for number, thing in zip(model.label_map.dataset_ids, model.task.is_thing, strict=True) if thing}
    rows = json.loads((out / "predictions.json").read_text())
    assert rows, "an untrained net at score 0.01 finds something"
    assert {row["category_id"] for row in rows} <= things


def test_each_label_has_a_mask_where_labels_overlap(checkpoints: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["predict", "--ckpt", str(checkpoints["multilabel"]), "--images", str(photos), "--out", str(out), "--quiet"])
    model = load_model(checkpoints["multilabel"], "cpu")
    rows = {
        Path(row["file_name"]).relative_to(photos): row for row in json.loads((out / "predictions.json").read_text())
    }
    for name, (height, width) in (("rgb.jpg", (90, 130)), ("turned.jpg", (130, 90)), ("more/rgb.jpg", (7, 33))):
        image = read_picture(photos / name)
        with torch.no_grad():
            scores = model.task.predict_step(model.datamodule.prepare_image(image)[None])[0, :, :height, :width]
        masks = rows[Path(name)]["masks"]
        assert list(masks) == list(DRAWN_CLASSES)
        for plane, path in zip(scores, masks.values(), strict=True):
            assert np.array_equal(np.asarray(Image.open(out / path)), (plane > 0.5).numpy() * np.uint8(255))


def test_masks_of_labels_that_overlap_are_not_saved_for_evaluators(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--ckpt", str(checkpoints["multilabel"]), "--save-predictions", str(tmp_path / "saved"), "--runs"]
    assert main(["test", *arguments, str(tmp_path), *SHORT[1:]]) == 2
    assert (
        "label planes have no place in the formats of the official evaluators: use predict" in capsys.readouterr().err
    )


def test_a_checkpoint_away_from_its_run_still_predicts_the_same(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    moved = tmp_path / "moved.ckpt"
    moved.write_bytes(checkpoints["detection"].read_bytes())
    first, second = load_model(checkpoints["detection"], "cpu"), load_model(moved, "cpu")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pair = [model.task.predict_step(image)[0]["scores"] for model in (first, second)]
    assert torch.equal(*pair)
    assert first.label_map == second.label_map


def test_one_file_can_be_predicted_alone(checkpoints: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    arguments = ["predict", "--ckpt", str(checkpoints["vae"]), "--images", str(photos / "grey.png"), "--out"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "grey.png").is_file()


@pytest.mark.parametrize(
    ("images", "out", "message"),
    [("gone", "out", "no file or folder"), ("empty", "out", "no images in"), ("photos", "photos", "lie in --out")],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    images: str,
    out: str,
    message: str,
    checkpoints: dict[str, Path],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    before = sorted(photos.rglob("*"))
    arguments = ["--images", str(tmp_path / images), "--out", str(tmp_path / out)]
    assert main(["predict", "--ckpt", str(checkpoints["vae"]), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(photos.rglob("*")) == before


def test_transparency_is_white_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()
    Image.fromarray(np.full((4, 4), 32768, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.abs(read_picture(tmp_path / "deep.png").astype(int) - 127).max() <= 1


def test_a_checkpoint_that_is_not_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    arguments = ["--images", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    assert main(["predict", "--ckpt", str(tmp_path / "foreign.ckpt"), *arguments]) == 2
    assert "was not written by a run of lightning-cv" in capsys.readouterr().err


def test_a_second_run_leaves_its_own_results_out(checkpoints: dict[str, Path], photos: Path) -> None:
    arguments = ["predict", "--ckpt", str(checkpoints["detection"]), "--images", str(photos), "--quiet"]
    out = photos / "found"
    main([*arguments, "--out", str(out)])
    first = sorted(path.relative_to(out) for path in out.rglob("*"))
    main([*arguments, "--out", str(out)])
    assert sorted(path.relative_to(out) for path in out.rglob("*")) == first


def test_a_folder_with_other_files_is_not_written_to(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "album"
    place.mkdir()
    (place / "letter.txt").write_text("mine")
    arguments = ["--ckpt", str(checkpoints["detection"]), "--images", str(photos), "--out", str(place)]
    assert main(["predict", *arguments]) == 2
    assert "holds files that are no earlier result" in capsys.readouterr().err
    assert [path.name for path in place.iterdir()] == ["letter.txt"]


def test_files_named_as_results_are_not_taken_for_results(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name in ("index.json", "predictions.json", "grey.png"):
        (site / name).write_text('{"mine": true}')
    (photos / "index.json").write_text("[]")
    for images, out in ((photos, site), (photos, photos), (photos / "more", photos), (photos / "grey.png", photos)):
        arguments = ["--ckpt", str(checkpoints["vae"]), "--images", str(images), "--out", str(out)]
        assert main(["predict", *arguments]) == 2
        assert re.search("no earlier result|lie in --out", capsys.readouterr().err)
    assert {path.read_text() for path in site.iterdir()} == {'{"mine": true}'}
    assert (photos / "index.json").read_text() == "[]"


def test_a_folder_of_nothing_but_results_is_no_folder_of_images(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    arguments = ["predict", "--ckpt", str(checkpoints["vae"]), "--images", str(folder), "--out", str(folder / "found")]
    assert main(arguments) == 0
    (folder / "a.png").unlink()
    assert main(arguments) == 2
    assert "no images in" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["bogus", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(
    device: str, checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--images", str(photos), "--out", str(tmp_path / "out"), "--device", device]
    assert main(["predict", "--ckpt", str(checkpoints["vae"]), *arguments]) == 2
    assert f"--device {device}: not usable here; valid: auto, cpu" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


DENSE = "lightning_cv.ops.dense_inference."
TILES = f"{{class_path: {DENSE}Tiles, init_args: {{size: 64, step: 32, within: {DENSE}Averaged}}}}"


def test_masks_are_found_as_asked_for_instead_of_as_the_checkpoint_says(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    plain = load_model(checkpoints["segmentation"], "cpu")
    image = plain.datamodule.prepare_image(read_picture(photos / "rgb.jpg"))[None]
    for text, inference in (
        (DENSE + "Averaged", Averaged()),
        (TILES, Tiles(64, 32, Averaged())),
        (json.dumps({"class_path": DENSE + "Averaged", "init_args": {"scales": [2.0]}}), Averaged([2.0])),
        ("null", None),
    ):
        out = tmp_path / str(len(text))
        options = ["--images", str(photos / "rgb.jpg"), "--out", str(out), "--quiet", "--inference", text]
        assert main(["predict", "--ckpt", str(checkpoints["segmentation"]), "--device", "cpu", *options]) == 0
        plain.task.inference = inference
        with torch.inference_mode():
            (expected,) = plain.task.predict_step(image)
        with Image.open(out / "masks" / "rgb.png") as mask:
            assert np.array_equal(np.array(mask), expected[:90, :130])


def test_boxes_are_found_as_asked_for(checkpoints: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    block = '{"class_path": "lightning_cv.ops.box_inference.Fused", "init_args": {"scales": [1.0, 1.5], "top": 7}}'
    fused = load_model(checkpoints["detection"], "cpu", block)
    assert isinstance(fused.task.inference, Fused)
    options = ["--images", str(photos / "rgb.jpg"), "--out", str(tmp_path / "out"), "--inference", block]
    assert main(["predict", "--ckpt", str(checkpoints["detection"]), "--min-score", "0", *options]) == 0
    assert len(json.loads((tmp_path / "out/predictions.json").read_text())) == 7


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("vae", DENSE + "Averaged", "the checkpoint is of VAEModule, which looks at images in one way only"),
        ("segmentation", "lightning_cv.ops.box_inference.Fused", "SegModule takes a DenseInference: Import path"),
        ("detection", DENSE + "Averaged", "SingleStageDetector takes a BoxInference: Import path"),
        ("segmentation", f"{{class_path: {DENSE}Tiles, init_args: {{sizes: 9}}}}", "'sizes' is not accepted"),
        ("segmentation", f"{{class_path: {DENSE}Tiles, init_args: {{size: 4}}}}", "step must be from 1 to size, got"),
        ("segmentation", DENSE + "Tile", "has no attribute 'Tile'"),
        ("segmentation", "{a: [", "expected the node content"),
        ("segmentation", "7", "Not a valid subclass of DenseInference"),
        ("instance", "lightning_cv.ops.box_inference.Fused", "masks cannot be brought together"),
    ],
)  # fmt: skip
def test_a_way_to_look_that_is_not_the_tasks_is_refused(
    task: str, text: str, message: str, checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys
) -> None:
    arguments = ["--images", str(photos), "--out", str(tmp_path / "out"), "--inference", text]
    assert main(["predict", "--ckpt", str(checkpoints[task]), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_saved_predictions_score_as_the_test_did(checkpoints: dict[str, Path], tmp_path: Path, capsys) -> None:
    """What `test` saves, `evaluate` reads: the same mIoU, and the same mAP."""
    data = checkpoints["detection"].parents[4] / "data/drawn"
    year = next(data.glob("voc-64px-*")) / "VOCdevkit/VOC2007"
    for kind, options, figures in (
        ("detection", ["voc-detection"], {"map@0.5": "test/map_50"}),
        ("segmentation", ["voc-segmentation", "--classes", ",".join(DRAWN_CLASSES)], {"miou": "test/miou"}),
    ):
        out = tmp_path / kind
        arguments = ["--ckpt", str(checkpoints[kind]), "--save-predictions", str(out), "--runs", str(tmp_path), *SHORT]
        measured = launch("test", arguments[:-1]).metrics
        capsys.readouterr()
        assert main(["evaluate", *options, "--gt", str(year), "--pred", str(out), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["images"] == 2
        for theirs, ours in figures.items():
            assert found["figures"][theirs] == pytest.approx(measured[ours], abs=1e-6)


def test_the_format_of_saved_predictions(checkpoints: dict[str, Path], tmp_path: Path, capsys) -> None:
    ckpt, out = ["--ckpt", str(checkpoints["detection"]), "--runs", str(tmp_path), *SHORT], tmp_path / "saved"
    launch("test", [*ckpt[:-1], "--save-predictions", str(out), "--save-format", "boxes-txt"])
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == [
        "boxes-txt/test_000000.txt", "boxes-txt/test_000001.txt",
    ]  # fmt: skip
    rows = [line.split() for path in out.rglob("*.txt") for line in path.read_text().splitlines()]
    assert {name for name, *_ in rows} <= set(DRAWN_CLASSES)
    capsys.readouterr()
    for options, message in (
        (["--save-predictions", str(out), "--save-format", "coco"], "image 'test_000000' cannot be saved in COCO's"),
        (["--save-predictions", str(out), "--save-format", "png"], "got png; Valid: auto, voc, coco, boxes-txt"),
        (["--save-format", "voc"], "--save-format is of --save-predictions DIR, which is not given"),
        (["--save-predictions", str(out), "--trainer.max_epoch=1"], "no key trainer.max_epoch; did you mean"),
    ):
        assert main(["test", *ckpt, *options]) == 2
        assert message in capsys.readouterr().err
