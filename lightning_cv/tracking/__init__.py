"""Where figures and pictures go: a CSV file that survives a resume, and Weights & Biases. Only this module names wandb.

Nothing here passes `step=` to wandb: under Lightning every call makes a row, and `trainer/global_step` is its x axis.
"""

import math
import netrc
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import numpy as np
import wandb
from lightning import Trainer
from lightning.pytorch.loggers import WandbLogger
from numpy.typing import NDArray
from torch import Tensor
from wandb.sdk.data_types.helper_types.classes import Classes
from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

from lightning_cv import interrupts
from lightning_cv.contracts import (
    VOID,
    Detections,
    DetectionTarget,
    FoundSegments,
    LabelMap,
    PanopticTarget,
    TrueSegments,
)
from lightning_cv.errors import TrainingWarning
from lightning_cv.ops.segments import painted
from lightning_cv.tracking.metrics_csv import MetricsCSV as MetricsCSV

Picture = NDArray[np.uint8]
Mode = Literal["auto", "online", "offline", "disabled"]
STEP = "trainer/global_step"
_LOST = (ConnectionError, MailboxClosedError, HandleAbandonedError)


class WandbRun(WandbLogger):
    """One W&B run a folder, under `save_dir/wandb`.

    Args:
        save_dir: the run's folder.
        project: on the server.
        id: of the run; the same id goes on with the run (on a server; offline, W&B starts a second log of that id).
        name, group, tags: how the run is listed.
        mode: "auto" follows WANDB_MODE, else is online where someone is logged in, else offline.
    """

    def __init__(
        self,
        save_dir: str = ".",
        project: str = "lightning_cv",
        id: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        mode: Mode = "auto",
    ) -> None:
        os.makedirs(save_dir, exist_ok=True)  # or wandb would fall back on a temporary folder
        super().__init__(
            name=name,
            save_dir=save_dir,
            project=project,
            id=id,
            log_model=False,
            group=group,
            tags=tags,
            mode=resolve_mode(mode),
        )
        self.lost = False
        self._wandb_init.pop("anonymous", None)  # a setting that wandb has given up
        self._classes: dict[tuple[LabelMap, bool], Classes] = {}

    @property
    def experiment(self) -> Any:  # Any: a wandb run, or Lightning's dummy on other ranks
        """The run, started at first use. A run of another id that was left open is closed, not written into."""
        if self._experiment is None:
            if wandb.run is not None and self._id not in (None, wandb.run.id):
                warnings.warn(f"W&B run {wandb.run.id} was still open; it is closed, {self._id} starts", stacklevel=2)
                wandb.finish()
            with interrupts.kept_from_children():
                return super().experiment
        return super().experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row, unless W&B's service is gone."""
        if not self.lost:
            with self.surviving():
                super().log_metrics(metrics, step)

    def log_hyperparams(self, params: Any, *_: Any) -> None:  # Any: Lightning's signature
        """Log settings, unless W&B's service is gone."""
        if not self.lost:
            with self.surviving():
                super().log_hyperparams(params)

    @contextmanager
    def surviving(self) -> Iterator[None]:
        """A service that was killed takes no run with it: its figures are in metrics.csv as well.

        SLURM ends it when it asks a job to end, with all else that the job has started.
        """
        try:
            yield
        except _LOST as error:
            self.lost = True
            if interrupts.received() is None:
                text = f"W&B's service is gone ({error or type(error).__name__}): the run goes on without it"
                warnings.warn(text, TrainingWarning, stacklevel=2)

    def classes(self, label_map: LabelMap, *, void: bool = False) -> Classes:
        """The class names of a data set as W&B wants them, made once a run."""
        key = (label_map, void)
        if key not in self._classes:
            entries = [{"id": number, "name": name} for number, name in class_labels(label_map, void=void).items()]
            self._classes[key] = Classes(entries)
        return self._classes[key]

    def finish(self) -> None:
        """Close the run, so that another can follow in this process."""
        if self._experiment is not None:
            if not self.lost:
                with self.surviving():
                    self._experiment.finish()
            self._id = self._experiment.id
        if self.lost:
            with suppress(Exception):  # of a service that is gone, or it would complain again at the very end
                wandb.teardown()
        self._experiment = None


def resolve_mode(mode: Mode) -> Literal["online", "offline", "disabled"]:
    """What "auto" means here and now; other modes stay."""
    if mode == "auto":
        asked = os.environ.get("WANDB_MODE", "")
        mode = {"dryrun": "offline", "run": "online"}.get(asked, asked) or ("online" if logged_in() else "offline")  # type: ignore[assignment]  # checked in the next line
    if mode not in ("online", "offline", "disabled"):
        raise ValueError(f"the W&B mode (WANDB_MODE) must be online, offline or disabled, got {mode!r}")
    return mode


def logged_in() -> bool:
    """Whether W&B would find an API key of its server here."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def log_images(trainer: Trainer, key: str, pictures: Sequence[Picture], captions: Sequence[str] | None = None) -> None:
    """Pictures (H, W, 3) under `key`; nothing without a W&B logger, as everything below."""
    for run in _runs(trainer):
        texts: Sequence[str | None] = captions or [None] * len(pictures)
        _log(run, trainer, key, [wandb.Image(one, caption=text) for one, text in zip(pictures, texts, strict=True)])


def log_boxes(
    trainer: Trainer,
    key: str,
    pictures: Sequence[Picture],
    detections: Sequence[Detections],
    targets: Sequence[DetectionTarget],
    label_map: LabelMap,
    score_threshold: float = 0.3,
) -> None:
    """Pictures with native W&B boxes "predictions" (from `score_threshold` on) and "ground_truth", in their pixels.

    Where detections and targets have masks, the same as native class masks: of those that overlap, the best score is on
    top, in the truth the smallest. Predicted boxes that are not finite, as of a net that diverges, are left out.
    """
    names = class_labels(label_map)
    for run in _runs(trainer):
        images = []
        for shown, found, target in zip(pictures, detections, targets, strict=True):
            predicted = [
                _box(box, label, f"{names[label]} {score:.2f}", {"score": round(score, 4)})
                for box, label, score in zip(*_lists(found["boxes"], found["labels"], found["scores"]), strict=True)
                if score >= score_threshold and all(map(math.isfinite, box))
            ]
            true = [
                _box(box, label, names[label] + (" (difficult)" if difficult else ""))
                for box, label, difficult in zip(
                    *_lists(target["boxes"], target["labels"], target["difficult"]), strict=True
                )
            ]
            boxes = {
                "predictions": {"box_data": predicted, "class_labels": names},
                "ground_truth": {"box_data": true, "class_labels": names},
            }
            masks = _instance_masks(found, target, score_threshold, names)
            classes = run.classes(label_map)
            images.append(wandb.Image(shown, caption=target["image_id"], boxes=boxes, masks=masks, classes=classes))
        _log(run, trainer, key, images)


def log_masks(
    trainer: Trainer,
    key: str,
    pictures: Sequence[Picture],
    masks: Sequence[Mapping[str, Tensor]],
    image_ids: Sequence[str],
    label_map: LabelMap,
) -> None:
    """Pictures with native W&B masks: of each picture class masks (H, W) of its size, by the names W&B shows."""
    names = class_labels(label_map, void=True)
    for run in _runs(trainer):
        images = [
            wandb.Image(
                shown,
                caption=image_id,
                masks={
                    name: {"mask_data": mask.cpu().numpy().astype(np.uint8), "class_labels": names}
                    for name, mask in named.items()
                },
                classes=run.classes(label_map, void=True),
            )
            for shown, named, image_id in zip(pictures, masks, image_ids, strict=True)
        ]
        _log(run, trainer, key, images)


def log_segments(
    trainer: Trainer,
    key: str,
    pictures: Sequence[Picture],
    preds: Sequence[FoundSegments],
    targets: Sequence[PanopticTarget],
    label_map: LabelMap,
    is_thing: Sequence[bool],
) -> None:
    """Pictures with native W&B class masks and boxes around the things, "predictions" and "ground_truth"."""
    names, pixel_names = class_labels(label_map), class_labels(label_map, void=True)
    for run in _runs(trainer):
        images = []
        for shown, found, target in zip(pictures, preds, targets, strict=True):
            masks = {
                who: {"mask_data": _classes_of_pixels(one), "class_labels": pixel_names}
                for who, one in (("predictions", found), ("ground_truth", target))
            }
            things = {
                "predictions": _thing_boxes(found, found.get("scores"), names, is_thing),
                "ground_truth": _thing_boxes(target, None, names, is_thing),
            }
            boxes = {who: {"box_data": data, "class_labels": names} for who, data in things.items()}
            classes = run.classes(label_map, void=True)
            images.append(wandb.Image(shown, caption=target["image_id"], masks=masks, boxes=boxes, classes=classes))
        _log(run, trainer, key, images)


def log_animation(trainer: Trainer, key: str, file: Path) -> None:
    """A GIF, which is sent as it is."""
    for run in _runs(trainer):
        _log(run, trainer, key, wandb.Video(str(file), format="gif"))


def log_table(trainer: Trainer, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table of plain values and pictures; Any: a cell is whatever W&B can show."""
    for run in _runs(trainer):
        cells = [[wandb.Image(cell) if isinstance(cell, np.ndarray) else cell for cell in row] for row in rows]
        _log(run, trainer, key, wandb.Table(columns=list(columns), data=cells))


def rewind(trainer: Trainer, global_step: int) -> None:
    """Make the loggers forget what a run resumed from `global_step` will log again."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCSV):
            logger.resume_from(global_step)


def finish(trainer: Trainer) -> None:
    """Close what is open, so that several runs can follow each other in one process."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbRun):
            logger.finish()


def class_labels(label_map: LabelMap, *, void: bool = False) -> dict[int, str]:
    """Class names by contiguous id; `void` adds that of pixels that do not count."""
    names = dict(enumerate(label_map.names, start=label_map.first))
    return names | ({VOID: "not counted"} if void else {})


def _runs(trainer: Trainer) -> list[WandbRun]:
    return (
        [run for run in trainer.loggers if isinstance(run, WandbRun) and not run.lost] if trainer.is_global_zero else []
    )


def _log(run: WandbRun, trainer: Trainer, key: str, value: Any) -> None:  # Any: wandb's media types
    with run.surviving():
        run.experiment.log({key: value, STEP: trainer.global_step})


def _lists(*tensors: Tensor) -> list[list[Any]]:  # Any: numbers, or lists of four
    return [tensor.tolist() for tensor in tensors]


def _box(box: list[float], label: int, caption: str, scores: dict[str, float] | None = None) -> dict[str, Any]:
    left, top, right, bottom = (round(value) for value in box)
    position = {"minX": left, "maxX": right, "minY": top, "maxY": bottom}
    entry = {"position": position, "domain": "pixel", "class_id": label, "box_caption": caption}
    return entry | ({"scores": scores} if scores else {})


def _instance_masks(
    found: Detections, target: DetectionTarget, score_threshold: float, names: Mapping[int, str]
) -> dict[str, Any] | None:
    """Class masks of both in W&B's form; None unless both have masks."""
    if "masks" not in found or "masks" not in target:
        return None
    kept = found["scores"] >= score_threshold
    classes = {
        "predictions": painted(found["masks"][kept], found["labels"][kept], found["scores"][kept]),
        "ground_truth": painted(target["masks"], target["labels"], -target["masks"].sum((1, 2))),
    }
    labels = {0: "background"} | dict(names)
    return {
        who: {"mask_data": one.cpu().numpy().astype(np.uint8), "class_labels": labels} for who, one in classes.items()
    }


def _classes_of_pixels(one: FoundSegments | TrueSegments) -> NDArray[np.uint8]:
    table = np.append(VOID, one["labels"].cpu().numpy()).astype(np.uint8)
    classes: NDArray[np.uint8] = table[one["segments"].cpu().numpy()]
    return classes


def _thing_boxes(
    one: FoundSegments | TrueSegments, scores: Tensor | None, names: Mapping[int, str], is_thing: Sequence[bool]
) -> list[dict[str, Any]]:
    """A box around each thing, with its score where there are scores."""
    boxes = []
    for number, label in enumerate(one["labels"].tolist()):
        rows, columns = (one["segments"] == number + 1).nonzero(as_tuple=True)
        if not is_thing[label] or not len(rows):
            continue
        corners = [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]
        score = None if scores is None else scores[number].item()
        caption = names[label] if score is None else f"{names[label]} {score:.2f}"
        boxes.append(_box(corners, label, caption, None if score is None else {"score": round(score, 4)}))
    return boxes
