"""Callbacks by name."""

from lightning_cv.callbacks.metrics import DetectionMetrics, LikelihoodMetrics, SegmentationMetrics
from lightning_cv.callbacks.nan_guard import NanGuard
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
    "LatentTraversal",
    "LikelihoodMetrics",
    "NanGuard",
    "ProgressLines",
    "ReconstructionPreview",
    "SegmentationMetrics",
    "SegmentationPreview",
    "Throughput",
]
