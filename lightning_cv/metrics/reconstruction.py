"""How close reconstructions are to their images, all figures of an image together. Letters: N images; C, H, W."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lightning_cv.metrics.images import masked_psnr, psnr, ssim
from lightning_cv.metrics.records import ImageRecords


class ReconstructionQuality(ImageRecords[dict[str, float]]):
    """Means over the images of a data set; an image passed in twice counts once.

    "mse" a pixel and channel, "psnr" in dB, "ssim", for inpainting "psnr_hidden" over the hidden pixels alone, and the
    terms that are passed in. An image that hides nothing has no share in the figures of hidden pixels.
    """

    def update(
        self,
        images: Tensor,
        targets: Tensor,
        image_ids: Sequence[str],
        terms: Mapping[str, Tensor],
        hidden: Tensor | None = None,
    ) -> None:
        """Keep a batch (N, C, H, W), its terms (N,) and which pixels, bool (N, 1, H, W), were hidden."""
        columns = {"psnr": psnr(images, targets), "ssim": ssim(images, targets)}  # (N,) each
        columns["mse"] = (images.double() - targets.double()).square().flatten(1).mean(1)
        if hidden is not None:
            columns["psnr_hidden"] = masked_psnr(images, targets, hidden)
        rows = torch.stack([column.double() for column in (columns | dict(terms)).values()], dim=1).tolist()
        names = [*columns, *terms]
        self.records |= {
            image_id: dict(zip(names, row, strict=True)) for image_id, row in zip(image_ids, rows, strict=True)
        }

    def compute(self) -> dict[str, float]:
        """Means by name, without those of which there is none."""
        return self.evaluate_once(mean_by_name)


def mean_by_name(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name over the records in which it is a number.

    >>> mean_by_name([{"psnr": 20.0, "psnr_hidden": float("nan")}, {"psnr": 10.0, "psnr_hidden": 8.0}])
    {'psnr': 15.0, 'psnr_hidden': 8.0}
    """
    names = dict.fromkeys(name for record in records for name in record)
    values = {name: [record[name] for record in records if name in record] for name in names}
    known = {name: [value for value in column if value == value] for name, column in values.items()}
    return {name: sum(column) / len(column) for name, column in known.items() if column}
