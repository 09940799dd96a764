import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from oracles.toy_training import (
    MASK_LABELS,
    ToyData,
    ToyTask,
    all_disc,
    all_found,
    box_batch,
    image_batch,
    mask_batch,
    terms_of,
    toy_trainer,
)

from lightning_cv.callbacks import DetectionMetrics, LikelihoodMetrics, SegmentationMetrics


def figures(folder, callback, task, data, verb="validate"):
    trainer = toy_trainer(folder, callbacks=[callback])
    getattr(trainer, verb)(task, datamodule=data, verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_segmentation_figures_by_hand(tmp_path):
    data = ToyData([mask_batch(0), mask_batch(2, images=1, size=8)], MASK_LABELS)
    found = figures(tmp_path, SegmentationMetrics(per_class=True), ToyTask(all_disc), data)
    assert found == pytest.approx(
        {"val/miou": 0.25, "val/pixel_accuracy": 0.5, "val/iou_background": 0.0, "val/iou_disc": 0.5}
    )


def test_detection_figures_by_hand(tmp_path):
    data = ToyData([box_batch(0), box_batch(2, images=1)])
    found = figures(tmp_path, DetectionMetrics(per_class=True), ToyTask(all_found), data)
    assert found == {"val/map_50": 1.0, "val/ap_disc": 1.0, "val/ap_star": 1.0}
    tested = figures(tmp_path, DetectionMetrics(), ToyTask(all_found), data, verb="test")
    assert tested == pytest.approx({"test/map_50": 1.0, "test/map": 1.0, "test/map_75": 1.0})
    assert set(figures(tmp_path, DetectionMetrics(iou=0.75, coco="never"), ToyTask(all_found), data, "test")) == {
        "test/map_75"
    }


def test_half_of_the_objects_missed(tmp_path):
    def only_discs(batch):
        outputs = all_found(batch)
        for found in outputs["preds"]:
            found["boxes"][found["labels"] == 2] += 50.0
        return outputs

    found = figures(tmp_path, DetectionMetrics(coco="always"), ToyTask(only_discs), ToyData([box_batch(0, images=4)]))
    assert found == pytest.approx({"val/map_50": 0.5, "val/map": 0.5, "val/map_75": 0.5})


def test_likelihood_means_count_images_not_batches(tmp_path):
    data = ToyData([image_batch(0, images=4), image_batch(4, images=1)])
    found = figures(tmp_path, LikelihoodMetrics(), ToyTask(terms_of), data)
    assert found == pytest.approx({"val/elbo": -6.0, "val/reconstruction": 4.0, "val/kl": 2.0, "val/active_units": 1.0})


def test_figures_start_anew_each_epoch_and_checkpoints_can_watch_them(tmp_path):
    answers = iter([all_disc] * 2 + [lambda batch: all_disc(batch) | {"preds": batch["masks"].clamp(max=1)}] * 2)
    best = ModelCheckpoint(tmp_path, filename="{val/miou:.2f}", monitor="val/miou", mode="max",
                           auto_insert_metric_name=False)  # fmt: skip
    trainer = toy_trainer(tmp_path, callbacks=[best, SegmentationMetrics()], max_epochs=2, enable_checkpointing=True)
    task = ToyTask(lambda batch: next(answers)(batch))
    trainer.fit(task, datamodule=ToyData([mask_batch(0), mask_batch(2)], MASK_LABELS))
    assert trainer.callback_metrics["val/miou"] == 1.0  # the first epoch's pixels are forgotten
    assert best.best_model_score == 1.0
    assert torch.load(best.best_model_path, weights_only=True)["epoch"] == 1


def test_data_without_class_names_are_told_so(tmp_path):
    data = ToyData([mask_batch(0)])
    del data.label_map
    with pytest.raises(ValueError, match="SegmentationMetrics needs a data module with a label_map"):
        figures(tmp_path, SegmentationMetrics(), ToyTask(all_disc), data)


def test_no_batch_at_all_gives_no_number(tmp_path):
    task = ToyTask(all_found)
    trainer = toy_trainer(tmp_path, callbacks=[DetectionMetrics()], limit_val_batches=0, limit_train_batches=1)
    trainer.fit(task, datamodule=ToyData([box_batch(0)]))
    assert "val/map_50" not in trainer.callback_metrics
