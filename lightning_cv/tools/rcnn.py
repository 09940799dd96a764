"""R-CNN's stages: fine-tuning, features, SVMs, box regression, detection; each begins where an earlier call stopped.

Girshick et al. 2014. Letters: R regions of a picture, its G objects first, then its proposals; K classes.
A folder holds `settings.json`, then `finetune.pt`, `features/N.npz` of each training picture, `svms.npz`, `boxes.npz`,
`detections/N.npz` of each test picture, and `results.json` with figures, seconds and bytes of each stage.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from lightning_cv.contracts import Detections
from lightning_cv.datasets.proposals import Samples, write_atomically, write_json
from lightning_cv.errors import UserError
from lightning_cv.metrics.detection import VOCMeanAP
from lightning_cv.models.detection.rcnn import (
    BoxRegression,
    Floats,
    HardNegatives,
    Linear,
    RegionNet,
    first_rows,
    fit_boxes,
    region_boxes,
    region_deltas,
)
from lightning_cv.ops.counters import mix
from lightning_cv.ops.nms import class_wise_nms
from lightning_cv.tools.proposals import file_target
from lightning_cv.tools.rcnn_regions import Recipe, Regions, background_of, regions_of
from lightning_cv.transforms import image_tensor
from lightning_cv.transforms.rcnn import warp_region

STAGES = ("finetune", "features", "svms", "boxes", "detections")


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
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net, self.recipe, self.optimizer = net.to(self.device), recipe, optimizer
        self.train, self.test, self.folder, self.quiet = train, test, folder, quiet
        begin(folder, settings)

    def run(self, until: str = STAGES[-1]) -> dict[str, Any]:  # Any: figures by name
        """All stages up to one; what is there is used as it is. Figures of the folder."""
        for stage in STAGES[: STAGES.index(until) + 1]:
            began = time.perf_counter()
            worked: bool = getattr(self, stage)()
            if worked:
                self._tell(stage, time.perf_counter() - began)
        return results_of(self.folder)

    def finetune(self) -> bool:
        """Train the net to tell regions apart; whether there was something to do.

        Regions and dropout are functions of (seed, step), so that fine-tuning which was stopped and goes on from its
        last `finetune.part.pt` ends in the same weights.
        """
        file, recipe = self.folder / "finetune.pt", self.recipe
        if file.is_file():
            self.net.load_state_dict(torch.load(file, map_location=self.device, weights_only=True))
            return False
        optimizer, part, done = self.optimizer(self.net.parameters()), self.folder / "finetune.part.pt", 0
        rates = [group["lr"] for group in optimizer.param_groups]
        if part.is_file():
            kept = torch.load(part, map_location=self.device, weights_only=True)
            self.net.load_state_dict(kept["net"])
            optimizer.load_state_dict(kept["optimizer"])
            done = kept["steps"]
        self.net.train()
        for step in track(range(done, recipe.steps), "fine-tuning", disable=self.quiet):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate if step < recipe.steps * 2 // 3 else rate / 10
            crops, labels = self.step(step)
            torch.manual_seed(mix(recipe.seed, step, 1))  # of dropout
            loss = F.cross_entropy(self.net(crops), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            if (step + 1) % recipe.save_every == 0:
                state = {"net": self.net.state_dict(), "optimizer": optimizer.state_dict(), "steps": step + 1}
                write_atomically(part, lambda out, state=state: torch.save(state, out))  # type: ignore[misc]  # a lambda
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
            best = regions.overlaps.max(axis=1, initial=0.0)
            near = torch.from_numpy(best >= 0.5)
            chosen = []
            for pool, total in ((near, recipe.foreground), (~near, recipe.background)):
                share = total * (place + 1) // count - total * place // count
                chosen.append(first_rows(pool.nonzero()[:, 0], share, generator))
            picked = torch.cat(chosen).numpy()
            if len(picked) == 0:
                continue
            crops.append(warped(sample["image"], regions.boxes[picked], self.net))
            own = regions.labels[regions.overlaps[picked].argmax(axis=1)] if len(regions.labels) else 0
            names.append(torch.from_numpy(np.where(best[picked] >= 0.5, own, 0)))
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
        return bool(missing)

    def svms(self) -> bool:
        """Train a linear SVM a class with hard negatives; a class without an object gets none."""
        file, classes = self.folder / "svms.npz", range(1, self.net.num_classes + 1)
        if file.is_file():
            return False
        scale, objects = self._objects()
        miners = {label: HardNegatives(objects[label], self.recipe.mining) for label in classes if len(objects[label])}
        for one in track(self._kept("features", *Regions._fields), "SVMs", len(self.train), disable=self.quiet):
            regions = Regions(*(one[name] for name in Regions._fields))
            features = one["features"].astype(np.float32) * np.float32(scale)
            for label, miner in miners.items():
                miner.see(features[background_of(regions, label, self.recipe.negative_below)])
        nothing = Linear(np.zeros(self.net.feature_size), -np.inf)
        machines = [miners[label].finished() if label in miners else nothing for label in classes]
        weight, bias = np.stack([one.weight for one in machines], axis=1), np.array([one.bias for one in machines])
        save_arrays(file, {"weight": weight, "bias": bias, "scale": np.array(scale)})
        return True

    def _kept(self, *names: str) -> Iterator[dict[str, NDArray[Any]]]:  # Any: arrays of several types
        """Some of the arrays of each training picture."""
        for row in range(len(self.train)):
            with np.load(self.folder / "features" / f"{row}.npz") as content:
                yield {name: content[name] for name in names}

    def _objects(self) -> tuple[float, dict[int, Floats]]:
        """What brings features to their mean norm, and so scaled the features of each class's objects."""
        norms, objects, labels = [], [], []
        for one in self._kept("features", "labels"):
            norms.append(np.linalg.norm(one["features"].astype(np.float32), axis=1))
            objects.append(one["features"][: len(one["labels"])].astype(np.float32))
            labels.append(one["labels"])
        scale = self.recipe.mean_norm / max(float(np.concatenate(norms).mean()), 1e-12)
        scaled, names = np.concatenate(objects) * np.float32(scale), np.concatenate(labels)
        return scale, {label: scaled[names == label] for label in range(1, self.net.num_classes + 1)}

    def boxes(self) -> bool:
        """Train a box regression a class."""
        file, classes = self.folder / "boxes.npz", range(1, self.net.num_classes + 1)
        if file.is_file():
            return False
        norms = [np.linalg.norm(one["pooled"].astype(np.float32), axis=1) for one in self._kept("pooled")]
        scale = self.recipe.mean_norm / max(float(np.concatenate([np.zeros(0), *norms]).mean()), 1e-12)
        fitted = []
        for label in track(classes, "box regression", disable=self.quiet):
            inputs, outputs = [], []
            for one in self._kept("near", "overlaps", "labels", "pooled", "boxes"):
                near, overlaps = one["near"], one["overlaps"]
                proposals = near >= len(one["labels"])  # an object's own box has nothing to learn from
                best = overlaps[near].argmax(axis=1) if len(near) else near
                mine = proposals & (one["labels"][best] == label) if len(near) else proposals
                inputs.append(one["pooled"][mine].astype(np.float32) * np.float32(scale))
                outputs.append(region_deltas(one["boxes"][near[mine]], one["boxes"][best[mine]]))
            fitted.append(fit_boxes(np.concatenate(inputs), np.concatenate(outputs), self.recipe.ridge))
        arrays = {name: np.stack([getattr(one, name) for one in fitted]) for name in BoxRegression._fields}
        save_arrays(file, arrays | {"scale": np.array(scale)})
        return True

    def detections(self) -> bool:
        """Detect in all test pictures, with and without box regression, and judge."""
        folder = self.folder / "detections"
        missing = [row for row in range(len(self.test)) if not (folder / f"{row}.npz").is_file()]
        detector = SVMDetector.of(self.folder, self.net, self.recipe)
        for row in track(missing, "detections", disable=self.quiet):
            sample = self.test[row]
            began = time.perf_counter()
            regions = regions_of(sample, self.recipe.proposals)
            boxes = regions.boxes[len(regions.labels) :]
            try:
                described = self.described(sample["image"], boxes)
            except (MemoryError, torch.OutOfMemoryError):
                print(f"image {sample['image_id']}: out of memory, nothing is detected in it", file=sys.stderr)
                boxes = boxes[:0]
                described = self.described(sample["image"], boxes)
            plain, moved = detector(sample["image"].shape[:2], boxes, *described)
            arrays = {f"plain_{name}": np.asarray(value) for name, value in plain.items()}
            arrays |= {f"moved_{name}": np.asarray(value) for name, value in moved.items()}
            arrays["seconds"] = np.array(time.perf_counter() - began)
            save_arrays(folder / f"{row}.npz", arrays)
        if missing or "figures" not in results_of(self.folder):
            self._judge(folder)
        return bool(missing)

    def _judge(self, folder: Path) -> None:
        metrics = {name: VOCMeanAP(self.net.num_classes) for name in ("plain", "moved")}
        seconds = []
        for row in range(len(self.test)):
            sample = self.test[row]
            with np.load(folder / f"{row}.npz") as content:
                seconds.append(float(content["seconds"]))
                for name, metric in metrics.items():
                    boxes, scores, labels = (
                        torch.from_numpy(content[f"{name}_{key}"]) for key in ("boxes", "scores", "labels")
                    )
                    found: Detections = {"boxes": boxes, "scores": scores, "labels": labels}
                    metric.update([found], [file_target(sample)], sample["image"].shape[:2])
        figures = {
            "test/map_50": float(metrics["moved"].compute()),
            "test/map_50_without_box_regression": float(metrics["plain"].compute()),
            "test/seconds_an_image": float(np.mean(seconds)),
        }
        write_json(self.folder / "results.json", results_of(self.folder) | {"figures": figures})

    def described(self, image: NDArray[np.uint8], boxes: Floats) -> tuple[Floats, Floats]:
        """Pooled values (R, P) and features (R, F) of regions."""
        self.net.eval()
        pooled, features = [], []
        with torch.inference_mode():
            for start in range(0, len(boxes), self.recipe.batch):
                crops = warped(image, boxes[start : start + self.recipe.batch], self.net).to(self.device)
                pooled.append(self.net.pooled(crops))
                features.append(self.net.features(pooled[-1]))
        if not pooled:
            return np.zeros((0, self.net.pooled_size), np.float32), np.zeros((0, self.net.feature_size), np.float32)
        return torch.cat(pooled).float().cpu().numpy(), torch.cat(features).float().cpu().numpy()

    def _tell(self, stage: str, seconds: float) -> None:
        results = results_of(self.folder)
        size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        results.setdefault("seconds", {})[stage] = results.get("seconds", {}).get(stage, 0.0) + seconds
        results["bytes_on_disk"] = size
        write_json(self.folder / "results.json", results)


class SVMDetector(NamedTuple):
    """The SVMs and box regressions of all classes."""

    weight: NDArray[np.float64]  # (F, K)
    bias: NDArray[np.float64]  # (K,), -inf for a class without an SVM
    scale: float
    regressions: Sequence[BoxRegression]
    pooled_scale: float
    recipe: Recipe

    @classmethod
    def of(cls, folder: Path, net: RegionNet, recipe: Recipe) -> "SVMDetector":
        """Of a folder whose earlier stages are done."""
        with np.load(folder / "svms.npz") as svms, np.load(folder / "boxes.npz") as boxes:
            parts = [boxes[name] for name in BoxRegression._fields]
            regressions = [BoxRegression(*(part[label] for part in parts)) for label in range(net.num_classes)]
            return cls(svms["weight"], svms["bias"], float(svms["scale"]), regressions, float(boxes["scale"]), recipe)

    def __call__(
        self, size: tuple[int, int], boxes: Floats, pooled: Floats, features: Floats
    ) -> tuple[Detections, Detections]:
        """Detections of a picture (H, W) at its proposals' boxes, and at boxes that the regressions moved.

        Scores are the SVMs' through a sigmoid, which keeps their order.
        """
        scores = features * np.float32(self.scale) @ self.weight + self.bias  # (R, K)
        inputs = pooled * np.float32(self.pooled_scale)
        moved = [region_boxes(boxes, regression(inputs), size) for regression in self.regressions]
        found = [
            self._thinned(torch.from_numpy(one), torch.from_numpy(scores))
            for one in (boxes, np.stack(moved, axis=1))  # (R, 4) and (R, K, 4)
        ]
        return found[0], found[1]

    def _thinned(self, boxes: Tensor, scores: Tensor) -> Detections:
        found = class_wise_nms(
            boxes,
            scores,
            score_threshold=self.recipe.score_threshold,
            iou_threshold=self.recipe.nms_threshold,
            top_before=len(scores),
            top_after=self.recipe.top_after,
        )
        return {"boxes": found["boxes"], "scores": found["scores"].sigmoid(), "labels": found["labels"]}


def warped(image: NDArray[np.uint8], boxes: Floats, net: RegionNet) -> Tensor:
    """Crops (R, 3, size, size) of boxes (R, 4)."""
    crops = [warp_region(image, tuple(box), net.size, net.context) for box in boxes.tolist()]
    return torch.stack([image_tensor(crop) for crop in crops])


def save_arrays(file: Path, arrays: dict[str, NDArray[Any]]) -> None:  # Any: arrays of several types
    """Write an `.npz` in one step."""
    write_atomically(file, lambda part: np.savez(part, **arrays))  # type: ignore[arg-type]  # no array is named allow_pickle


def begin(folder: Path, settings: dict[str, Any]) -> None:  # Any: whatever a configuration holds
    """Make the folder, or go on with one of the same settings."""
    file, asked = folder / "settings.json", json.loads(json.dumps(settings, default=str))
    if file.is_file():
        there = json.loads(file.read_text())
        if there != asked:
            names = sorted(name for name in there.keys() | asked.keys() if there.get(name) != asked.get(name))
            raise UserError(f"{folder} holds an R-CNN of other settings ({', '.join(names)}): choose another --out")
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} holds files that are no R-CNN: choose a new or empty folder")
    write_json(file, asked)


def results_of(folder: Path) -> dict[str, Any]:  # Any: figures by name
    """What the folder's `results.json` says so far."""
    file = folder / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return results
