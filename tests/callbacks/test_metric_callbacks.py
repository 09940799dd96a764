import math

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from oracles.toy_training import (
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

from lightning_cv.callbacks import (
    DetectionMetrics,
    LikelihoodMetrics,
    LocalizationMetrics,
    MultilabelMetrics,
    PanopticMetrics,
    ProposalMetrics,
    SegmentationMetrics,
)


def figures(folder, callback, task, data, verb="validate"):
    trainer = toy_trainer(folder, callbacks=[callback])
    getattr(trainer, verb)(task, datamodule=data, verbose=False)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def test_segmentation_figures_by_hand(tmp_path):
    data = ToyData([mask_batch(0), mask_batch(2, images=1, size=8)], MASK_LABELS)
    found = figures(tmp_path, SegmentationMetrics(per_class=True), ToyTask(all_disc), data)
    means = {"miou": 1 / 4, "dice": 1 / 3, "pixel_accuracy": 1 / 2, "mean_accuracy": 1 / 2}
    classes = {"iou_background": 0, "iou_disc": 1 / 2, "accuracy_background": 0, "accuracy_disc": 1}
    expected = means | classes | {"frequency_weighted_iou": 1 / 4}
    assert found == pytest.approx({f"val/{name}": value for name, value in expected.items()})


def test_multilabel_figures_by_hand(tmp_path):
    """Of 16 x 16 pixels the disc has 15 x 8 that count, 7 x 8 of them found, and 7 x 8 false alarms."""
    data = ToyData([plane_batch(0), plane_batch(2, images=1)], PLANE_LABELS)
    found = figures(tmp_path, MultilabelMetrics(per_class=True), ToyTask(all_three), data)
    ious = {"disc": 7 / 22, "star": 1 / 2, "ring": 0.0}
    dices = {"disc": 7 / 14.5, "star": 2 / 3, "ring": 0.0}
    expected = {"iou": sum(ious.values()) / 3, "dice": sum(dices.values()) / 3}
    expected |= {f"iou_{name}": value for name, value in ious.items()}
    expected |= {f"dice_{name}": value for name, value in dices.items()}
    assert found == pytest.approx({f"val/{name}": value for name, value in expected.items()})
    strict = figures(tmp_path, MultilabelMetrics(threshold=0.8, per_class=True), ToyTask(all_three), data, "test")
    assert strict == {f"test/{name}": 0.0 for name in ("iou", "dice", *(f"{k}_{n}" for k in ("iou", "dice")
                                                                      for n in ("disc", "star")))}  # fmt: skip
    with pytest.raises(ValueError, match="threshold must be at least 0 and below 1, got 1"):
        MultilabelMetrics(threshold=1.0)


def test_detection_figures_by_hand(tmp_path):
    data = ToyData([box_batch(0), box_batch(2, images=1)])
    found = figures(tmp_path, DetectionMetrics(per_class=True), ToyTask(all_found), data)
    assert found == {"val/map_50": 1.0, "val/ap_disc": 1.0, "val/ap_star": 1.0}
    plain = DetectionMetrics(iou=0.75, coco="never", errors="never")
    assert set(figures(tmp_path, plain, ToyTask(all_found), data, "test")) == {"test/map_75"}


def test_detection_figures_of_a_test_by_hand(tmp_path):
    data = ToyData([box_batch(0), box_batch(2, images=1)])
    found = figures(tmp_path, DetectionMetrics(per_class=True), ToyTask(all_found), data, verb="test")
    coco = ("map", "map_coco_50", "map_75", "map_small", "mar_1", "mar_10", "mar_100", "mar_small")  # 256 px^2 a box
    right = ["map_50", *coco, *(f"{kind}_{name}" for kind in ("ap", "ap_coco") for name in ("disc", "star"))]
    errors = ("classification", "localization", "both", "duplicate", "background", "missed")
    assert found == pytest.approx(
        {f"test/{name}": 1.0 for name in right} | {f"test/err_{name}": 0.0 for name in errors}
    )
    with pytest.raises(ValueError, match="map_75 would be VOC's figure and COCO's"):
        DetectionMetrics(iou=0.75)


def test_crowds_and_areas_reach_the_figures(tmp_path):
    def with_crowd(batch):
        """A crowd of discs over the lower half, in which two detections lie; the object is large by its area."""
        outputs = all_found(batch)
        for found, target in zip(outputs["preds"], outputs["targets"], strict=True):
            target["boxes"] = torch.cat([target["boxes"][:1], torch.tensor([[0.0, 10.0, 16.0, 16.0]])])
            target["labels"] = target["labels"][:1].repeat(2)
            target["difficult"] = torch.tensor([False, False])
            target["crowd"] = torch.tensor([False, True])
            target["areas"] = torch.tensor([1e4, 2e4], dtype=torch.float64)
            found["boxes"] = torch.tensor([[2.0, 2.0, 10.0, 10.0], [1.0, 11.0, 4.0, 14.0], [8.0, 11.0, 12.0, 15.0]])
            found["scores"] = torch.tensor([0.5, 0.9, 0.8])
            found["labels"] = target["labels"][:1].repeat(3)
        return outputs

    found = figures(tmp_path, DetectionMetrics(coco="always"), ToyTask(with_crowd), ToyData([box_batch(0)]))
    assert found["val/map"] == found["val/map_large"] == found["val/map_coco_50"] == pytest.approx(1.0)
    assert "val/map_small" not in found  # there is none
    assert found["val/map_50"] == pytest.approx(1 / 3)  # VOC, which knows no crowds, asks for the overlap with it


def filled(boxes):
    """Masks of 16 x 16 that fill boxes of whole numbers."""
    masks = torch.zeros(len(boxes), 16, 16, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def with_masks(batch):
    """Every box found; the mask of the first image exactly, of the second 48 of 64 pixels; no right one besides."""
    outputs = all_found(batch)
    for found, target in zip(outputs["preds"], outputs["targets"], strict=True):
        found["masks"], target["masks"] = filled(found["boxes"]), filled(target["boxes"])
    if len(outputs["preds"]) > 1:
        outputs["preds"][1]["masks"][0, 8:] = False
    return outputs


def test_mask_figures_by_hand(tmp_path):
    expected = {"mask_map": 0.8, "mask_map_50": 1.0, "mask_map_75": 1.0, "mask_map_small": 0.8, "mask_mar_1": 0.8,
                "mask_mar_10": 0.8, "mask_mar_100": 0.8, "mask_mar_small": 0.8, "mask_ap_disc": 1.0,
                "mask_ap_star": 0.6}  # fmt: skip

    def measured(verb, answer=with_masks, **options):
        metrics = DetectionMetrics(per_class=True, **options)
        found = figures(tmp_path, metrics, ToyTask(answer), ToyData([box_batch(0)]), verb)
        kept = [record.masks is not None for record in metrics.metric.records.values()]
        return {name.split("/")[1]: value for name, value in found.items()}, any(kept)

    plain, _ = measured("test", all_found)
    found, kept = measured("test")
    assert kept
    # of 32 x 32 px files the masks have 256 and 192 px^2: 0.75 is enough six of ten times
    assert found == pytest.approx(plain | expected)
    for verb, options in (("validate", {}), ("test", {"coco": "never"})):
        found, kept = measured(verb, **options)
        assert not kept
        assert not [name for name in found if name.startswith("mask")]
    assert measured("validate", coco="always")[0]["mask_map"] == pytest.approx(0.8)


def test_masks_of_detections_alone_or_of_objects_alone_change_nothing(tmp_path):
    def without(side):
        def answer(batch):
            outputs = with_masks(batch)
            for one in outputs[side]:
                del one["masks"]
            return outputs

        return answer

    plain = figures(tmp_path, DetectionMetrics(), ToyTask(all_found), ToyData([box_batch(0)]), "test")
    for side in ("preds", "targets"):
        data = ToyData([box_batch(0)])
        assert figures(tmp_path, DetectionMetrics(), ToyTask(without(side)), data, "test") == plain


@pytest.mark.parametrize("side", ["preds", "targets"])
def test_an_image_without_masks_among_others_is_named(tmp_path, side):
    def answer(batch):
        outputs = with_masks(batch)
        del outputs[side][1]["masks"]
        return outputs

    with pytest.raises(ValueError, match="image img1: its detections or its objects have no masks"):
        figures(tmp_path, DetectionMetrics(), ToyTask(answer), ToyData([box_batch(0)]), "test")


def test_localization_figures_by_hand(tmp_path):
    def half_right(batch):
        """The first image right, the second of the wrong class and half as wide, the third without a guess."""
        outputs = all_found(batch)
        _, second, third = outputs["preds"]
        second["labels"] = 3 - second["labels"]
        second["boxes"][:, 2] = 6.0
        outputs["preds"][2] = {key: values[:0] for key, values in third.items()}
        return outputs

    found = figures(tmp_path, LocalizationMetrics(), ToyTask(half_right), ToyData([box_batch(0, images=3)]))
    third = pytest.approx(1 / 3)
    assert found == {"val/localization_accuracy": third, "val/accuracy": third, "val/mean_iou": pytest.approx(0.5)}
    found = figures(tmp_path, LocalizationMetrics(iou=0.4), ToyTask(half_right), ToyData([box_batch(0, images=3)]))
    assert found["val/localization_accuracy"] == third  # the class is wrong
    batch = box_batch(0)
    for key in ("boxes", "labels", "difficult"):
        batch["targets"][1][key] = batch["targets"][1][key].repeat(2, *[1] * (batch["targets"][1][key].ndim - 1))
    with pytest.raises(ValueError, match=r"img1 has 2 .* data\.single_object \(drawn scenes: data\.max_objects=1"):
        figures(tmp_path, LocalizationMetrics(), ToyTask(all_found), ToyData([batch]))


def test_panoptic_figures_by_hand(tmp_path):
    data = ToyData([panoptic_batch(0), panoptic_batch(2, images=1)], SEGMENT_LABELS)
    found = figures(tmp_path, PanopticMetrics(per_class=True), ToyTask(segments_as_they_are), data)
    names = [f"{what}{which}" for what in ("pq", "sq", "rq") for which in ("", "_things", "_stuff")]
    names += ["pq_ground", "pq_disc", "pq_star"]
    assert found == pytest.approx({f"val/{name}": 1.0 for name in names})


def test_panoptic_figures_are_those_of_the_files_pixels(tmp_path):
    def wrong_class_and_too_wide(batch):
        """The thing of the second image has the wrong class; that of the first reaches 4 of 16 columns too far."""
        outputs = segments_as_they_are(batch)
        first, second = outputs["preds"]
        first["segments"] = first["segments"].clone()
        first["segments"][:, 4:] = 2
        second["labels"] = torch.tensor([0, 3 - second["labels"][1]])
        return outputs

    data = ToyData([panoptic_batch(0)], SEGMENT_LABELS)
    found = figures(tmp_path, PanopticMetrics(per_class=True), ToyTask(wrong_class_and_too_wide), data)
    # ground: of 15 counted columns 7 (IoU 7 / 15, a miss and a false one) and all 15; disc: 16 of 24 columns, and a
    # false one; star: a miss
    ground, disc = 1 / (1 + 0.5 + 0.5), (16 / 24) / (1 + 0.5)
    assert found["val/pq_ground"] == pytest.approx(ground)
    assert found["val/pq_disc"] == pytest.approx(disc)
    assert found["val/pq_star"] == 0.0
    assert found["val/pq"] == pytest.approx((ground + disc) / 3)
    assert found["val/pq_things"] == pytest.approx(disc / 2)
    assert found["val/pq_stuff"] == pytest.approx(ground)


def test_half_of_the_objects_missed(tmp_path):
    def only_discs(batch):
        outputs = all_found(batch)
        for found in outputs["preds"]:
            found |= {key: values[found["labels"] == 1] for key, values in found.items()}
        return outputs

    metrics = DetectionMetrics(coco="always", errors="always")
    found = figures(tmp_path, metrics, ToyTask(only_discs), ToyData([box_batch(0, images=4)]))
    for name in ("map_50", "map", "map_75", "mar_100"):
        assert found[f"val/{name}"] == pytest.approx(0.5)
    assert found["val/err_missed"] == pytest.approx(0.5)  # as tidecv does, the missed are no longer asked for
    assert found["val/err_classification"] == 0.0


def test_likelihood_means_count_images_not_batches(tmp_path):
    data = ToyData([image_batch(0, images=4), image_batch(4, images=1)])
    found = figures(tmp_path, LikelihoodMetrics(), ToyTask(terms_of), data)
    expected = {"val/elbo": -6.0, "val/reconstruction": 4.0, "val/kl": 2.0, "val/active_units": 1.0}
    bits = 6 / math.log(2) / 16**2
    assert found == pytest.approx(expected | {"val/bits_per_dim": bits})  # no log variance: no aggregate posterior


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


def test_proposals_are_judged_whatever_their_class(tmp_path):
    def another_class(batch):
        outputs = all_found(batch)
        for found in outputs["preds"]:
            found["labels"] = 3 - found["labels"]
        return outputs

    data = ToyData([box_batch(0), box_batch(2, images=1)])
    found = figures(tmp_path, ProposalMetrics([1, 50]), ToyTask(another_class), data)
    names = ("proposal_ar_1", "proposal_ar_50", "proposal_recall_50_1", "proposal_recall_50_50")
    assert found == {f"val/{name}": 1.0 for name in names}


def test_confusion_is_counted_and_drawn_in_tests(tmp_path):
    def discs_taken_for_stars(batch):
        outputs = all_found(batch)
        for found in outputs["preds"]:
            found["labels"] = torch.full_like(found["labels"], 2)
        return outputs

    folder = tmp_path / "previews"
    data = ToyData([box_batch(0), box_batch(2, images=1)])  # a disc, a star, a disc
    figures(tmp_path, DetectionMetrics(), ToyTask(discs_taken_for_stars), data)
    assert not folder.exists()
    figures(tmp_path, DetectionMetrics(), ToyTask(discs_taken_for_stars), data, verb="test")
    lines = (folder / "confusion-test.csv").read_text().splitlines()
    assert lines == ["truth,prediction,count", "disc,star,2", "star,star,1"]
    data = ToyData([mask_batch(0, images=1, size=4)], MASK_LABELS)  # 12 pixels count, half of them background
    figures(tmp_path, SegmentationMetrics(), ToyTask(all_disc), data, verb="test")
    lines = (folder / "confusion-test.csv").read_text().splitlines()
    assert lines == ["truth,prediction,count", "background,disc,6", "disc,disc,6"]
    assert (folder / "confusion-test.png").stat().st_size > 500
