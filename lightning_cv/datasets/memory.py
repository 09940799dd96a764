"""Small images of one size, all in memory, served a batch at a time. Letters: N images; C, H, W."""

from itertools import pairwise

import torch
from torch import Tensor

from lightning_cv.contracts import Draw, ImageBatch


class InMemoryImages:
    """Images and their classes as two tensors, indexed once a batch: no Python runs for each sample.

    Args:
        images: (N, C, H, W), float32 0 to 1 or uint8 0 to 255, which a batch turns into the former.
        labels: int64 (N,), 0 to K - 1.
        ids: of the images, unique.
    """

    def __init__(self, images: Tensor, labels: Tensor, ids: list[str]) -> None:
        if not len(images) == len(labels) == len(ids):
            raise ValueError(f"{len(images)} images, {len(labels)} labels and {len(ids)} ids do not belong together")
        self.images, self.labels, self.ids = images, labels, ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, draws: list[Draw]) -> ImageBatch:
        rows = torch.tensor([draw.index for draw in draws], dtype=torch.int64)
        images = self.images.index_select(0, rows)
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        return {"images": images, "labels": self.labels[rows], "image_ids": [self.ids[draw.index] for draw in draws]}

    def subset(self, rows: Tensor) -> "InMemoryImages":
        """The images of the given positions, in that order."""
        return InMemoryImages(self.images[rows], self.labels[rows], [self.ids[row] for row in rows.tolist()])


def stratified_split(labels: Tensor, fractions: tuple[float, ...], seed: int) -> list[Tensor]:
    """Positions of each part, sorted, so that every class is divided in the given fractions, to within one image.

    >>> [part.tolist() for part in stratified_split(torch.tensor([0, 1, 0, 1]), (0.5, 0.5), seed=0)]
    [[0, 3], [1, 2]]
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"the fractions of a split must add up to 1, got {fractions}")
    generator = torch.Generator().manual_seed(seed)
    parts: list[list[Tensor]] = [[] for _ in fractions]
    ends = torch.tensor(fractions, dtype=torch.float64).cumsum(0)
    for label in sorted(set(labels.tolist())):
        rows = torch.nonzero(labels == label).squeeze(1)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        cuts = [0, *(ends * len(rows)).round().long().tolist()]
        for part, (start, end) in zip(parts, pairwise(cuts), strict=True):
            part.append(rows[start:end])
    return [torch.cat(part).sort().values for part in parts]
