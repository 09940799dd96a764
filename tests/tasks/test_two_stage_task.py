import pytest
import torch
from torch import Tensor, nn

from lightning_cv.contracts import DetectionBatch, Detections
from lightning_cv.datamodules.batches import collate_detection
from lightning_cv.ops.box_inference import Pooled
from lightning_cv.tasks import InstanceSegModule, TwoStageDetector
from lightning_cv.tasks.two_stage import cut_to
from lightning_cv.transforms import PreparedDetection


def detections(*boxes: list[float]) -> Detections:
    rows = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return {"boxes": rows, "scores": torch.linspace(1, 0.5, len(rows)), "labels": torch.ones(len(rows)).long()}


class Finder(nn.Module):
    """Finds the same two boxes everywhere."""

    num_classes = 2

    def losses(self, images: Tensor, targets: object) -> dict[str, Tensor]:
        return {"box": images.sum() * 0}

    def detect(self, images: Tensor) -> list[Detections]:
        return [detections([0, 0, 10, 10], [12, 12, 14, 14])] * len(images)


class Judge(Finder):
    """Takes every proposal for an object."""

    def detect_among(self, images: Tensor, proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Detections]:
        self.sizes = sizes
        return [detections(*boxes.tolist()) for boxes in proposals]


class Inside(Finder):
    """Finds what it is told is picture."""

    def detect_in(self, images: Tensor, sizes: list[tuple[int, int]]) -> list[Detections]:
        return [detections([0, 0, width, height]) for height, width in sizes]


def prepared(height: int, width: int, proposals: list[list[float]] | None = None) -> PreparedDetection:
    sample = PreparedDetection(
        torch.rand(3, height, width),
        {
            "image_id": f"{height}x{width}",
            "boxes": torch.zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.int64),
            "difficult": torch.zeros(0, dtype=torch.bool),
            "original_size": (height, width),
        },
    )
    if proposals is not None:
        sample.target["proposals"] = torch.tensor(proposals)
    return sample


def found(net: nn.Module, batch: DetectionBatch) -> list[list[list[float]]]:
    task = TwoStageDetector(net, optimizer=torch.optim.SGD)  # type: ignore[arg-type]
    return [one["boxes"].tolist() for one in task.detections(batch)]


def test_a_padded_image_says_how_large_it_is_and_detections_are_cut_to_it() -> None:
    batch = collate_detection([prepared(16, 16), prepared(8, 13)])
    assert [target.get("shown") for target in batch["targets"]] == [(16, 16), (8, 13)]
    assert found(Finder(), batch) == [[[0, 0, 10, 10], [12, 12, 14, 14]], [[0, 0, 10, 8]]]
    alike = collate_detection([prepared(8, 13)])
    assert "shown" not in alike["targets"][0]
    assert found(Finder(), alike) == [[[0, 0, 10, 10], [12, 12, 14, 14]]]


def test_a_net_that_can_is_told_what_is_padding() -> None:
    padded = [prepared(16, 16, [[1, 1, 5, 5]]), prepared(8, 13, [[2, 2, 6, 6]])]
    assert found(Inside(), collate_detection(padded)) == [[[0, 0, 16, 16]], [[0, 0, 13, 8]]]
    judge = Judge()
    found(judge, collate_detection(padded))
    assert judge.sizes == [(16, 16), (8, 13)]
    alike = [prepared(8, 13, [[2, 2, 6, 6]])]
    found(judge, collate_detection(alike))
    assert judge.sizes == [(8, 13)]


def test_masks_go_with_their_boxes() -> None:
    one: Detections = detections([12, 12, 14, 14], [0, 0, 4, 4]) | {"masks": torch.tensor([[[True]], [[False]]])}
    assert cut_to(one, (8, 8))["masks"].tolist() == [[[False]]]


def test_a_net_that_judges_proposals_is_shown_those_of_the_data_where_all_images_have_some() -> None:
    given = collate_detection([prepared(16, 16, [[1, 1, 5, 5]]), prepared(16, 16, [[2, 2, 6, 6], [3, 3, 9, 9]])])
    assert found(Judge(), given) == [[[1, 1, 5, 5]], [[2, 2, 6, 6], [3, 3, 9, 9]]]
    assert found(Finder(), given) == [[[0, 0, 10, 10], [12, 12, 14, 14]]] * 2
    partly = collate_detection([prepared(16, 16, [[1, 1, 5, 5]]), prepared(16, 16)])
    assert found(Judge(), partly) == [[[0, 0, 10, 10], [12, 12, 14, 14]]] * 2


def test_inference_is_for_a_nets_own_regions() -> None:
    twice = TwoStageDetector(Finder(), torch.optim.SGD, inference=Pooled([1.0, 2.0], flip=False, multiple=16))
    (one,) = twice.detections(collate_detection([prepared(16, 16)]))
    assert one["boxes"][:2].tolist() == [[0, 0, 10, 10], [0, 0, 5, 5]]  # the second in an image of twice the size
    padded = twice.detections(collate_detection([prepared(32, 16), prepared(16, 16)]))
    assert padded[1]["boxes"].tolist() == one["boxes"].tolist()  # each is looked at without its padding
    with pytest.raises(ValueError, match="no inference with Judge: its proposals are of one size"):
        TwoStageDetector(Judge(), torch.optim.SGD, inference=Pooled())
    with pytest.raises(ValueError, match="no inference with Finder: masks cannot be brought together"):
        InstanceSegModule(Finder(), torch.optim.SGD, inference=Pooled())


def test_instances_are_a_task_of_their_own() -> None:
    assert (InstanceSegModule.task_name, TwoStageDetector.task_name) == ("instance", "detection")
