"""SSD300 and SSD512 as published, on VGG-16."""

from lightning_cv.models.backbones.ssd_vgg import ExtraStage, ExtraStages, ReducedVGG16Backbone
from lightning_cv.models.detection.ssd import SSD
from lightning_cv.ops.anchors import DefaultBoxes


class SSD300(SSD):
    """SSD for images of 300 x 300: 8,732 default boxes on maps of 38, 19, 10, 5, 3 and 1 cells a side.

    Liu et al. 2016, section 3 and figure 2, with the constants of their released code for VOC.

    Args:
        num_classes: K, background not counted.
        sizes: see `DefaultBoxes`, in pixels; for COCO the paper begins with 21 and 45.
        width: channels of VGG's first stage, 64 in the paper; all others shrink with it.
        weights: of VGG-16, see `ReducedVGG16Backbone`.
        blue_first: likewise.
        train_on_difficult: see `SSD`; as in the release, True for VOC.
    """

    def __init__(
        self,
        num_classes: int,
        sizes: tuple[float, ...] = (30, 60, 111, 162, 213, 264, 315),
        width: int = 64,
        weights: str | None = None,
        blue_first: bool = False,
        train_on_difficult: bool = True,
    ) -> None:
        stages = [*_downward(width, 2), *(ExtraStage(2 * width, 4 * width, stride=1, padding=0) for _ in range(2))]
        features = ExtraStages(ReducedVGG16Backbone(width, 16 * width, weights, blue_first), stages)
        ratios = [(2,), (2, 3), (2, 3), (2, 3), (2,), (2,)]
        anchors = DefaultBoxes(sizes, ratios, steps=(8, 16, 32, 64, 100, 300))
        super().__init__(features, num_classes, anchors, train_on_difficult=train_on_difficult)


class SSD512(SSD):
    """SSD for images of 512 x 512: 24,564 default boxes on maps of 64, 32, 16, 8, 4, 2 and 1 cells a side.

    Liu et al. 2016, section 3.3, with the constants of their released code for VOC, which cuts the sizes to whole
    pixels: shares 0.07, 0.15, 0.3 ... of 512 are 35.84, 76.8, 153.6 ..., and other implementations keep the fractions.

    Args:
        num_classes, width, weights, blue_first, train_on_difficult: see `SSD300`.
        sizes: see `DefaultBoxes`, in pixels; for COCO the paper begins with 20 and 51.
    """

    def __init__(
        self,
        num_classes: int,
        sizes: tuple[float, ...] = (35, 76, 153, 230, 307, 384, 460, 537),
        width: int = 64,
        weights: str | None = None,
        blue_first: bool = False,
        train_on_difficult: bool = True,
    ) -> None:
        stages = [*_downward(width, 4), ExtraStage(2 * width, 4 * width, kernel=4, stride=1, padding=1)]
        features = ExtraStages(ReducedVGG16Backbone(width, 16 * width, weights, blue_first), stages)
        ratios = [(2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)]
        anchors = DefaultBoxes(sizes, ratios, steps=(8, 16, 32, 64, 128, 256, 512))
        super().__init__(features, num_classes, anchors, train_on_difficult=train_on_difficult)


def _downward(width: int, count: int) -> list[ExtraStage]:
    """The stages that halve the map: 512 channels, then 256."""
    return [ExtraStage(4 * width, 8 * width), *(ExtraStage(2 * width, 4 * width) for _ in range(count - 1))]
