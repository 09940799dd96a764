"""The work of `lightning-cv predict`: a checkpoint made ready, one image after the other, the files that tell of it."""

import argparse
import json
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser, set_parsing_settings
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.progress import track
from torch import Tensor

from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.cli.diagnose import constructor_words
from lightning_cv.cli.settings import untrained
from lightning_cv.contracts import DetectionBatch, Detections, FoundSegments, LabelMap, Placement
from lightning_cv.datamodules.base import DataModule, DetectionDataModule
from lightning_cv.datamodules.coco import CocoPanopticDataModule
from lightning_cv.datasets.coco_results import PanopticEntry, box_rows, write_results, write_segments
from lightning_cv.errors import UserError, is_out_of_memory
from lightning_cv.metrics.detection import run_lengths
from lightning_cv.ops.masks import masks_in_file_pixels
from lightning_cv.ops.segments import in_file_pixels
from lightning_cv.tasks import DetectionTask, MultilabelSegModule, PanopticModule, SegModule, Task
from lightning_cv.tasks.base import CHECKPOINT_KEY
from lightning_cv.transforms import restore_boxes
from lightning_cv.viz.boxes import above_score, detections_picture
from lightning_cv.viz.canvas import beside, picture
from lightning_cv.viz.labels import tint_labels
from lightning_cv.viz.masks import overlay, save_class_mask
from lightning_cv.viz.panoptic import segments_picture

if TYPE_CHECKING:  # only some nets need it
    from lightning_cv.datasets.selective_search import SelectiveSearch

set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

Picture = NDArray[np.uint8]  # (H, W, 3)


class Model(NamedTuple):
    """A checkpoint ready for use: the task with its net, and the data module that prepares images for it."""

    task: Task
    datamodule: DataModule
    label_map: LabelMap
    divided: list[PanopticEntry]
    """What panoptic predictions add to, an entry an image."""
    search: "SelectiveSearch | None" = None
    """Finds what a net judges that was trained on proposals of its data."""


def predict_all(files: list[tuple[Path, str]], options: argparse.Namespace, mark: dict[str, str]) -> list[str]:
    """Predict on files under their names into `options.out`; a line for each that was not read or did not fit memory.

    Args:
        files: each image and the name of its result.
        options: as `cli.predict` parses them.
        mark: what index.json says of itself, by which a later call knows the folder.
    """
    from lightning_cv.cli.search import search_of

    model = load_model(options.ckpt, options.device, options.inference)
    model = model._replace(search=search_of(model.task, model.datamodule, options.proposals))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {options.out}: {error.strerror}") from error
    results: list[dict[str, Any]] = []
    skipped: list[str] = []
    try:
        for number, (file, name) in enumerate(track(files, "predicting", disable=options.quiet), start=1):
            rows = _predicted(model, file, number, name, options)
            if not isinstance(rows, str):
                results += rows
                continue
            skipped.append(f"{file}: {rows}")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # after memory ran out, pieces of other sizes
    finally:  # what was found stays, however it ends
        _write_index(model, results, files, options.out, mark)
    return skipped


def load_model(ckpt: Path, device: str = "auto", inference: str | None = None) -> Model:
    """The net, task and data preparation that a checkpoint describes, with its weights, ready to predict.

    Args:
        ckpt: of a run.
        device: see `usable_device`.
        inference: class path or YAML mapping in place of the checkpoint's `model.inference`; None leaves that.

    Raises:
        UserError: the checkpoint does not hold what is needed, there is no such device, or the task has no such
            inference.
    """
    chosen = usable_device(device)
    content = load_checkpoint(ckpt)
    record = content.get(CHECKPOINT_KEY, {})
    if "settings" not in record or not record.get("label_map"):
        raise UserError(f"{ckpt} does not say which net it is of: it was not written by a run of lightning-cv")
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf+")
    parser.add_subclass_arguments(Task, "model")
    parser.add_subclass_arguments(DataModule, "data")
    settings = {key: untrained(record["settings"][key]) for key in ("model", "data")}
    if inference is not None:
        module, _, name = settings["model"]["class_path"].rpartition(".")
        block = _inference_block(inference, getattr(import_module(module), name))
        settings["model"]["init_args"]["inference"] = block
    try:
        built = parser.instantiate(parser.parse_string(yaml.safe_dump(settings)))
    except ValueError as error:
        raise UserError(constructor_words(error)) from error
    task: Task = built.model
    task.on_load_checkpoint(content)
    task.load_state_dict(content["state_dict"])
    assert task.label_map is not None
    return Model(task.eval().to(chosen), built.data, task.label_map, [])


def _inference_block(text: str, task: type[Task]) -> Any:  # Any: a YAML tree
    """What --inference says, as settings hold it.

    Raises:
        UserError: the task has no inference, or not of this kind.
    """
    kind = get_type_hints(task.__init__).get("inference")
    if kind is None:
        raise UserError(f"--inference: the checkpoint is of {task.__name__}, which looks at images in one way only")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--inference", type=kind)
    try:
        block = yaml.safe_load(text)
        parser.parse_object({"inference": block})
    except (yaml.YAMLError, argparse.ArgumentError) as error:
        told = re.search(r"Errors:\n\s*- (.*?)\n\s*- Expected a <class 'NoneType'>", str(error), re.DOTALL)
        words = " ".join((told[1] if told else str(error)).split())
        names = " or ".join(one.__name__ for one in get_args(kind) if one is not type(None))
        raise UserError(f"--inference {text}: {task.__name__} takes a {names}: {words}") from error
    return block


def usable_device(name: str) -> torch.device:
    """The device of a name, `auto` being the first GPU or else the CPU.

    Raises:
        UserError: no kind of device is called so, or this machine has none of it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # the only question that every kind of device answers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name}: not usable here; valid: {', '.join(['auto', *_devices()])}") from error
    return device


def _devices() -> list[str]:
    numbered = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *(["cuda", *numbered] if numbered else []), *(["mps"] if torch.backends.mps.is_available() else [])]


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


def _predicted(
    model: Model, file: Path, number: int, name: str, options: argparse.Namespace
) -> list[dict[str, Any]] | str:
    """What `_predict` returns of a file; why there is nothing where it cannot be read or memory runs out."""
    try:
        try:
            image = read_picture(file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return str(error)
        return _predict(model, image, number, name, file, options)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return "out of memory"


def _predict(
    model: Model, image: Picture, number: int, name: str, file: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Predict one image, write its picture, return its rows of the machine-readable result."""
    tensor, output = _looked_at(model, image)
    place: Path = options.out / f"{name}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(model.task, DetectionTask):
        assert isinstance(model.datamodule, DetectionDataModule)
        placement = model.datamodule.placement(*image.shape[:2])
        found, size = above_score(output[0], options.min_score), image.shape[:2]
        shown = _in_file_pixels(above_score(found, options.show_score), placement, size)
        Image.fromarray(detections_picture(image, shown, model.label_map)).save(place)
        return _object_rows(number, found, placement, size, model.label_map)
    if isinstance(model.task, PanopticModule):
        return _divide(model, image, output[0], number, place, options)
    if isinstance(model.task, MultilabelSegModule):
        on = (output[0, :, : image.shape[0], : image.shape[1]] > 0.5).cpu()  # (K, H, W)
        Image.fromarray(tint_labels(image, on.long(), model.label_map)).save(place)
        masks = {label: f"masks/{name}/{label}.png" for label in model.label_map.names}
        for plane, path in zip(on.numpy(), masks.values(), strict=True):
            (options.out / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(plane.astype(np.uint8) * 255).save(options.out / path)
        return [{"image_id": number, "file_name": str(file), "masks": masks}]
    if isinstance(model.task, SegModule):
        mask = output[0, : image.shape[0], : image.shape[1]].cpu().numpy().astype(np.uint8)
        save_class_mask(output[0, : image.shape[0], : image.shape[1]], options.out / "masks" / f"{name}.png")
        Image.fromarray(overlay(image, mask)).save(place)
        return [{"image_id": number, "file_name": str(file), "mask": f"masks/{name}.png"}]
    Image.fromarray(beside([picture(tensor), picture(output[0])])).save(place)
    return [{"image_id": number, "file_name": str(file), "reconstruction": f"{name}.png"}]


def _looked_at(model: Model, image: Picture) -> tuple[Tensor, Any]:  # Any: what the task's `predict_step` gives
    """The tensor (C, h, w) of one image, and what the task says of a batch of it alone."""
    with torch.inference_mode():
        if model.search is None:
            tensor = model.datamodule.prepare_image(image)
            return tensor, model.task.predict_step(tensor[None].to(model.task.device))
        assert isinstance(model.task, DetectionTask)
        assert isinstance(model.datamodule, DetectionDataModule)
        batch = model.datamodule.prepare_among(image, model.search(image))
        moved: DetectionBatch = model.datamodule.transfer_batch_to_device(batch, model.task.device, 0)
        return batch["images"][0], model.task.detections(moved)


def _divide(
    model: Model,
    image: Picture,
    output: tuple[FoundSegments, Detections],
    number: int,
    place: Path,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Write one image's segments, as a picture and in the official format; the rows of its things."""
    assert isinstance(model.datamodule, CocoPanopticDataModule)
    assert isinstance(model.task, PanopticModule)
    assert model.task.is_thing is not None
    divided, things = output
    placement = model.datamodule.placement(*image.shape[:2])
    on_cpu: FoundSegments = {
        "segments": divided["segments"].cpu(), "labels": divided["labels"].cpu(), "scores": divided["scores"].cpu()
    }  # fmt: skip
    shown = in_file_pixels(on_cpu, placement, (image.shape[0], image.shape[1]))
    picture_of = segments_picture(image, shown["segments"], shown["labels"], model.label_map, model.task.is_thing)
    Image.fromarray(picture_of).save(place)
    model.divided.append(write_segments(options.out / "panoptic_results", number, shown, model.label_map))
    found = above_score(things, options.min_score)
    found["labels"] = found["labels"] - 1 + model.label_map.first  # as the label map counts
    return _object_rows(number, found, placement, image.shape[:2], model.label_map)


def _object_rows(
    number: int, found: Detections, placement: Placement, size: tuple[int, int], label_map: LabelMap
) -> list[dict[str, Any]]:
    """Objects as COCO's results list them, with their masks where they have some: one after the other, for memory."""
    runs = run_lengths(found["masks"], placement, size) if "masks" in found else None
    boxes = Detections(boxes=found["boxes"], scores=found["scores"], labels=found["labels"])
    rows = [dict(row) for row in box_rows(number, _in_file_pixels(boxes, placement, size), label_map)]
    return rows if runs is None else [row | {"segmentation": one} for row, one in zip(rows, runs, strict=True)]


def _in_file_pixels(found: Detections, placement: Placement, size: tuple[int, int]) -> Detections:
    """Detections with boxes and masks in pixels of the file (H, W) that the image shows so."""
    moved = Detections(
        boxes=restore_boxes(found["boxes"].cpu(), placement), scores=found["scores"].cpu(), labels=found["labels"].cpu()
    )
    if "masks" in found:
        masks = [torch.from_numpy(mask) > 0 for mask in masks_in_file_pixels(found["masks"], placement, size)]
        moved["masks"] = torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)
    return moved


def _write_index(
    model: Model, results: list[dict[str, Any]], files: list[tuple[Path, str]], out: Path, mark: dict[str, str]
) -> None:
    """predictions.json (for boxes in COCO's result format), and what its numbers mean; panoptic_results.json."""
    if model.divided:
        write_results(out / "panoptic_results.json", {"annotations": model.divided})
    (out / "predictions.json").write_text(json.dumps(results, indent=1) + "\n")
    images = [{"id": number, "file_name": str(file)} for number, (file, _) in enumerate(files, start=1)]
    known = zip(model.label_map.dataset_ids, model.label_map.names, strict=True)
    categories = [{"id": number, "name": name} for number, name in known]
    (out / "index.json").write_text(json.dumps(mark | {"images": images, "categories": categories}, indent=1) + "\n")
