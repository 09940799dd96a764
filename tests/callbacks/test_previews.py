import pickle

import numpy as np
import pytest
import torch
from oracles.toy_training import (
    BOX_LABELS,
    MASK_LABELS,
    PLANE_LABELS,
    SEGMENT_LABELS,
    ToyData,
    ToyTask,
    all_disc,
    all_found,
    all_three,
    box_batch,
    image_batch,
    mask_batch,
    panoptic_batch,
    plane_batch,
    segments_as_they_are,
    terms_of,
    toy_trainer,
)
from PIL import Image

from lightning_cv import tracking
from lightning_cv.callbacks import (
    DetectionPreview,
    LatentTraversal,
    MultilabelPreview,
    PanopticPreview,
    ReconstructionPreview,
    SegmentationPreview,
)
from lightning_cv.viz.canvas import class_colour

KINDS = {
    "segmentation": (SegmentationPreview, all_disc, mask_batch, MASK_LABELS),
    "multilabel": (MultilabelPreview, all_three, plane_batch, PLANE_LABELS),
    "detection": (DetectionPreview, all_found, box_batch, BOX_LABELS),
    "panoptic": (PanopticPreview, segments_as_they_are, panoptic_batch, SEGMENT_LABELS),
    "reconstruction": (ReconstructionPreview, terms_of, image_batch, BOX_LABELS),
    "traversal": (LatentTraversal, terms_of, image_batch, BOX_LABELS),
}


def fit(folder, kind, callbacks, **options):
    _, answer, batch, label_map = KINDS[kind]
    task, data = ToyTask(answer), ToyData([batch(0), batch(2), batch(4)], label_map)
    toy_trainer(folder, callbacks=callbacks, **options).fit(task, datamodule=data)
    return task


def pngs(folder):
    return sorted(path.name for path in (folder / "previews").glob("*.png"))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_drawn_every_so_often_and_at_the_end(tmp_path, kind):
    fit(tmp_path, kind, [KINDS[kind][0](count=3, every_n_epochs=2)], max_epochs=5)
    assert pngs(tmp_path) == [f"{kind}-epoch00{epoch}.png" for epoch in (1, 3, 4)]
    first, last = (np.asarray(Image.open(tmp_path / "previews" / f"{kind}-epoch00{e}.png")) for e in (1, 4))
    assert first.shape == last.shape
    assert first.std() > 5
    assert np.array_equal(first, last) == (kind != "traversal")  # only the traversal asks the trained net


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_with_and_without(tmp_path, kind):
    weights = []
    for callbacks in ([], [KINDS[kind][0](count=3)]):
        torch.manual_seed(3)
        task = fit(tmp_path, kind, callbacks, max_epochs=2, val_check_interval=1)
        weights.append(task.net.weight.item())
    assert weights[0] == weights[1] != 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_fast_dev_run(tmp_path, kind):
    fit(tmp_path, kind, [KINDS[kind][0]()], fast_dev_run=True)
    assert pngs(tmp_path) == [f"{kind}-epoch000.png"]


def test_count_limits_the_images_over_batches(tmp_path):
    heights = {}
    for count in (1, 3, 99):
        fit(tmp_path / str(count), "reconstruction", [ReconstructionPreview(count=count)])
        heights[count] = Image.open(tmp_path / str(count) / "previews/reconstruction-epoch000.png").width
    cell = 64 + 2
    assert heights[3] - heights[1] == 2 * cell
    assert heights[99] - heights[1] == 5 * cell  # there are six


@pytest.mark.parametrize("kind", ["segmentation", "detection", "panoptic", "reconstruction"])
def test_what_is_kept_is_no_view_of_its_batch(kind):
    make, answer, draw, _ = KINDS[kind]
    kept = []
    for batch in (draw(0, images=1), draw(0, images=8)):
        kept.append(make().items(answer(batch), batch, 1))
    assert len(kept[0]) == len(kept[1]) == 1
    alone, of_many = (len(pickle.dumps(items)) for items in kept)
    assert of_many == pytest.approx(alone, rel=0.01)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="DetectionPreview: count and every_n_epochs must be at least 1, got 0 and 1"):
        DetectionPreview(count=0)


def test_what_wandb_gets(tmp_path, monkeypatch):
    sent = {}
    monkeypatch.setattr(tracking, "log_boxes", lambda trainer, key, *rest: sent.update({key: rest}))
    monkeypatch.setattr(tracking, "log_masks", lambda trainer, key, *rest: sent.update({key: rest}))
    monkeypatch.setattr(tracking, "log_images", lambda trainer, key, *rest: sent.update({key: rest}))
    fit(tmp_path, "detection", [DetectionPreview(count=3, score_threshold=0.4)])
    fit(tmp_path, "segmentation", [SegmentationPreview(count=3)])
    fit(tmp_path, "multilabel", [MultilabelPreview(count=3)])
    fit(tmp_path, "traversal", [LatentTraversal()])
    pictures, found, targets, label_map, threshold = sent["previews/detection"]
    assert [target["image_id"] for target in targets] == ["img0", "img1", "img2"]
    assert (len(pictures), len(found), label_map, threshold) == (3, 3, BOX_LABELS, 0.4)
    assert pictures[0].shape == (16, 16, 3)
    pictures, masks, ids, _ = sent["previews/segmentation"]
    assert ids == ["img0", "img1", "img2"]
    assert torch.equal(masks[0]["predictions"], torch.ones(16, 16, dtype=torch.int64))
    assert masks[2]["ground_truth"][0, 0] == 255
    _, masks, ids, label_map = sent["previews/multilabel"]
    assert (ids, label_map) == (["img0", "img1", "img2"], PLANE_LABELS)
    assert list(masks[0]) == [f"{who}_{name}" for name in ("disc", "star", "ring") for who in ("predicted", "true")]
    assert {name: sorted(mask.unique().tolist()) for name, mask in masks[0].items()} == {
        "predicted_disc": [0, 1], "true_disc": [0, 1, 255], "predicted_star": [0, 2], "true_star": [2],
        "predicted_ring": [0, 3], "true_ring": [0],
    }  # fmt: skip
    assert len(sent["previews/traversal"][0]) == 1


def test_instance_masks_lie_over_the_picture_in_their_classs_colour(tmp_path):
    batch = box_batch(0, images=1)
    truth = batch["targets"][0]
    truth["masks"] = torch.zeros(1, 16, 16, dtype=torch.bool)
    truth["masks"][:, 2:10, 2:10] = True
    widths = []
    for name, label in (("with", 1), ("without", None)):
        answer = all_found(batch)
        if label:
            answer["preds"][0] |= {"masks": truth["masks"].repeat(2, 1, 1)}
        data = ToyData([batch], BOX_LABELS)
        task = ToyTask(lambda _, answer=answer: answer)
        toy_trainer(tmp_path / name, callbacks=[DetectionPreview()]).fit(task, datamodule=data)
        drawn = np.asarray(Image.open(tmp_path / name / "previews/detection-epoch000.png"))
        tinted = (drawn == np.array(class_colour(1)) // 2).all(-1)  # half the colour, over black
        widths.append([int(half.sum()) for half in np.array_split(tinted, 2, axis=1)])
    (true, found), none = widths
    assert true > 0.8 * (8 * 20) ** 2 * 0.5  # the object is 8 px of 16, each drawn as 20; names and outlines cover some
    assert found > 0.5 * true
    assert none == [0, 0]
