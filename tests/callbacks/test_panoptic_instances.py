"""Instances of panoptic nets score as those of instance segmentation do, from memory and from the files."""

import json
from pathlib import Path

import pytest
import torch
from oracles.toy_training import SEGMENT_LABELS, ToyData, ToyTask, panoptic_batch, segments_as_they_are, toy_trainer

from lightning_cv.callbacks import PanopticInstanceMetrics, PanopticMetrics, SavePredictions
from lightning_cv.callbacks.metrics import COCO_MASK_NAMES, COCO_NAMES
from lightning_cv.datamodules import DrawnPanopticDataModule
from lightning_cv.tools import evaluate
from lightning_cv.transforms.panoptic import PanopticEval


def moved_things(batch):
    """Every thing, moved by a pixel or two, and again under the next class; segments as they are."""
    preds, instances = [], []
    for number, target in enumerate(batch["targets"]):
        things = target["is_thing"].nonzero()[:, 0]
        masks = [(target["segments"] == n + 1).roll((int(n) % 3, number % 2), (0, 1)) for n in things]
        labels = torch.cat([target["labels"][things] + 1, (target["labels"][things] + 1) % 10 + 1])
        scores = ((torch.arange(len(labels)) * 37 + 11 * number) % 101 / 101).float()
        places = [mask.nonzero().flip(1) for mask in masks]
        boxes = torch.tensor([[*place.amin(0), *(place.amax(0) + 1)] for place in places])
        instances.append(
            {"boxes": boxes.float().repeat(2, 1), "scores": scores, "labels": labels, "masks": torch.stack(masks * 2)}
        )
        preds.append({"segments": target["segments"], "labels": target["labels"]})
    ids = [target["image_id"] for target in batch["targets"]]
    return {"preds": preds, "targets": batch["targets"], "image_ids": ids, "instances": instances}


@pytest.mark.parametrize("side", [40, 64, 150])
def test_drawn_things_score_as_the_official_files_do(tmp_path, capsys, side):
    data = DrawnPanopticDataModule(
        str(tmp_path), train=1, val=1, test=6, size=64, batch_size=6, eval_transform=PanopticEval(side, side)
    )
    metrics = [PanopticMetrics(), PanopticInstanceMetrics(errors="never", per_class=True, confusion="never")]
    trainer = toy_trainer(tmp_path / "run", callbacks=[*metrics, SavePredictions(str(tmp_path / "saved"))])
    measured = trainer.test(ToyTask(moved_things), datamodule=data, verbose=False)[0]
    assert measured["test/pq"] > (0.99 if side != 40 else 0.8)
    (truth,) = Path(data.root).rglob("instances_test*.json")
    for kind, names in (("bbox", COCO_NAMES), ("segm", COCO_MASK_NAMES)):
        capsys.readouterr()
        files = ["--gt", str(truth), "--pred", str(tmp_path / f"saved/{kind}_results.json"), "--iou-type", kind]
        assert evaluate.main(["coco", *files, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["figures"]
        for ours, theirs in names.items():
            value = measured.get(f"test/{ours}")
            assert found[f"{kind}_{theirs}"] == (None if value is None else pytest.approx(value, abs=1e-6)), ours
        assert 0.1 < found[f"{kind}_AP"] < 0.95


def test_a_task_without_instances_is_refused(tmp_path):
    trainer = toy_trainer(tmp_path, callbacks=[PanopticInstanceMetrics()])
    data = ToyData([panoptic_batch(0)], SEGMENT_LABELS)
    with pytest.raises(ValueError, match="needs a task whose steps return instances"):
        trainer.test(ToyTask(segments_as_they_are), datamodule=data, verbose=False)
