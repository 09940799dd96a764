"""Scores of results in VOC's submission formats, by the development kit's rules. Letters: K classes."""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_cv.contracts import VOID
from lightning_cv.datasets.images import read_mask
from lightning_cv.datasets.repairs import Repairs
from lightning_cv.datasets.voc import VOC_CLASSES
from lightning_cv.datasets.voc_lists import Kind, read_list
from lightning_cv.datasets.voc_results import VOCRow, read_voc_rows
from lightning_cv.datasets.voc_xml import Annotated, parse_annotation, read_objects
from lightning_cv.errors import UserError
from lightning_cv.metrics.segmentation import (
    absent_classes,
    accuracy_per_class,
    confusion_matrix,
    frequency_weighted_iou,
    iou_per_class,
    mean_class_accuracy,
    mean_iou,
    pixel_accuracy,
)
from lightning_cv.metrics.voc import Floats, ImageResult
from lightning_cv.tools.evaluate import Scores, intervals_of
from lightning_cv.tools.evaluate_boxes import average_precisions


def detection(arguments: argparse.Namespace) -> Scores:
    """Average precision of `comp?_det_{split}_{class}.txt` files.

    Equal scores rank in the order of the file, as in the development kit; coordinates are taken as they stand.
    """
    ids = _listed(arguments.gt, "Main", arguments.split)
    files = [arguments.gt / "Annotations" / f"{image_id}.xml" for image_id in ids]
    result_files = _result_files(arguments.pred, arguments.split)
    names = _class_names(arguments.classes, files, set(result_files))
    _refuse_other_classes(result_files, names)
    label_of = {name: label for label, name in enumerate(names, start=1)}
    repairs = Repairs()
    truth = {image_id: read_objects(file, label_of, repairs) for image_id, file in zip(ids, files, strict=True)}
    repairs.tell(arguments.gt)
    found: dict[str, list[tuple[int, VOCRow, int]]] = {image_id: [] for image_id in ids}  # label, row, rank
    for name in names:
        path = result_files[name]
        rows = read_voc_rows(path)
        by_score = sorted(range(len(rows)), key=lambda number: -rows[number].score)
        for rank, number in enumerate(by_score):
            if rows[number].image_id not in found:
                raise UserError(
                    f"{path}, line {rows[number].line}: image {rows[number].image_id} is not in the list "
                    f"{arguments.split} of {arguments.gt}"
                )
            found[rows[number].image_id].append((label_of[name], rows[number], rank))
    if not any(found.values()):
        raise UserError(f"{arguments.pred}: all result files are empty")
    results = [_result(truth[image_id], found[image_id]) for image_id in ids]
    return average_precisions(results, names, arguments, inclusive=False)


SEGMENTATION_FIGURES = {
    "miou": mean_iou,
    "pixel_accuracy": pixel_accuracy,
    "mean_accuracy": mean_class_accuracy,
    "frequency_weighted_iou": frequency_weighted_iou,
}


def segmentation(arguments: argparse.Namespace) -> Scores:
    """Agreement of class masks in PNG files, one an image of the list; pixels that are void in the truth are left out.

    Classes in neither truth nor prediction have no overlap and are left out of the mean; those that are only predicted
    have an overlap of 0, which counts. Classes that a resample lacks by chance are left out of its mean.
    """
    ids = _listed(arguments.gt, "Segmentation", arguments.split)
    names = ("background", *(_asked_classes(arguments.classes) or VOC_CLASSES))
    folder = _mask_folder(arguments.pred, arguments.split)
    strange = sorted({path.stem for path in folder.glob("*.png")} - set(ids))
    if strange:
        raise UserError(f"{folder / strange[0]}.png: not in the list {arguments.split} of {arguments.gt}")
    matrices = np.zeros((len(ids), len(names), len(names)), np.int64)  # one an image
    for number, image_id in enumerate(ids):
        truth_path, path = arguments.gt / "SegmentationClass" / f"{image_id}.png", folder / f"{image_id}.png"
        truth, guess = read_mask(truth_path), read_mask(path)
        if truth.shape != guess.shape:
            sizes = [f"{mask.shape[1]} x {mask.shape[0]}" for mask in (guess, truth)]
            raise UserError(f"{path} is {sizes[0]} pixels, {truth_path} is {sizes[1]}")
        for place, mask, allowed in ((truth_path, truth, {VOID}), (path, guess, set[int]())):
            wrong = sorted(set(np.unique(mask).tolist()) - {*range(len(names))} - allowed)
            if wrong:
                raise UserError(f"{place} holds the class numbers {wrong[:8]}: known are 0 to {len(names) - 1}")
        matrices[number] = confusion_matrix(torch.from_numpy(guess), torch.from_numpy(truth), len(names)).numpy()
    matrix = torch.from_numpy(matrices.sum(0))
    ious, accuracies = iou_per_class(matrix), accuracy_per_class(matrix)
    figures = {name: of_matrix(matrix).item() for name, of_matrix in SEGMENTATION_FIGURES.items()}
    rows = zip(names, ious.tolist(), accuracies.tolist(), strict=True)
    per_class = {name: {"iou": iou, "accuracy": accuracy} for name, iou, accuracy in rows}
    absent = [name for name, row in per_class.items() if math.isnan(row["iou"])]
    invented = [name for name in absent_classes(matrix, names) if name not in absent]

    def resampled(times: NDArray[np.int64]) -> Floats:
        drawn = torch.from_numpy(np.tensordot(times, matrices, 1))
        found = {name: of_matrix(drawn).item() for name, of_matrix in SEGMENTATION_FIGURES.items()}
        lacking = (drawn.sum(1) == 0) & (matrix.sum(1) > 0)  # by chance: in no mean, as classes without objects are
        return np.array([*(found | {"miou": iou_per_class(drawn)[~lacking].nanmean().item()}).values()])

    intervals = intervals_of(figures, resampled, len(ids), arguments.bootstrap)
    return Scores(len(ids), figures, per_class, absent, invented, intervals)


def _listed(year_folder: Path, kind: Kind, split: str) -> list[str]:
    if not (year_folder / "ImageSets").is_dir():
        raise UserError(f"--gt {year_folder} is no VOC year folder: it has no ImageSets")
    repairs = Repairs()
    ids = read_list(year_folder, kind, split, repairs)
    repairs.tell(year_folder)
    return ids


def _asked_classes(asked: str | None) -> list[str]:
    """Names with commas between; none where nothing was asked."""
    if asked is None:
        return []
    names = [name.strip() for name in asked.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"--classes {asked!r}: a name is empty or stands there twice")
    return names


def _class_names(asked: str | None, files: list[Path], predicted: set[str]) -> list[str]:
    """The classes asked for; else VOC's where the annotations know no others, else all that occur."""
    if names := _asked_classes(asked):
        return names
    there: set[str] = set()
    for path in files:
        there |= {(item.findtext("name") or "").strip() for item in parse_annotation(path).iter("object")}
    return list(VOC_CLASSES) if there <= set(VOC_CLASSES) else sorted(there | predicted)


def _result_files(folder: Path, split: str) -> dict[str, Path]:
    """The file of each class that has one, all of one competition."""
    if not folder.is_dir():
        raise UserError(f"--pred {folder} is no folder: VOC's format has a text file a class")
    files = sorted(folder.glob(f"comp*_det_{split}_*.txt"))
    competitions = sorted({path.name.partition("_")[0] for path in files})
    if len(competitions) != 1:
        found = " and ".join(competitions) or "no comp3 or comp4"
        others = sorted({path.stem.split("_")[2] for path in folder.glob("comp*_det_*_*.txt")} - {split})
        hint = f" (there are files of split {', '.join(others)})" if others else ""
        raise UserError(f"--pred {folder} holds {found} files of split {split}{hint}: one kind is needed")
    return {path.stem.removeprefix(f"{competitions[0]}_det_{split}_"): path for path in files}


def _refuse_other_classes(files: dict[str, Path], names: list[str]) -> None:
    if strange := sorted(set(files) - set(names)):
        raise UserError(f"{files[strange[0]]} is of an unknown class; known are {', '.join(names)}")
    if missing := sorted(set(names) - set(files)):
        like = next(iter(files.values()))
        name = like.name.replace(f"{next(iter(files))}.txt", f"{missing[0]}.txt")
        raise UserError(f"no file {like.with_name(name)}: VOC's format has one for each class")


def _mask_folder(place: Path, split: str) -> Path:
    """The folder of PNG files: `comp5_{split}_cls`, `comp6_{split}_cls`, or the given one."""
    for name in (f"comp5_{split}_cls", f"comp6_{split}_cls"):
        if (place / name).is_dir():
            return place / name
    if not any(place.glob("*.png")):
        raise UserError(f"--pred {place} holds no PNG file and no folder comp5_{split}_cls or comp6_{split}_cls")
    return place


def _result(truth: list[Annotated], found: list[tuple[int, VOCRow, int]]) -> ImageResult:
    """One image; a rank stands for a score, so that equal scores keep the order of their file."""
    return ImageResult(
        np.array([row.box for _, row, _ in found], np.float64).reshape(-1, 4),
        np.array([-float(rank) for _, _, rank in found]),
        np.array([label for label, _, _ in found], np.int64),
        np.array([item.corners for item in truth], np.float64).reshape(-1, 4),
        np.array([item.label for item in truth], np.int64),
        np.array([item.difficult for item in truth], np.bool_),
        (0, 0),  # VOC's rule asks for no size
    )
