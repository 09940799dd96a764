from pathlib import Path

import pytest
import torch
from oracles.toy_training import SEGMENT_LABELS, SEGMENT_THINGS, ToyData, panoptic_batch, toy_trainer
from torch import Tensor, nn

from lightning_cv.callbacks import PanopticInstanceMetrics, PanopticMetrics
from lightning_cv.checkpoints import load_checkpoint
from lightning_cv.contracts import LabelMap, PanopticNet, PanopticParts, PanopticTarget
from lightning_cv.models.panoptic.base import DividingNet
from lightning_cv.ops.panoptic import HeuristicMerge, MaskWiseMerge
from lightning_cv.tasks import PanopticModule

SGD = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731


class LeftAndRight(DividingNet):
    """Proposes the right half as a thing of class 1, with all pixels as stuff; learns one weight."""

    def __init__(self) -> None:
        super().__init__(2, 1, HeuristicMerge())
        self.weight = nn.Parameter(torch.ones(()))

    def losses(self, images: Tensor, targets: list[PanopticTarget]) -> dict[str, Tensor]:
        return {"first": self.weight.square(), "second": 2 * self.weight}

    def parts(self, images: Tensor) -> list[PanopticParts]:
        masks = torch.zeros(2, *images.shape[-2:], dtype=torch.bool)
        masks[0, :, images.shape[-1] // 2 :] = True
        masks[1] = True
        width, height = float(images.shape[-1]), float(images.shape[-2])
        boxes = torch.tensor([[width / 2, 0, width, height], [0, 0, 0, 0]])
        scores, things = torch.tensor([0.75, 0.5]), torch.tensor([True, False])
        return [PanopticParts(masks, torch.tensor([1, 0]), scores, things, boxes)] * len(images)


def run(folder: Path, task: PanopticModule, verb: str = "test") -> dict[str, float]:
    trainer = toy_trainer(folder, callbacks=[PanopticMetrics(), PanopticInstanceMetrics(confusion="never")])
    data = ToyData([panoptic_batch(0)], SEGMENT_LABELS)
    getattr(trainer, verb)(task, datamodule=data, **({"verbose": False} if verb == "test" else {}))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_terms_pq_and_ap_come_from_one_pass(tmp_path: Path) -> None:
    """Of two images the first is divided rightly, the other's thing is of another class."""
    net = LeftAndRight()
    assert isinstance(net, PanopticNet)
    found = run(tmp_path, PanopticModule(net, SGD))
    assert found["test/loss_first"] == pytest.approx(1)
    assert found["test/loss"] == pytest.approx(3)
    assert found["test/pq"] == pytest.approx((1 + 2 / 3 + 0) / 3)  # ground, disc with a false positive, star missed
    assert found["test/pq_stuff"] == pytest.approx(1)
    assert found["test/map"] == pytest.approx(0.5, abs=0.01)
    assert found["test/mask_map"] == pytest.approx(0.5, abs=0.01)


def test_the_data_say_which_classes_are_things(tmp_path: Path) -> None:
    net = LeftAndRight()
    assert net.is_thing.tolist() == [True, True, False]
    run(tmp_path, PanopticModule(net, SGD))
    assert net.is_thing.tolist() == list(SEGMENT_THINGS)
    with pytest.raises(ValueError, match=r"model.net has 2 classes of things and 1 of stuff, but the data has 1 and 2"):
        net.tell_classes([True, False, False])


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ((True, True, True, False), "model.net has 2 classes of things and 1 of stuff, but the data has 3 and 1"),
        (None, "PanopticModule needs data that tell things and stuff apart, .* not those of ToyData"),
    ],
    ids=["another number", "not told"],
)
def test_data_of_other_classes_are_refused(marks: tuple[bool, ...] | None, message: str, tmp_path: Path) -> None:
    names = ("ground", "disc", "star", "more")[: len(marks or SEGMENT_THINGS)]
    data = ToyData([panoptic_batch(0)], LabelMap(names, 0, tuple(range(1, len(names) + 1))))
    data.is_thing = marks  # type: ignore[assignment]  # data of other tasks have none
    with pytest.raises(ValueError, match=message):
        toy_trainer(tmp_path).test(PanopticModule(LeftAndRight(), SGD), datamodule=data, verbose=False)


def test_another_merge_is_tried_without_training(tmp_path: Path) -> None:
    strict = run(tmp_path, PanopticModule(LeftAndRight(), SGD, inference=HeuristicMerge(score=0.8)))
    assert strict["test/pq_things"] == 0
    mask_wise = PanopticModule(LeftAndRight(), SGD, inference=MaskWiseMerge(score=0.5, stuff_overlap=0.6))
    assert run(tmp_path, mask_wise)["test/pq"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_a_checkpoint_knows_its_classes_and_refuses_others(tmp_path: Path) -> None:
    task = PanopticModule(LeftAndRight(), SGD)
    trainer = toy_trainer(tmp_path, enable_checkpointing=True)
    trainer.fit(task, datamodule=ToyData([panoptic_batch(0)], SEGMENT_LABELS))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = load_checkpoint(tmp_path / "a.ckpt")
    assert content["lightning_cv"]["is_thing"] == list(SEGMENT_THINGS)
    alone = PanopticModule(LeftAndRight(), SGD)
    alone.on_load_checkpoint(content)
    assert alone.net.is_thing.tolist() == list(SEGMENT_THINGS)  # type: ignore[attr-defined]  # ours has it
    alone.is_thing = (True, True, False)
    with pytest.raises(ValueError, match="disagree whether the class 'ground' is a thing or stuff"):
        alone.on_load_checkpoint(content)


def test_prediction_gives_segments_and_instances() -> None:
    ((divided, instances),) = PanopticModule(LeftAndRight(), SGD).predict_step(torch.zeros(1, 3, 4, 6))
    assert divided["segments"].tolist() == [[2, 2, 2, 1, 1, 1]] * 4
    assert instances["labels"].tolist() == [2]
    assert instances["masks"].shape == (1, 4, 6)
