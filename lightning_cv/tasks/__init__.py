"""Tasks by name."""

from lightning_cv.tasks.autoencoder import AutoencoderModule
from lightning_cv.tasks.base import Task
from lightning_cv.tasks.detection import DetectionTask
from lightning_cv.tasks.instance import InstanceSegModule
from lightning_cv.tasks.localization import LocalizationModule
from lightning_cv.tasks.panoptic import PanopticModule
from lightning_cv.tasks.segmentation import MultilabelSegModule, SegModule
from lightning_cv.tasks.single_stage import SingleStageDetector
from lightning_cv.tasks.two_stage import TwoStageDetector
from lightning_cv.tasks.vae import VAEModule

__all__ = [
    "AutoencoderModule",
    "DetectionTask",
    "InstanceSegModule",
    "LocalizationModule",
    "MultilabelSegModule",
    "PanopticModule",
    "SegModule",
    "SingleStageDetector",
    "Task",
    "TwoStageDetector",
    "VAEModule",
]
