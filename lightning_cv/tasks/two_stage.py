"""Detection in two stages, regions and then what they hold: Fast, Faster and Mask R-CNN."""

from lightning_cv.contracts import ContinuingNet, DetectionBatch, Detections, PaddedDetector, ProposalDetector
from lightning_cv.ops.boxes import clip_boxes
from lightning_cv.tasks.detection import DetectionTask


class TwoStageDetector(DetectionTask):
    """Trains a `Detector` that judges regions: of its own, or proposals that come with the data.

    A net that is a `ProposalDetector` is shown the proposals of the targets where all images of a batch have some.
    Where images were padded to one size, a `PaddedDetector` is told so; what other nets find is cut to the pictures.
    """

    def on_fit_start(self) -> None:
        """Refuse a net that was to go on from another run's checkpoint and was given none."""
        super().on_fit_start()
        if isinstance(self.net, ContinuingNet):
            self.net.check_begun()

    def detections(self, batch: DetectionBatch) -> list[Detections]:
        """What the net finds in a batch, one entry an image, boxes in pixels of the images."""
        images, targets = batch["images"], batch["targets"]
        whole = (images.shape[-2], images.shape[-1])
        sizes = [target.get("shown", whole) for target in targets]
        proposals = [target["proposals"] for target in targets if "proposals" in target]
        if isinstance(self.net, ProposalDetector) and len(proposals) == len(targets):
            return self.net.detect_among(images, proposals, sizes)
        if all(size == whole for size in sizes):
            return self.predict_step(images)
        if self.inference is not None:  # of other sizes or mirrored, padding would be elsewhere: each picture alone
            alone = (image[None, :, :height, :width] for image, (height, width) in zip(images, sizes, strict=True))
            return [self.predict_step(picture)[0] for picture in alone]
        if isinstance(self.net, PaddedDetector):
            return self.net.detect_in(images, sizes)
        return [cut_to(one, size) for one, size in zip(self.predict_step(images), sizes, strict=True)]


def cut_to(found: Detections, size: tuple[int, int]) -> Detections:
    """The detections that reach into the picture of a padded image, their boxes cut to its height and width."""
    boxes = clip_boxes(found["boxes"], *size)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    cut: Detections = {"boxes": boxes[seen], "scores": found["scores"][seen], "labels": found["labels"][seen]}
    if "masks" in found:
        cut["masks"] = found["masks"][seen]
    return cut
