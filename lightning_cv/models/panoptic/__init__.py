"""Panoptic nets by name."""

from lightning_cv.models.panoptic.panoptic_fpn import PanopticFPN
from lightning_cv.models.panoptic.panoptic_segformer import PanopticSegFormer
from lightning_cv.models.panoptic.semantic_branch import SemanticBranch

__all__ = ["PanopticFPN", "PanopticSegFormer", "SemanticBranch"]
