"""Detections from several looks: sizes, mirrored images, one heap."""

import pytest
import torch

from lightning_cv.ops.box_inference import Fused, Pooled
from lightning_cv.ops.boxes import iou, mirror_boxes
from lightning_cv.tasks import SingleStageDetector

BOX = (32, 64, 96, 128)


def images_with(*boxes, size=(192, 256)):
    """A bright rectangle an image."""
    images = torch.zeros(len(boxes), 3, *size)
    for image, (x1, y1, x2, y2) in zip(images, boxes, strict=True):
        image[:, y1:y2, x1:x2] = 1
    return images


def bright(images):
    """Finds the bright rectangle; its score is the share of the width that lies left of it."""
    found = []
    for image in images:
        rows, columns = torch.nonzero(image[0] > 0.5, as_tuple=True)
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        found.append({"boxes": box[None], "scores": box[:1] / image.shape[-1], "labels": torch.ones(1).long()})
    return found


def test_a_look_at_other_sizes_finds_the_same_box():
    images = images_with(BOX, (128, 0, 192, 64))
    for scale in (0.5, 1.0, 1.5):
        found = Pooled([scale], flip=False)(bright, images)
        assert [one["boxes"].tolist() for one in found] == [[list(map(float, BOX))], [[128.0, 0.0, 192.0, 64.0]]]


def test_the_better_of_two_looks_stays():
    (found,) = Pooled([1.0])(bright, images_with(BOX))
    torch.testing.assert_close(found["boxes"], torch.tensor([BOX]).float())
    torch.testing.assert_close(found["scores"], torch.tensor([160 / 256]))  # mirrored, 160 columns lie left of it


def test_classes_do_not_thin_each_other_and_the_best_stay():
    looks = iter(
        [
            {"boxes": [[0.0, 0, 10, 10], [50, 50, 60, 60]], "scores": [0.9, 0.2], "labels": [1, 1]},
            {"boxes": [[246.0, 0, 256, 10], [246, 1, 256, 11]], "scores": [0.8, 0.7], "labels": [2, 1]},
        ]
    )

    def look(_):
        return [{key: torch.tensor(value) for key, value in next(looks).items()}]

    (found,) = Pooled([1.0], top=2)(look, torch.zeros(1, 3, 192, 256))
    assert found["labels"].tolist() == [1, 2]
    torch.testing.assert_close(found["scores"], torch.tensor([0.9, 0.8]))
    torch.testing.assert_close(found["boxes"], torch.tensor([[0.0, 0, 10, 10]] * 2))


def fused_as_published(boxes, scores, labels, looks, threshold):
    """Weighted boxes fusion in the words of Solovyev et al. 2021, section 2.1: (score, label, box), best first."""
    clusters = []
    for number in sorted(range(len(scores)), key=lambda number: -scores[number]):
        own, best = None, threshold
        for cluster in clusters:
            overlap = iou(torch.tensor([boxes[number]]), torch.tensor([cluster["mean"]])).item()
            if cluster["label"] == labels[number] and overlap > best:
                own, best = cluster, overlap
        if own is None:
            own = {"label": labels[number], "members": []}
            clusters.append(own)
        own["members"].append(number)
        weight = sum(scores[member] for member in own["members"])
        own["mean"] = [sum(scores[m] * boxes[m][side] for m in own["members"]) / weight for side in range(4)]
    rows = []
    for cluster in clusters:
        members = cluster["members"]
        score = sum(scores[member] for member in members) / len(members) * min(len(members), looks) / looks
        rows.append((score, cluster["label"], *cluster["mean"]))
    return sorted(rows, reverse=True)


@pytest.mark.parametrize("seed", range(20))
def test_fusion_equals_its_definition(seed):
    torch.manual_seed(seed)
    count, looks = 40, 1 + seed % 4
    corners = torch.rand(count, 2) * 20
    boxes = torch.cat([corners, corners + 5 + 20 * torch.rand(count, 2)], dim=1)
    scores, labels = torch.rand(count), torch.randint(1, 3, (count,))
    found = Fused().together(boxes, scores, labels, looks)
    rows = torch.cat([found[1][:, None], found[2][:, None], found[0]], dim=1)
    expected = fused_as_published(boxes.tolist(), scores.tolist(), labels.tolist(), looks, 0.55)
    torch.testing.assert_close(rows, torch.tensor(expected), rtol=1e-5, atol=1e-5)
    assert len(rows) < count


def test_what_one_look_of_two_finds_has_half_its_score():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [40, 40, 50, 50], [0, 0, 10, 10]])
    scores, labels = torch.tensor([0.6, 0.2, 0.7, 0.0]), torch.tensor([1, 1, 1, 2])
    boxes, scores, labels = Fused(flip=True).together(boxes, scores, labels, looks=2)
    torch.testing.assert_close(boxes, torch.tensor([[0.5, 0, 10.5, 10], [40, 40, 50, 50], [0, 0, 10, 10]]))
    torch.testing.assert_close(scores, torch.tensor([0.4, 0.35, 0.0]))
    assert labels.tolist() == [1, 1, 2]


def test_sides_are_whole_steps_and_an_image_as_it_is_stays():
    seen = []

    def look(images):
        seen.append(tuple(images.shape[-2:]))
        return bright(images)

    Pooled([1.0, 1.25, 0.1], flip=False, multiple=32)(look, images_with((5, 5, 99, 99), size=(100, 150)))
    assert seen == [(100, 150), (128, 192), (32, 32)]


def test_nothing_found():
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}
    for way in (Pooled(), Fused()):
        (found,) = way(lambda images: [nothing] * len(images), torch.zeros(1, 3, 64, 64))
        assert found["boxes"].shape == (0, 4)
        assert found["labels"].dtype == torch.int64


def test_a_task_looks_so():
    class Net(torch.nn.Module):
        num_classes = 1

        def losses(self, images, targets):
            raise AssertionError

        def detect(self, images):
            return bright(images)

    task = SingleStageDetector(Net(), torch.optim.SGD, inference=Pooled([1.0]))
    batch = {"images": images_with(BOX), "targets": [{}]}
    expected = Pooled([1.0])(bright, batch["images"])
    assert torch.equal(task.detections(batch)[0]["scores"], expected[0]["scores"])
    assert torch.equal(task.predict_step(batch["images"])[0]["scores"], expected[0]["scores"])


def test_boxes_are_mirrored_twice_to_themselves():
    boxes = torch.tensor([[1.0, 2, 3, 4], [0, 0, 10, 5]])
    assert mirror_boxes(boxes, 10).tolist() == [[7, 2, 9, 4], [0, 0, 10, 5]]
    assert torch.equal(mirror_boxes(mirror_boxes(boxes, 10), 10), boxes)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="scales must be numbers above 0, got \\[\\]"):
        Pooled([])
    with pytest.raises(ValueError, match="iou_threshold must be from 0 to 1"):
        Pooled(iou_threshold=1.5)
    masked = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long(), "masks": None}
    with pytest.raises(ValueError, match="detections have masks"):
        Pooled()(lambda images: [masked], torch.zeros(1, 3, 64, 64))
