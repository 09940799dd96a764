"""`lightning-cv predict`: a checkpoint used on images of one's own, drawn and in a machine-readable form."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track

from lightning_cv.callbacks.predictions import coco_rows
from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli.settings import untrained
from lightning_cv.contracts import Detections, LabelMap, Placement
from lightning_cv.datamodules.base import DataModule, DetectionDataModule
from lightning_cv.errors import UserError
from lightning_cv.tasks import DetectionTask, SegModule, Task
from lightning_cv.tasks.base import CHECKPOINT_KEY
from lightning_cv.transforms import restore_boxes
from lightning_cv.viz.boxes import above_score, detections_picture
from lightning_cv.viz.canvas import beside, picture
from lightning_cv.viz.masks import overlay, save_class_mask

set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")

Picture = NDArray[np.uint8]  # (H, W, 3)


class Model(NamedTuple):
    """A checkpoint ready for use: the task with its net, and the data module that prepares images for it."""

    task: Task
    datamodule: DataModule
    label_map: LabelMap


def main(argv: list[str]) -> int:
    """Predict on every image; 0 when all were read, 1 when some were not."""
    options = _parser().parse_args(argv)
    if options.out.is_dir() and any(options.out.iterdir()) and not (options.out / "index.json").is_file():
        raise UserError(f"--out {options.out} holds files that are no earlier result: choose a new or empty folder")
    files = [(file, name) for file, name in _images(options.images) if not _lies_in(file, options.out)]
    model = load_model(options.ckpt, options.device)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {options.out}: {error.strerror}") from error
    results: list[dict[str, Any]] = []
    unreadable: list[str] = []
    try:
        for number, (file, name) in enumerate(track(files, "predicting", disable=options.quiet), start=1):
            try:
                image = read_picture(file)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                unreadable.append(f"{file}: {error}")
                continue
            results += _predict(model, image, number, name, file, options)
    finally:  # what was found stays, however it ends
        _write_index(model, results, files, options.out)
    for line in unreadable:
        print(f"skipped {line}", file=sys.stderr)
    print(f"{len(files) - len(unreadable)} of {len(files)} images -> {options.out}")
    return 1 if unreadable else 0


def load_model(ckpt: Path, device: str = "auto") -> Model:
    """The net, task and data preparation that a checkpoint describes, with its weights, ready to predict.

    Raises:
        UserError: the checkpoint does not hold what is needed.
    """
    content = load_checkpoint(ckpt)
    record = content.get(CHECKPOINT_KEY, {})
    if "settings" not in record or not record.get("label_map"):
        raise UserError(f"{ckpt} does not say which net it is of: it was not written by a run of lightning-cv")
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(Task, "model")
    parser.add_subclass_arguments(DataModule, "data")
    settings = {key: untrained(record["settings"][key]) for key in ("model", "data")}
    built = parser.instantiate(parser.parse_string(yaml.safe_dump(settings)))
    task: Task = built.model
    task.on_load_checkpoint(content)
    task.load_state_dict(content["state_dict"])
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    assert task.label_map is not None
    return Model(task.eval().to(chosen), built.data, task.label_map)


def read_picture(file: Path) -> Picture:
    """Any image file as RGB (H, W, 3): turned as its EXIF says, transparency on white, 16 bits scaled to 8."""
    with Image.open(file) as opened:
        picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I") or picture.mode == "F":
            values = np.asarray(picture, dtype=np.float64)
            top = 65535.0 if picture.mode.startswith("I") and values.max() > 255 else max(values.max(), 1.0)
            picture = Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            rgba = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return np.array(picture.convert("RGB"))


def _predict(
    model: Model, image: Picture, number: int, name: str, file: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Predict one image, write its picture, return its rows of the machine-readable result."""
    tensor = model.datamodule.prepare_image(image)
    with torch.inference_mode():
        output = model.task.predict_step(tensor[None].to(model.task.device))
    place: Path = options.out / f"{name}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(model.task, DetectionTask):
        assert isinstance(model.datamodule, DetectionDataModule)
        placement = model.datamodule.placement(*image.shape[:2])
        found = _in_file_pixels(output[0], placement, options.min_score)
        shown = above_score(found, options.show_score)
        Image.fromarray(detections_picture(image, shown, model.label_map)).save(place)
        return coco_rows(number, found, model.label_map)
    if isinstance(model.task, SegModule):
        mask = output[0, : image.shape[0], : image.shape[1]].cpu().numpy().astype(np.uint8)
        save_class_mask(output[0, : image.shape[0], : image.shape[1]], options.out / "masks" / f"{name}.png")
        Image.fromarray(overlay(image, mask)).save(place)
        return [{"image_id": number, "file_name": str(file), "mask": f"masks/{name}.png"}]
    Image.fromarray(beside([picture(tensor), picture(output[0])])).save(place)
    return [{"image_id": number, "file_name": str(file), "reconstruction": f"{name}.png"}]


def _in_file_pixels(found: Detections, placement: Placement, min_score: float) -> Detections:
    """Detections of at least a score, boxes in pixels of the file that the image shows so."""
    keep = found["scores"] >= min_score
    boxes = restore_boxes(found["boxes"][keep].cpu(), placement)
    return {"boxes": boxes, "scores": found["scores"][keep].cpu(), "labels": found["labels"][keep].cpu()}


def _write_index(model: Model, results: list[dict[str, Any]], files: list[tuple[Path, str]], out: Path) -> None:
    """predictions.json (for boxes in COCO's result format), and what its numbers mean."""
    (out / "predictions.json").write_text(json.dumps(results, indent=1) + "\n")
    images = [{"id": number, "file_name": str(file)} for number, (file, _) in enumerate(files, start=1)]
    known = zip(model.label_map.dataset_ids, model.label_map.names, strict=True)
    categories = [{"id": number, "name": name} for number, name in known]
    (out / "index.json").write_text(json.dumps({"images": images, "categories": categories}, indent=1) + "\n")


def _lies_in(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _images(place: Path) -> list[tuple[Path, str]]:
    """Files to predict on, and each result's name: the path below the folder, with the suffix where two clash."""
    if place.is_file():
        return [(place, place.stem)]
    if not place.is_dir():
        raise UserError(f"no file or folder {place}")
    files = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"no images in {place}; looked for {' '.join(SUFFIXES)}")
    names = [str(path.relative_to(place).with_suffix("")) for path in files]
    return list(_unique(files, names, place))


def _unique(files: list[Path], names: list[str], root: Path) -> Iterator[tuple[Path, str]]:
    counts = Counter(names)
    for file, name in zip(files, names, strict=True):
        yield file, name if counts[name] == 1 else str(file.relative_to(root)).replace(".", "_")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv predict",
        description="Use a checkpoint on images: drawn pictures, and predictions.json (COCO results for boxes) with "
        "index.json (image and class names), or palette PNGs for class masks.",
    )
    parser.add_argument("--ckpt", type=Path, required=True, help="checkpoint of a run")
    parser.add_argument("--images", type=Path, required=True, help="an image, or a folder that is searched for images")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, made if it does not exist")
    parser.add_argument("--min-score", type=float, default=0.01, help="lowest score that is written (default 0.01)")
    parser.add_argument("--show-score", type=float, default=0.3, help="lowest score that is drawn (default 0.3)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
