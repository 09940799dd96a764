"""Detection in two stages, regions and then what they hold: Fast, Faster and Mask R-CNN."""

from lightning_cv.contracts import DetectionBatch, Detections, ProposalDetector
from lightning_cv.ops.boxes import clip_boxes
from lightning_cv.tasks.detection import DetectionTask


class TwoStageDetector(DetectionTask):
    """Trains a `Detector` that judges regions: of its own, or proposals that come with the data.

    A net that is a `ProposalDetector` is shown the proposals of the targets where all images of a batch have some.
    Where images were padded to one size, detections are cut to the pictures.
    """

    def detections(self, batch: DetectionBatch) -> list[Detections]:
        """What the net finds in a batch, one entry an image, boxes in pixels of the images."""
        images, targets = batch["images"], batch["targets"]
        proposals = [target["proposals"] for target in targets if "proposals" in target]
        if isinstance(self.net, ProposalDetector) and len(proposals) == len(targets):
            found = self.net.detect_among(images, proposals)
        else:
            found = self.predict_step(images)
        return [
            cut_to(one, target["shown"]) if "shown" in target else one
            for one, target in zip(found, targets, strict=True)
        ]


def cut_to(found: Detections, size: tuple[int, int]) -> Detections:
    """The detections that reach into the picture of a padded image, their boxes cut to its height and width."""
    boxes = clip_boxes(found["boxes"], *size)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    cut: Detections = {"boxes": boxes[seen], "scores": found["scores"][seen], "labels": found["labels"][seen]}
    if "masks" in found:
        cut["masks"] = found["masks"][seen]
    return cut
