"""What each latent does to a picture, and what it knows. Letters: N images seen; L latents; C, H, W image sides."""

import csv
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning import LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lightning_cv import tracking
from lightning_cv.callbacks.previews import Batch, Preview
from lightning_cv.contracts import StepOutput
from lightning_cv.metrics.disentanglement.information import discretise, mutual_information
from lightning_cv.metrics.likelihood import ACTIVE_VARIANCE
from lightning_cv.metrics.records import gathered
from lightning_cv.ops.latents import absolute_range, order_by_kl, prior_quantiles, traversal_codes
from lightning_cv.viz.canvas import Picture, below
from lightning_cv.viz.grids import strip, traversal_frames, traversal_grid

_MILLISECONDS = 140
"""How long a frame of the animation stands."""


class TraversalRange(ABC):
    """Which values a latent takes, from left to right."""

    @abstractmethod
    def values(self, steps: int, means: Tensor) -> Tensor:
        """Values (L, steps), rising; `means` (N, L) are the posterior means of the validation images."""

    @abstractmethod
    def headings(self, steps: int) -> list[str]:
        """A word for each step."""


class Absolute(TraversalRange):
    """From -limit to limit, evenly spaced, in standard deviations of the prior."""

    def __init__(self, limit: float = 2.5) -> None:
        if not limit > 0:
            raise ValueError(f"Absolute: limit must be above 0, got {limit}")
        self.limit = limit

    def values(self, steps: int, means: Tensor) -> Tensor:
        """The same values for each latent."""
        return absolute_range(self.limit, steps).expand(means.shape[1], steps)

    def headings(self, steps: int) -> list[str]:
        """The values."""
        return _signed(absolute_range(self.limit, steps))


class PriorQuantiles(TraversalRange):
    """The prior's quantiles from `tail` to 1 - `tail`, evenly spaced in probability."""

    def __init__(self, tail: float = 0.05) -> None:
        _refuse_tail(self, tail)
        self.tail = tail

    def values(self, steps: int, means: Tensor) -> Tensor:
        """The same values for each latent."""
        return prior_quantiles(steps, self.tail).expand(means.shape[1], steps)

    def headings(self, steps: int) -> list[str]:
        """The values."""
        return _signed(prior_quantiles(steps, self.tail))


class DataQuantiles(TraversalRange):
    """The quantiles, from `tail` to 1 - `tail`, of each latent's posterior means over the validation images.

    A latent then moves as far as the data moves it: one that is never used stands still.
    """

    def __init__(self, tail: float = 0.05) -> None:
        _refuse_tail(self, tail)
        self.tail = tail

    def values(self, steps: int, means: Tensor) -> Tensor:
        """Values of each latent's own."""
        shares = torch.linspace(self.tail, 1 - self.tail, steps, dtype=means.dtype)
        return torch.quantile(means, shares, dim=0).T

    def headings(self, steps: int) -> list[str]:
        """The quantiles."""
        return [f"{100 * share:.0f} %" for share in torch.linspace(self.tail, 1 - self.tail, steps).tolist()]


class Grid(NamedTuple):
    """The traversal of one picture."""

    name: str
    images: Tensor  # (rows, steps, C, H, W)


class Coded(NamedTuple):
    """What the net says of one image."""

    kl: NDArray[np.floating]  # (L,) nats
    mean: NDArray[np.floating]  # (L,)
    factors: NDArray[np.integer] | None  # (K,) indices of what the image was made from, where the data says


class LatentRow(NamedTuple):
    """What is known of one latent over the validation images."""

    rank: int
    latent: int
    kl: float  # nats an image
    active: bool  # Var_x(E[z|x]) > 0.01
    best_factor: str  # "" where the factors of the data are not known, or for an inactive latent
    mutual_information: float | None  # nats, of the mean in 20 bins with that factor; 0 for an inactive latent


class LatentTraversal(Preview[str]):
    """What each latent does: one row a latent, the most informative first, its value varied over a fixed range.

    The other latents stay where the picture has them. The pictures are the same every epoch and in every run on the
    same data, whatever its beta. The order is by KL, averaged over the validation images of all processes, as
    everything else here is.

    Beside the picture there are `previews/traversal-<image>-epochNNN.gif`, in W&B `traversal/<image>`; and
    `previews/latents-epochNNN.csv`, in W&B the table `previews/latents`, which has a row a latent: its KL, whether it
    is active, and, where the data says what its images were made from, the factor it knows most of.

    Args:
        count: pictures that start a grid each.
        every_n_epochs: how often.
        steps: pictures a row.
        range: the values of a latent; None for `Absolute(2.5)`.
        centre: where the other latents stay: at the posterior means of "images", or at the "prior" mean.
        image_ids: the validation images to start from; None for the first `count`.
        latents: rows; None for all.
    """

    name = "traversal"

    def __init__(
        self,
        count: int = 1,
        every_n_epochs: int = 1,
        steps: int = 9,
        range: TraversalRange | None = None,
        centre: Literal["images", "prior"] = "images",
        image_ids: list[str] | None = None,
        latents: int | None = None,
    ) -> None:
        super().__init__(count if image_ids is None else len(image_ids), every_n_epochs)
        if steps < 2:
            raise ValueError(f"LatentTraversal: steps must be at least 2, got {steps}")
        if latents is not None and latents < 1:
            raise ValueError(f"LatentTraversal: latents must be at least 1, got {latents}")
        if centre == "prior" and image_ids is not None:
            raise ValueError("LatentTraversal: image_ids say where to start, and so does centre: prior; choose one")
        self.steps, self.range, self.latents = steps, range or Absolute(), latents
        self.centre, self.image_ids = centre, image_ids

    def forget(self) -> None:
        """Drop the last epoch's codes."""
        super().forget()
        self._codes: dict[str, Coded] = {}
        self._grids: list[Grid] = []
        self._rows: list[LatentRow] = []

    def watch(self, outputs: StepOutput, batch: Batch) -> None:
        """Keep the KL, the mean and the factors of every image."""
        terms = outputs.get("terms", {})
        if not {"kl_per_dim", "mean"} <= terms.keys():
            raise ValueError("LatentTraversal needs a step that returns terms kl_per_dim and mean, as that of a VAE")
        kl, means = (terms[name].detach().cpu().numpy() for name in ("kl_per_dim", "mean"))
        factors = batch["factors"].cpu().numpy() if "factors" in batch else [None] * len(means)
        self._codes |= dict(zip(outputs["image_ids"], map(Coded, kl, means, factors), strict=True))

    def items(self, outputs: StepOutput, batch: Batch, room: int) -> list[str]:
        """Names of the images."""
        return outputs["image_ids"][:room]

    def gather(self) -> list[str]:
        """What all processes have seen comes together too."""
        self._codes = {image_id: code for part in gathered(self._codes) for image_id, code in part.items()}
        return super().gather()

    def draw(self, items: Sequence[str], trainer: Trainer, pl_module: LightningModule) -> Picture:
        """One grid a picture."""
        codes = [self._codes[image_id] for image_id in sorted(self._codes)]  # in any order, sums would differ by a hair
        means = torch.from_numpy(np.stack([code.mean for code in codes])).float()  # (N, L)
        kl = torch.from_numpy(np.stack([code.kl for code in codes])).double().mean(0)  # (L,)
        chosen = order_by_kl(kl)[: self.latents]
        values = self.range.values(self.steps, means)[chosen]  # (rows, steps)
        net: Any = pl_module.net  # an Autoencoder; Lightning's type does not know of it
        picture = getattr(getattr(pl_module, "likelihood", None), "picture", torch.sigmoid)
        for name, code in self._starts(items, means.shape[1]).items():
            code = code.to(pl_module.device)
            rows = [traversal_codes(code, latent[None], row) for latent, row in zip(chosen, values, strict=True)]
            points = torch.cat(rows)  # (rows, steps, L)
            with torch.no_grad():
                images = picture(net.decode(points.flatten(0, 1))).cpu()  # (rows * steps, C, H, W)
            self._grids.append(Grid(name, images.unflatten(0, points.shape[:2])))
        known = [code.factors for code in codes if code.factors is not None]
        factors = torch.from_numpy(np.stack(known)) if known else None
        self._rows = latent_rows(kl, means, factors, self._factor_names(trainer) if known else ())
        labels, columns = self._labels(), self.range.headings(self.steps)
        return below([traversal_grid(grid.images, labels, columns, grid.name) for grid in self._grids])

    def save_more(self, trainer: Trainer, folder: Path) -> None:
        """The animations and the table."""
        for grid in self._grids:
            frames = traversal_frames(grid.images, self._labels(), self.range.headings(self.steps), grid.name)
            _save_animation(frames, self._animation(trainer, folder, grid))
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerows([LatentRow._fields, *(("" if cell is None else cell for cell in row) for row in self._rows)])
        _replace(folder / f"latents-epoch{trainer.current_epoch:03d}.csv", text.getvalue().encode())

    def send(self, items: Sequence[str], trainer: Trainer, drawn: Picture) -> None:
        """Hand picture, animations and table to W&B."""
        super().send(items, trainer, drawn)
        folder = Path(trainer.default_root_dir) / "previews"
        for grid in self._grids:
            tracking.log_animation(trainer, f"{self.name}/{_key(grid)}", self._animation(trainer, folder, grid))
        strips = [strip(images) for images in self._grids[0].images]
        shown = [[*row, picture] for row, picture in zip_longest(self._rows, strips)]  # those not drawn have none
        tracking.log_table(trainer, "previews/latents", [*LatentRow._fields, "traversal"], shown)

    def _starts(self, items: Sequence[str], latent_size: int) -> dict[str, Tensor]:
        """Where each grid starts, by its heading."""
        if self.centre == "prior":
            return {"prior mean": torch.zeros(latent_size)}
        names = items if self.image_ids is None else self.image_ids
        if missing := [name for name in names if name not in self._codes]:
            raise ValueError(f"LatentTraversal: no image {missing[0]!r} among the validation images")
        return {f"image {name}": torch.from_numpy(self._codes[name].mean).float() for name in names}

    def _labels(self) -> list[str]:
        return [f"z{row.latent}  KL {row.kl:.2f}" for row in self._rows[: self.latents]]

    def _factor_names(self, trainer: Trainer) -> tuple[str, ...]:
        datamodule: Any = getattr(trainer, "datamodule", None)  # Any: what a user hands to the trainer
        names: tuple[str, ...] = datamodule.val_set().factor_names
        return names

    def _animation(self, trainer: Trainer, folder: Path, grid: Grid) -> Path:
        return folder / f"{self.name}-{_key(grid)}-epoch{trainer.current_epoch:03d}.gif"


def latent_rows(kl: Tensor, means: Tensor, factors: Tensor | None = None, names: Sequence[str] = ()) -> list[LatentRow]:
    """What is known of each latent, the most informative first.

    Args:
        kl: mean KL (L,) in nats.
        means: posterior means (N, L).
        factors: indices (N, K) of what the images were made from.
        names: of the K factors.
    """
    active = means.double().var(dim=0, correction=0) > ACTIVE_VARIANCE
    information = None
    if factors is not None:  # the mean of an inactive latent varies by a hair, which over its own range looks like much
        information = torch.from_numpy(
            mutual_information(discretise((means * active).double().numpy()), factors.numpy())
        )
    rows = []
    for rank, latent in enumerate(order_by_kl(kl).tolist(), start=1):
        best, most = "", None
        if information is not None:
            most = float(information[latent].max())
            best = names[int(information[latent].argmax())] if most else ""
        rows.append(LatentRow(rank, latent, float(kl[latent]), bool(active[latent]), best, most))
    return rows


def _key(grid: Grid) -> str:
    """The grid's name as a key and a part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in grid.name.removeprefix("image "))


def _refuse_tail(asking: TraversalRange, tail: float) -> None:
    if not 0 < tail < 0.5:
        raise ValueError(f"{type(asking).__name__}: tail must be between 0 and 0.5, got {tail}")


def _signed(values: Tensor) -> list[str]:
    return [f"{value:+.1f}" if abs(value) > 1e-6 else "0" for value in values.tolist()]


def _save_animation(frames: Sequence[Picture], path: Path) -> None:
    content = io.BytesIO()
    first, *others = [Image.fromarray(frame) for frame in frames]
    first.save(content, "GIF", save_all=True, append_images=others, duration=_MILLISECONDS, loop=0)
    _replace(path, content.getvalue())


def _replace(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a kill never leaves half a file."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
