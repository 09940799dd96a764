"""How many objects a detector's proposals cover."""

from collections.abc import Sequence
from typing import Any

from lightning import LightningModule, Trainer

from lightning_cv.callbacks.metrics import EvaluationMetrics, Stage, is_known
from lightning_cv.contracts import StepOutput
from lightning_cv.metrics.proposals import LIMITS, ProposalRecall


class ProposalMetrics(EvaluationMetrics[ProposalRecall]):
    """`val/proposal_ar_100`, average recall of the best 100 boxes of an image, and `val/proposal_recall_50_100`.

    Classes do not count: a region proposal network's boxes are judged, or those of any detector. The first figure is
    the mean over IoU .50 to .95, the second that at IoU 0.5; see `metrics.proposals`.

    Args:
        limits: boxes an image, for each of which there are figures.
    """

    def __init__(self, limits: Sequence[int] = LIMITS) -> None:
        super().__init__()
        self.limits = tuple(limits)

    def build(self, trainer: Trainer, pl_module: LightningModule) -> ProposalRecall:
        """No images yet."""
        return ProposalRecall(self.limits)

    def feed(self, metric: ProposalRecall, outputs: StepOutput, batch: Any) -> None:
        """Keep the ranks at which the objects of each image are found."""
        boxes, scores = ([found[key] for found in outputs["preds"]] for key in ("boxes", "scores"))
        metric.update(boxes, scores, outputs["targets"], batch["images"].shape[-2:])

    def figures(self, metric: ProposalRecall, stage: Stage, trainer: Trainer) -> dict[str, float]:
        """Recall at each limit."""
        found = metric.compute()
        named = dict(zip((f"proposal_ar_{n}" for n in found.limits), found.average_recall, strict=True))
        named |= dict(zip((f"proposal_recall_50_{n}" for n in found.limits), found.recall_50, strict=True))
        return {name: float(value) for name, value in named.items() if is_known(value)}
