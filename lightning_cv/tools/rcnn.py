"""R-CNN's stages: fine-tuning, features, SVMs, box regression, detection; each begins where an earlier call stopped.

Girshick et al. 2014. Letters: R regions of a picture, its G objects first, then its proposals; K classes.
A folder holds `settings.json`, then `finetune.pt`, `features/N.npz` of each training picture, `svms.npz`, `boxes.npz`,
`detections/N.npz` of each test picture, and `results.json` with figures, seconds and bytes of each stage.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from lightning_cv.contracts import Detections
from lightning_cv.datasets.proposals import Samples, write_atomically, write_json
from lightning_cv.errors import UserError, is_out_of_memory
from lightning_cv.locks import LOCK, RunLock
from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.models.detection.rcnn import (
    BoxRegression,
    BoxSums,
    Floats,
    HardNegatives,
    Linear,
    RegionNet,
    first_rows,
    region_deltas,
)
from lightning_cv.ops.counters import mix
from lightning_cv.tasks.parameter_groups import parameter_groups, scale
from lightning_cv.tools.proposals import file_target
from lightning_cv.tools.rcnn_detector import SVMDetector, described, warped
from lightning_cv.tools.rcnn_regions import Recipe, Regions, background_of, foreground_and_background, regions_of
from lightning_cv.tracking import MetricsCSV

STAGES = ("finetune", "features", "svms", "boxes", "detections")
FIGURES = ("test/map_50", "test/map_50_without_box_regression", "test/seconds_an_image")
LOG_EVERY = 50
"""Steps of fine-tuning between rows of figures."""


class Story:
    """R-CNN on one data set, in one folder.

    Args:
        net: what is fine-tuned.
        recipe: the numbers.
        optimizer: of fine-tuning.
        train, test: pictures with proposals.
        folder: of all stages.
        settings: what the folder is of: another call with others is refused.
        quiet: no progress bars.
        pictures: what "train" and "test" are, proposals included: stages of other pictures are refused.
        loggers: see fine-tuning's loss, and in the end the figures.
    """

    def __init__(
        self,
        net: RegionNet,
        recipe: Recipe,
        optimizer: OptimizerCallable,
        train: Samples,
        test: Samples,
        folder: Path,
        settings: dict[str, Any],  # Any: whatever a configuration holds
        quiet: bool = True,
        pictures: Mapping[str, str] | None = None,
        loggers: Sequence[Logger] = (),
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net, self.recipe, self.optimizer = net.to(self.device), recipe, optimizer
        self.train, self.test, self.folder, self.quiet = train, test, folder, quiet
        self.pictures, self.loggers = pictures or {"train": "", "test": ""}, loggers
        begin(folder, settings, self.pictures["train"])
        self._since = time.perf_counter()

    def run(self, until: str = STAGES[-1]) -> dict[str, Any]:  # Any: figures by name
        """All stages up to one; what is there is used as it is. Figures of the folder."""
        with RunLock(self.folder):
            for stage in STAGES[: STAGES.index(until) + 1]:
                self._since = time.perf_counter()
                worked: bool = getattr(self, stage)()
                if worked:
                    self._spent(stage)
                    size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
                    write_json(self.folder / "results.json", results_of(self.folder) | {"bytes_on_disk": size})
        return results_of(self.folder)

    def finetune(self) -> bool:
        """Train the net to tell regions apart; whether there was something to do.

        Regions and dropout are functions of (seed, step), so that fine-tuning which was stopped and goes on from its
        last `finetune.part.pt` ends in the same weights.
        """
        file, recipe = self.folder / "finetune.pt", self.recipe
        if file.is_file():
            self.net.load_state_dict(read_state(file, self.device))
            return False
        groups = parameter_groups(self.net.named_parameters(), recipe.lr_scales, recipe.decay_scales, "recipe")
        optimizer, part, done = self.optimizer(groups), self.folder / "finetune.part.pt", 0
        scale(optimizer, "recipe")
        rates = [group["lr"] for group in optimizer.param_groups]
        if part.is_file():
            kept = read_state(part, self.device)
            self.net.load_state_dict(kept["net"])
            optimizer.load_state_dict(kept["optimizer"])
            done = kept["steps"]
        for logger in self.loggers:
            if isinstance(logger, MetricsCSV):
                logger.resume_from(done)
        self.net.train()
        for step in track(range(done, recipe.steps), "fine-tuning", disable=self.quiet):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * 0.1 ** (step // recipe.drop_every)
            crops, labels = self.step(step)
            torch.manual_seed(mix(recipe.seed, step, 1))  # of dropout
            loss = F.cross_entropy(self.net(crops), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            if (step + 1) % LOG_EVERY == 0 or step + 1 == recipe.steps:
                self._log({"train/loss": float(loss.detach()), "lr": optimizer.param_groups[0]["lr"]}, step)
            if (step + 1) % recipe.save_every == 0:
                state = {"net": self.net.state_dict(), "optimizer": optimizer.state_dict(), "steps": step + 1}
                write_atomically(part, lambda out, state=state: torch.save(state, out))  # type: ignore[misc]  # a lambda
                self._spent("finetune")
        write_atomically(file, lambda out: torch.save(self.net.state_dict(), out))
        part.unlink(missing_ok=True)
        return True

    def step(self, number: int) -> tuple[Tensor, Tensor]:
        """Crops and labels of one step, from a few pictures: a share of the foreground and the background each."""
        generator = torch.Generator().manual_seed(mix(self.recipe.seed, number))
        recipe, crops, names = self.recipe, [], []
        count = min(recipe.pictures_a_step, len(self.train))
        rows = torch.randint(len(self.train), (count,), generator=generator).tolist()
        for place, row in enumerate(rows):
            sample = self.train[row]
            regions = regions_of(sample, recipe.proposals)
            chosen = []
            for pool, total in zip(
                foreground_and_background(regions), (recipe.foreground, recipe.background), strict=True
            ):
                share = total * (place + 1) // count - total * place // count
                chosen.append(first_rows(torch.from_numpy(pool).nonzero()[:, 0], share, generator))
            picked = torch.cat(chosen).numpy()
            if len(picked) == 0:
                continue
            cut = warped(sample["image"], regions.boxes[picked], self.net)
            if recipe.mirror:
                chance = torch.Generator().manual_seed(mix(recipe.seed, number, place, 2))
                mirrored = torch.rand(len(picked), generator=chance) < 0.5
                cut[mirrored] = cut[mirrored].flip(-1)
            crops.append(cut)
            own = regions.labels[regions.overlaps[picked].argmax(axis=1)] if len(regions.labels) else 0
            names.append(torch.from_numpy(np.where(np.arange(len(picked)) < len(chosen[0]), own, 0)))
        if not crops:
            raise UserError("the training pictures drawn for a step have neither an object nor a proposal")
        return torch.cat(crops).to(self.device), torch.cat(names).to(self.device)

    def features(self) -> bool:
        """Keep each training picture's features, and the pooled values of the regions that teach box regression."""
        folder = self.folder / "features"
        missing = [row for row in range(len(self.train)) if not (folder / f"{row}.npz").is_file()]
        for row in track(missing, "features", disable=self.quiet):
            sample = self.train[row]
            regions = regions_of(sample, self.recipe.proposals)
            pooled, features = self.described(sample["image"], regions.boxes)
            near = np.flatnonzero(regions.overlaps.max(axis=1, initial=0.0) > self.recipe.regress_above)
            arrays = {
                "features": features.astype(np.float16),
                "pooled": pooled[near].astype(np.float16),
                "near": near,
                **regions._asdict(),
            }
            save_arrays(folder / f"{row}.npz", arrays)
            self._spent("features")
        return bool(missing)

    def svms(self) -> bool:
        """Train a linear SVM a class with hard negatives; a class without an object gets none."""
        file, classes = self.folder / "svms.npz", range(1, self.net.num_classes + 1)
        if file.is_file():
            return False
        factor, objects = self._objects()
        miners = {label: HardNegatives(objects[label], self.recipe.mining) for label in classes if len(objects[label])}
        for one in track(self._kept("features", *Regions._fields), "SVMs", len(self.train), disable=self.quiet):
            regions = Regions(*(one[name] for name in Regions._fields))
            features = one["features"].astype(np.float32) * np.float32(factor)
            for label, miner in miners.items():
                miner.see(features[background_of(regions, label, self.recipe.negative_below)])
        nothing = Linear(np.zeros(self.net.feature_size), -np.inf)
        machines = [miners[label].finished() if label in miners else nothing for label in classes]
        weight, bias = np.stack([one.weight for one in machines], axis=1), np.array([one.bias for one in machines])
        save_arrays(file, {"weight": weight, "bias": bias, "scale": np.array(factor)})
        return True

    def _kept(self, *names: str) -> Iterator[dict[str, NDArray[Any]]]:  # Any: arrays of several types
        """Some of the arrays of each training picture."""
        for row in range(len(self.train)):
            yield read_arrays(self.folder / "features" / f"{row}.npz", names)

    def _objects(self) -> tuple[float, dict[int, Floats]]:
        """What brings features to their mean norm, and so scaled the features of each class's objects."""
        norms, objects, labels = [], [], []
        for one in self._kept("features", "labels"):
            norms.append(np.linalg.norm(one["features"].astype(np.float32), axis=1))
            objects.append(one["features"][: len(one["labels"])].astype(np.float32))
            labels.append(one["labels"])
        factor = self.recipe.mean_norm / max(float(np.concatenate(norms).mean()), 1e-12)
        scaled, names = np.concatenate(objects) * np.float32(factor), np.concatenate(labels)
        return factor, {label: scaled[names == label] for label in range(1, self.net.num_classes + 1)}

    def boxes(self) -> bool:
        """Train a box regression a class."""
        file, classes = self.folder / "boxes.npz", range(1, self.net.num_classes + 1)
        if file.is_file():
            return False
        norms = [np.linalg.norm(one["pooled"].astype(np.float32), axis=1) for one in self._kept("pooled")]
        factor = self.recipe.mean_norm / max(float(np.concatenate([np.zeros(0), *norms]).mean()), 1e-12)
        fitted = []
        for label in track(classes, "box regression", disable=self.quiet):
            sums = BoxSums(self.net.pooled_size, self.recipe.ridge)
            for one in self._kept("near", "overlaps", "labels", "pooled", "boxes"):
                near, overlaps = one["near"], one["overlaps"]
                proposals = near >= len(one["labels"])  # an object's own box has nothing to learn from
                best = overlaps[near].argmax(axis=1) if len(near) else near
                mine = proposals & (one["labels"][best] == label) if len(near) else proposals
                inputs = one["pooled"][mine].astype(np.float32) * np.float32(factor)
                sums.add(inputs, region_deltas(one["boxes"][near[mine]], one["boxes"][best[mine]]))
            fitted.append(sums.fitted())
        arrays = {name: np.stack([getattr(one, name) for one in fitted]) for name in BoxRegression._fields}
        save_arrays(file, arrays | {"scale": np.array(factor)})
        return True

    def detections(self) -> bool:
        """Detect in all test pictures, with and without box regression, and judge.

        A picture for which memory runs out is told and judged as without detections; the next call tries it again. The
        first is looked at twice, so that no picture's seconds are those of a net that warms up.
        """
        folder = self.folder / "detections"
        refuse_others(folder, self.pictures["test"])
        missing = [row for row in range(len(self.test)) if not (folder / f"{row}.npz").is_file()]
        detector = self.detector()
        for turn, row in enumerate(track([*missing[:1], *missing], "detections", disable=self.quiet)):
            sample = self.test[row]
            began = time.perf_counter()
            regions = regions_of(sample, self.recipe.proposals)
            boxes = regions.boxes[len(regions.labels) :]
            try:
                plain, moved = detector(sample["image"].shape[:2], boxes, *self.described(sample["image"], boxes))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if turn:  # the first is told at its second time
                    print(f"image {sample['image_id']}: out of memory, nothing is detected in it", file=sys.stderr)
                continue
            arrays = {f"plain_{name}": np.asarray(value) for name, value in plain.items()}
            arrays |= {f"moved_{name}": np.asarray(value) for name, value in moved.items()}
            arrays["seconds"] = np.array(time.perf_counter() - began)
            save_arrays(folder / f"{row}.npz", arrays)
            self._spent("detections")
        if missing or "figures" not in results_of(self.folder):
            self._judge(folder)
        return bool(missing)

    def detector(self) -> SVMDetector:
        """Of the stages that are done."""
        svms, boxes = read_arrays(self.folder / "svms.npz"), read_arrays(self.folder / "boxes.npz")
        parts = [boxes[name] for name in BoxRegression._fields]
        return SVMDetector(
            svms["weight"],
            svms["bias"],
            float(svms["scale"]),
            [BoxRegression(*(part[label] for part in parts)) for label in range(self.net.num_classes)],
            float(boxes["scale"]),
            self.recipe.score_threshold,
            self.recipe.nms_threshold,
            self.recipe.top_per_class,
        )

    def described(self, image: NDArray[np.uint8], boxes: Floats) -> tuple[Floats, Floats]:
        """Pooled values (R, P) and features (R, F) of regions."""
        return described(self.net, image, boxes, self.recipe.batch)

    def _judge(self, folder: Path) -> None:
        metrics = {name: VOCMeanAP(self.net.num_classes, kind=self.recipe.ap) for name in ("plain", "moved")}
        seconds, failed = [], []
        for row in range(len(self.test)):
            sample, kept = self.test[row], folder / f"{row}.npz"
            arrays = read_arrays(kept) if kept.is_file() else {}
            if not arrays:
                failed.append(sample["image_id"])
            else:
                seconds.append(float(arrays["seconds"]))
            for name, metric in metrics.items():
                found: Detections = {
                    "boxes": torch.from_numpy(arrays.get(f"{name}_boxes", np.zeros((0, 4), np.float32))),
                    "scores": torch.from_numpy(arrays.get(f"{name}_scores", np.zeros(0, np.float32))),
                    "labels": torch.from_numpy(arrays.get(f"{name}_labels", np.zeros(0, np.int64))),
                }
                metric.update([found], [file_target(sample)], sample["image"].shape[:2])
        found_in_all = (float(metrics["moved"].compute()), float(metrics["plain"].compute()))
        figures = dict(zip(FIGURES, (*found_in_all, float(np.mean(seconds or [np.nan]))), strict=True))
        results = results_of(self.folder) | {"figures": figures, "out_of_memory": failed}
        write_json(self.folder / "results.json", results)
        self._log(figures, self.recipe.steps)

    def _log(self, figures: Mapping[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(dict(figures), step)

    def _spent(self, stage: str) -> None:
        """Add to a stage's seconds what passed since they were last told: what is told, no kill loses."""
        now, results = time.perf_counter(), results_of(self.folder)
        seconds = results.setdefault("seconds", {})
        seconds[stage] = seconds.get(stage, 0.0) + now - self._since
        self._since = now
        write_json(self.folder / "results.json", results)


def save_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> None:  # Any: arrays of several types
    """Write an `.npz` in one step."""
    write_atomically(file, lambda part: np.savez(part, **arrays))  # type: ignore[arg-type]  # no array is named allow_pickle


def read_arrays(file: Path, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:  # Any: several types
    """Some of the arrays of an `.npz`, or all."""
    try:
        with np.load(file) as content:
            return {name: content[name] for name in names or content.files}
    except (BadZipFile, OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"{file}: not readable ({error}); delete it and run the same command again") from error


def read_state(file: Path, device: torch.device) -> dict[str, Any]:  # Any: tensors and numbers
    """What `torch.save` wrote."""
    try:
        content: dict[str, Any] = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # a broken file raises a dozen types, from EOFError to UnpicklingError
        told = str(error).splitlines()[0]
        raise UserError(f"{file}: not readable ({told}); delete it and run the same command again") from error
    return content


def read_json(file: Path) -> dict[str, Any]:  # Any: JSON
    """What `write_json` wrote; empty where there is no file."""
    try:
        content: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file}: not readable ({error}); delete it and run the same command again") from error
    return content


def begin(folder: Path, settings: dict[str, Any], pictures: str) -> None:  # Any: whatever a configuration holds
    """Make the folder, or go on with one of the same settings, training pictures and proposals."""
    file, asked = folder / "settings.json", json.loads(json.dumps(settings, default=str))
    if file.is_file():
        there = read_json(file)
        if there != asked:
            names = sorted(name for name in there.keys() | asked.keys() if there.get(name) != asked.get(name))
            raise UserError(f"{folder} holds an R-CNN of other settings ({', '.join(names)}): choose another --out")
    elif folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        raise UserError(f"{folder} holds files that are no R-CNN: choose a new or empty folder")
    else:
        write_json(file, asked)
    refuse_others(folder, pictures)


def refuse_others(folder: Path, pictures: str) -> None:
    """Note of which pictures and proposals a folder is, or see that it is of these."""
    file = folder / "pictures.json"
    if not file.is_file():
        write_json(file, {"digest": pictures})
    elif read_json(file).get("digest") != pictures:
        raise UserError(
            f"{folder} is stale: its pictures or their proposals have changed since; choose another --out, or remove it"
        )


def results_of(folder: Path) -> dict[str, Any]:  # Any: figures by name
    """What the folder's `results.json` says so far."""
    return read_json(folder / "results.json")
