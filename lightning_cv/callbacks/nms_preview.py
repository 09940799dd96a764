"""What a detector chooses from, and what non-maximum suppression leaves of it."""

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from torch import Tensor

from lightning_cv.callbacks.metrics import label_map_of
from lightning_cv.callbacks.previews import Batch, Preview, kept
from lightning_cv.contracts import CandidateDetector, StepOutput
from lightning_cv.viz.canvas import Picture, tile
from lightning_cv.viz.nms import best_candidates, nms_picture


class NMSPreview(Preview[Tensor]):
    """Candidates before and after greedy NMS of each class, for nets with `candidates` (a `CandidateDetector`).

    A look at the net's raw boxes under the given thresholds, which need not be those that the net detects with; it
    costs a second pass of the few images.

    Args:
        count: images.
        every_n_epochs: see `Preview`.
        score_threshold: least score of a candidate that is drawn.
        iou_threshold: overlap above which the weaker box goes.
        most: candidates an image.
    """

    name = "nms"

    def __init__(
        self,
        count: int = 4,
        every_n_epochs: int = 1,
        score_threshold: float = 0.2,
        iou_threshold: float = 0.45,
        most: int = 40,
    ) -> None:
        super().__init__(count, every_n_epochs)
        if not (0 <= iou_threshold < 1 and most >= 1):
            raise ValueError(
                f"NMSPreview: 0 <= iou_threshold < 1 and most at least 1 are needed, got {iou_threshold} and {most}"
            )
        self.score_threshold, self.iou_threshold, self.most = score_threshold, iou_threshold, most

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a net that does not tell its candidates."""
        net = pl_module.net
        if not isinstance(net, CandidateDetector):
            raise ValueError(f"NMSPreview: {type(net).__name__} has no candidates(images) to look at")

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[Tensor]:
        """Images."""
        return kept(batch["images"][:room])

    def draw(self, items: Sequence[Tensor], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """An image a row."""
        net, label_map = pl_module.net, label_map_of(trainer, self)
        assert isinstance(net, CandidateDetector)
        rows = []
        for image in items:
            candidates = net.candidates(image[None].to(pl_module.device))
            best = best_candidates(candidates, 0, self.score_threshold, self.most)
            rows.append(nms_picture(image, best, self.iou_threshold, label_map))
        return tile(rows, columns=1)
