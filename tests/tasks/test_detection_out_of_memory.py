"""Evaluation goes on where memory runs out, and says for which images; the losses of such a batch are left out."""

import json
import os
from pathlib import Path

import pytest
import torch
from gloo_processes import run_together
from oracles.toy_training import BOX_LABELS, ToyData, toy_trainer
from torch import Tensor, nn

from lightning_cv.callbacks import DetectionMetrics
from lightning_cv.contracts import DetectionBatch, Detections
from lightning_cv.tasks import InstanceSegModule, SingleStageDetector

CPU = "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
ERRORS = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU), MemoryError()]
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*distributed setting")


class Small(nn.Module):
    """Has memory for images whose brightness together is at most `room`; finds one box in each."""

    num_classes = 2

    def __init__(self, room: float, error: Exception) -> None:
        super().__init__()
        self.weight, self.room, self.error = nn.Parameter(torch.ones(())), room, error

    def losses(self, images: Tensor, targets: object) -> dict[str, Tensor]:
        return {"box": images.mean() * self.weight, "class": self.weight * 2}

    def detect(self, images: Tensor) -> list[Detections]:
        if images[:, 0, 0, 0].sum() > self.room:
            raise self.error
        box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        one: Detections = {"boxes": box, "scores": torch.ones(1), "labels": torch.ones(1, dtype=torch.int64)}
        return [one] * len(images)


def batch(*brightness: float) -> DetectionBatch:
    images = torch.tensor(brightness, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 8, 6)
    return {
        "images": images,
        "targets": [
            {
                "image_id": f"b{value:g}",
                "boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
                "labels": torch.ones(1, dtype=torch.int64),
                "difficult": torch.zeros(1, dtype=torch.bool),
                "original_size": (8, 6),
            }
            for value in brightness
        ],
    }


def task(room: float, error: Exception, kind: type[SingleStageDetector] = SingleStageDetector) -> SingleStageDetector:
    return kind(Small(room, error), torch.optim.SGD)  # type: ignore[arg-type]  # no optimizer is built


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("verb", ["test", "validate"])
def test_an_image_that_does_not_fit_is_named_and_the_rest_goes_on(
    error: Exception, verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = toy_trainer(tmp_path, callbacks=[DetectionMetrics()])
    data = ToyData([batch(1, 2), batch(3, 9), batch(2.5, 3.5)], BOX_LABELS)
    (figures,) = getattr(trainer, verb)(task(4, error), datamodule=data, verbose=False)
    stage = "val" if verb == "validate" else "test"
    assert [line for line in capsys.readouterr().err.splitlines() if "memory" in line] == [
        "image b9: out of memory, nothing is detected in it"
    ]
    assert figures[f"{stage}/err_images_out_of_memory"] == 1
    assert figures[f"{stage}/loss_box"] == pytest.approx(1.5), "of the one batch that fits as a whole"
    assert figures[f"{stage}/loss"] == pytest.approx(3.5)
    assert figures[f"{stage}/map_50"] == pytest.approx(5 / 6, abs=0.01), "five of six objects, no false ones"


def test_the_figures_of_an_evaluation_that_fits_have_no_such_count(tmp_path: Path) -> None:
    (figures,) = toy_trainer(tmp_path).test(task(9, ERRORS[0]), datamodule=ToyData([batch(1, 2), batch(6)]))
    assert figures == {"test/loss": 5.0, "test/loss_box": 3.0, "test/loss_class": 2.0}, "means over three images"


def test_other_errors_are_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        toy_trainer(tmp_path).test(task(0, RuntimeError("shapes")), datamodule=ToyData([batch(1, 2)]))


def test_nothing_found_has_masks_where_the_task_finds_some() -> None:
    instances = InstanceSegModule(Small(0, ERRORS[0]), torch.optim.SGD)  # type: ignore[arg-type]
    found = instances.test_step(batch(1, 2), 0)["preds"]
    assert [one["masks"].shape for one in found] == [(0, 8, 6), (0, 8, 6)]
    assert [one["masks"].dtype for one in found] == [torch.bool] * 2
    assert [one["boxes"].shape for one in found] == [(0, 4)] * 2
    assert "masks" not in task(0, ERRORS[0]).test_step(batch(1), 0)["preds"][0]


def evaluate(rank: int, folder: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # by which Lightning knows that it need not start the other
    batches = [[batch(1), batch(3)], [batch(7), batch(8)]][rank]
    trainer = toy_trainer(
        folder, devices=2, strategy="ddp", callbacks=[DetectionMetrics()], use_distributed_sampler=False
    )
    (figures,) = trainer.test(task(4, MemoryError()), datamodule=ToyData(batches), verbose=False)
    (folder / f"{rank}.json").write_text(json.dumps(figures))


def test_a_process_without_memory_for_any_image_does_not_leave_the_other_waiting(tmp_path: Path) -> None:
    run_together(evaluate, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["test/loss_box"] == 2
    assert first["test/loss"] == 4
    assert first["test/err_images_out_of_memory"] == 2
    assert first["test/map_50"] == pytest.approx(0.5, abs=0.01)
