"""Callbacks by name."""

from lightning_cv.callbacks.disentanglement import DisentanglementMetrics
from lightning_cv.callbacks.gradients import GradientNorm
from lightning_cv.callbacks.keep import KeepBest, KeepLast
from lightning_cv.callbacks.likelihood import LikelihoodMetrics, ReconstructionMetrics
from lightning_cv.callbacks.metrics import (
    DetectionMetrics,
    LocalizationMetrics,
    MultilabelMetrics,
    SegmentationMetrics,
)
from lightning_cv.callbacks.nan_guard import NanGuard
from lightning_cv.callbacks.nms_preview import NMSPreview
from lightning_cv.callbacks.panoptic import PanopticInstanceMetrics, PanopticMetrics, PanopticPreview
from lightning_cv.callbacks.predictions import SavePredictions
from lightning_cv.callbacks.previews import (
    DetectionPreview,
    MultilabelPreview,
    ReconstructionPreview,
    SegmentationPreview,
)
from lightning_cv.callbacks.progress import ProgressLines
from lightning_cv.callbacks.proposals import ProposalMetrics
from lightning_cv.callbacks.timing import Throughput
from lightning_cv.callbacks.traversal import Absolute, DataQuantiles, LatentTraversal, PriorQuantiles

__all__ = [
    "Absolute",
    "DataQuantiles",
    "DetectionMetrics",
    "DetectionPreview",
    "DisentanglementMetrics",
    "GradientNorm",
    "KeepBest",
    "KeepLast",
    "LatentTraversal",
    "LikelihoodMetrics",
    "LocalizationMetrics",
    "MultilabelMetrics",
    "MultilabelPreview",
    "NMSPreview",
    "NanGuard",
    "PanopticInstanceMetrics",
    "PanopticMetrics",
    "PanopticPreview",
    "PriorQuantiles",
    "ProgressLines",
    "ProposalMetrics",
    "ReconstructionMetrics",
    "ReconstructionPreview",
    "SavePredictions",
    "SegmentationMetrics",
    "SegmentationPreview",
    "Throughput",
]
