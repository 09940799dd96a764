"""Drawn scenes as COCO data modules: the folder is drawn at first use, then read like any other."""

from lightning_cv.datamodules.coco import CocoDetectionDataModule, CocoPanopticDataModule
from lightning_cv.datasets.writers import drawn_folder, write_coco
from lightning_cv.transforms import DetectionEval, DetectionTransform, EvalTransform, FlipOnly
from lightning_cv.transforms.panoptic import PanopticEval, PanopticTrain, PanopticTransform


class DrawnInstancesDataModule(CocoDetectionDataModule):
    """Boxes and masks of drawn scenes: 10 classes, 1 to 8 overlapping objects a scene.

    Args:
        root: data root; the scenes lie in its folder `drawn`.
        train, val, test: numbers of scenes.
        size: of a scene in pixels.
        draw_seed: of the scenes; the run's seed does not touch them.
        train_transform, eval_transform: None for mirroring with slight colour gains, and for the scenes as they are.
        batch_size, cache, num_workers, eval_batch_size: as for `CocoDetectionDataModule`.
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
        batch_size: int = 16,
        cache: bool = True,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        self.counts, self.size, self.draw_seed = {"train": train, "val": val, "test": test}, size, draw_seed
        super().__init__(
            str(drawn_folder(root, "coco", self.counts, size, draw_seed)),
            train_transform or FlipOnly(jitter=0.1),
            eval_transform or DetectionEval(size),
            batch_size=batch_size,
            test="test",
            with_masks=True,
            cache=cache,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
        )

    def prepare_data(self) -> None:
        """Draws the scenes unless they are there."""
        write_coco(self.root, self.counts, self.draw_seed, self.size)


class DrawnPanopticDataModule(CocoPanopticDataModule):
    """Segments of drawn scenes: 10 classes of things, and the ground; arguments as for `DrawnInstancesDataModule`.

    `train_transform` is None for mirroring alone.
    """

    def __init__(
        self,
        root: str,
        train: int = 2000,
        val: int = 300,
        test: int = 300,
        size: int = 128,
        draw_seed: int = 0,
        train_transform: PanopticTransform | None = None,
        eval_transform: PanopticEval | None = None,
        batch_size: int = 16,
        cache: bool = True,
        num_workers: int = 0,
        eval_batch_size: int | None = None,
    ) -> None:
        self.counts, self.size, self.draw_seed = {"train": train, "val": val, "test": test}, size, draw_seed
        super().__init__(
            str(drawn_folder(root, "coco", self.counts, size, draw_seed)),
            train_transform or PanopticTrain(size, scale=(1.0, 1.0)),
            eval_transform or PanopticEval(size, size),
            batch_size=batch_size,
            test="test",
            cache=cache,
            num_workers=num_workers,
            eval_batch_size=eval_batch_size,
        )

    def prepare_data(self) -> None:
        """Draws the scenes unless they are there."""
        write_coco(self.root, self.counts, self.draw_seed, self.size)
