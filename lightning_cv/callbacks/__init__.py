"""Callbacks by name."""

from lightning_cv.callbacks.gradients import GradientNorm
from lightning_cv.callbacks.likelihood import LikelihoodMetrics, ReconstructionMetrics
from lightning_cv.callbacks.metrics import (
    DetectionMetrics,
    LocalizationMetrics,
    SegmentationMetrics,
)
from lightning_cv.callbacks.nan_guard import NanGuard
from lightning_cv.callbacks.panoptic import PanopticMetrics, PanopticPreview
from lightning_cv.callbacks.predictions import SavePredictions
from lightning_cv.callbacks.previews import (
    DetectionPreview,
    LatentTraversal,
    ReconstructionPreview,
    SegmentationPreview,
)
from lightning_cv.callbacks.progress import ProgressLines
from lightning_cv.callbacks.timing import Throughput

__all__ = [
    "DetectionMetrics",
    "DetectionPreview",
    "GradientNorm",
    "LatentTraversal",
    "LikelihoodMetrics",
    "LocalizationMetrics",
    "NanGuard",
    "PanopticMetrics",
    "PanopticPreview",
    "ProgressLines",
    "ReconstructionMetrics",
    "ReconstructionPreview",
    "SavePredictions",
    "SegmentationMetrics",
    "SegmentationPreview",
    "Throughput",
]
