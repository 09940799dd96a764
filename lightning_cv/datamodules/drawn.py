"""Drawn scenes as data modules: the VOC folder is drawn at first use, then read like any other."""

from lightning_cv.datamodules.voc import VOCDetectionDataModule, VOCSegmentationDataModule
from lightning_cv.datasets.drawn import DRAWN_CLASSES
from lightning_cv.datasets.writers import drawn_folder, write_voc
from lightning_cv.transforms import (
    DetectionEval,
    DetectionTransform,
    EvalTransform,
    FlipOnly,
    SegmentationEval,
    SegmentationFlip,
    SegmentationTransform,
)

_YEAR = "2007"  # of the layout: drawn scenes are no year's


class DrawnDetectionDataModule(VOCDetectionDataModule):
    """Boxes of drawn scenes: 10 classes, 1 to 8 overlapping objects a scene.

    Args:
        root: data root; the scenes lie in its folder `drawn`.
        train, val, test: numbers of scenes.
        size: of a scene in pixels.
        draw_seed: of the scenes; the run's seed does not touch them.
        train_transform, eval_transform: None for mirroring with slight colour gains, and for the scenes as they are.
        batch_size, cache, num_workers, eval_batch_size: as for `VOCDetectionDataModule`.
    """

    def __init__(
        self,
        root: str,
        train: int = 2000,
        val: int = 300,
        test: int = 300,
        size: int = 128,
        draw_seed: int = 0,
        train_transform: DetectionTransform | None = None,
        eval_transform: EvalTransform | None = None,
        batch_size: int = 32,
        cache: bool = True,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        self.counts, self.size, self.draw_seed = {"train": train, "val": val, "test": test}, size, draw_seed
        super().__init__(
            str(drawn_folder(root, "voc", self.counts, size, draw_seed)),
            train_transform or FlipOnly(jitter=0.1),
            eval_transform or DetectionEval(size),
            batch_size=batch_size,
            year=_YEAR,
            class_names=list(DRAWN_CLASSES),
            cache=cache,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
        )

    def prepare_data(self) -> None:
        """Draws the scenes unless they are there."""
        write_voc(self.root, _YEAR, self.counts, self.draw_seed, self.size)


class DrawnSegmentationDataModule(VOCSegmentationDataModule):
    """Class masks of drawn scenes: the ground and 10 classes; arguments as for `DrawnDetectionDataModule`."""

    def __init__(
        self,
        root: str,
        train: int = 2000,
        val: int = 300,
        test: int = 300,
        size: int = 128,
        draw_seed: int = 0,
        train_transform: SegmentationTransform | None = None,
        eval_transform: SegmentationEval | None = None,
        batch_size: int = 32,
        cache: bool = True,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        self.counts, self.size, self.draw_seed = {"train": train, "val": val, "test": test}, size, draw_seed
        super().__init__(
            str(drawn_folder(root, "voc", self.counts, size, draw_seed)),
            train_transform or SegmentationFlip(jitter=0.1),
            eval_transform or SegmentationEval(32),
            batch_size=batch_size,
            year=_YEAR,
            class_names=list(DRAWN_CLASSES),
            cache=cache,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
        )

    def prepare_data(self) -> None:
        """Draws the scenes unless they are there."""
        write_voc(self.root, _YEAR, self.counts, self.draw_seed, self.size)
