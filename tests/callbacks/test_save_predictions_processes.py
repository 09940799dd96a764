"""Processes with unequal shares of the images save what one process saves."""

from types import SimpleNamespace

import pytest
import torch
from gloo_processes import run_together
from oracles.toy_training import (
    BOX_LABELS,
    SEGMENT_LABELS,
    ToyData,
    all_found,
    box_batch,
    panoptic_batch,
    segments_as_they_are,
)

from lightning_cv.callbacks import SavePredictions

SHARES = ((0, 1, 2), (2,))
"""Images by process: as a sampler fills the shares up, one is seen twice."""


def with_masks(batch):
    outputs = all_found(batch)
    for found in outputs["preds"]:
        found["masks"] = torch.ones(2, 16, 16, dtype=torch.bool)
        found["masks"][0, :, 5:] = False
    return outputs


KINDS = {
    "detection": (box_batch, with_masks, BOX_LABELS),
    "panoptic": (panoptic_batch, segments_as_they_are, SEGMENT_LABELS),
}


def save(folder, numbers):
    """Predictions of these images, a batch each, by the callback's own hooks."""
    for kind, (batch_of, answer, label_map) in KINDS.items():
        callback, trainer = SavePredictions(str(folder / kind)), SimpleNamespace(datamodule=ToyData([], label_map))
        callback.setup(trainer, None, "test")
        for number in numbers:
            batch = batch_of(number, images=1)
            batch["targets"][0]["image_id"] = str(number)
            callback.on_test_batch_end(trainer, None, answer(batch), batch, number)
        callback.on_test_epoch_end(trainer, None)


def save_share(rank, folder):
    save(folder / "two", SHARES[rank])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.slow
def test_two_processes_save_what_one_does(tmp_path):
    run_together(save_share, tmp_path, len(SHARES))
    save(tmp_path / "one", range(3))
    found = contents(tmp_path / "two")
    assert sorted(found) == [
        "detection/bbox_results.json", "detection/segm_results.json", "panoptic/panoptic_results.json",
        "panoptic/panoptic_results/0.png", "panoptic/panoptic_results/1.png", "panoptic/panoptic_results/2.png",
    ]  # fmt: skip
    assert found == contents(tmp_path / "one")
