"""What autoencoders make of random codes, measured and drawn. Letters: N images; L latent size."""

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_cv.contracts import Autoencoder
from lightning_cv.metrics.fid import frechet_distance
from lightning_cv.metrics.generation import (
    CodeFigures,
    gaussian_draws,
    gaussian_kl,
    hole_share,
    interpolate,
    irregularity,
    mixture_draws,
    prior_draws,
)
from lightning_cv.ops.latents import reparameterise
from lightning_cv.viz.canvas import Picture
from lightning_cv.viz.generation import Column, generation_grid, latent_scatter, sample_grid

BATCH = 256
COMPONENTS = 10
"""Gaussians of the mixture."""

PRIOR, GAUSSIAN, MIXTURE = "prior", "gaussian", f"gmm{COMPONENTS}"
SHOWN = {PRIOR: "prior N(0, 1)", GAUSSIAN: "fitted Gaussian", MIXTURE: f"fitted mixture of {COMPONENTS}"}
HOLE_DRAWS = 5000
PAIRS, STEPS = 64, 17
"""Interpolations that are measured; a few are drawn, with as many pictures as fit in a row."""

DRAWN_PAIRS, DRAWN_STEPS = 3, 6


class Subject(NamedTuple):
    """An autoencoder with the images it is judged by: (N, C, H, W) and classes (N,) of training and evaluation data."""

    name: str
    net: Autoencoder
    device: torch.device
    train: Tensor
    images: Tensor
    labels: Tensor
    class_names: Sequence[str]
    features: nn.Module | None  # for Fréchet distances
    features_name: str
    picture: Callable[[Tensor], Tensor] = torch.sigmoid  # turns the net's outputs into images


class Outcome(NamedTuple):
    """What was found of one autoencoder."""

    name: str
    variational: bool
    code_figures: CodeFigures
    fid: dict[str, float]  # by the source of the codes
    features_name: str
    samples: dict[str, Tensor]
    interpolations: Tensor
    scatter: Picture

    def figures(self) -> dict[str, float]:
        """All numbers under the names that results.json and the table use."""
        fids = {f"fid_{self.features_name}/{source}": value for source, value in self.fid.items()}
        return self.code_figures._asdict() | fids


@torch.inference_mode()
def examine(subject: Subject, seed: int = 0) -> Outcome:
    """Samples from the prior, from a Gaussian and from a mixture fitted to the training codes, and what they are worth.

    Codes of a variational autoencoder are draws from its posteriors, for these are what its decoder was trained on; of
    a deterministic one they are the codes themselves. As many images are drawn as there are real ones.
    """
    generator = torch.Generator().manual_seed(seed)
    _, codes, variational = _codes(subject, subject.train, generator)
    if len(codes) <= codes.shape[1]:
        raise ValueError(f"{len(codes)} training images are too few for codes of {codes.shape[1]} numbers")
    count = len(subject.images)
    drawn = {
        PRIOR: prior_draws(count, codes.shape[1], generator),
        GAUSSIAN: gaussian_draws(codes, count, generator),
        MIXTURE: mixture_draws(codes, count, min(COMPONENTS, len(codes)), generator),
    }
    samples = {source: _decoded(subject, latent) for source, latent in drawn.items()}
    own, _, _ = _codes(subject, subject.images, generator)
    pairs = min(PAIRS, count // 2)
    lines = interpolate(own[0 : 2 * pairs : 2], own[1 : 2 * pairs : 2], STEPS)
    pictures = _decoded(subject, lines.flatten(0, 1)).reshape(pairs, STEPS, *subject.images.shape[1:])
    prior = prior_draws(HOLE_DRAWS, codes.shape[1], generator)
    found = CodeFigures(
        hole_share(codes, prior),
        hole_share(prior, codes),
        gaussian_kl(codes),
        float(irregularity(pictures).mean()),
    )
    shown = interpolate(own[0 : 2 * DRAWN_PAIRS : 2], own[1 : 2 * DRAWN_PAIRS : 2], DRAWN_STEPS)
    fid = _distances(subject, samples | {"reconstruction": _decoded(subject, own)})
    return Outcome(
        subject.name,
        variational,
        found,
        fid,
        subject.features_name,
        samples,
        _decoded(subject, shown.flatten(0, 1)).reshape(*shown.shape[:2], *subject.images.shape[1:]),
        latent_scatter(own, subject.labels, subject.class_names),
    )


def _distances(subject: Subject, pictures: dict[str, Tensor]) -> dict[str, float]:
    """Fréchet distance of each set of pictures from the real images; "train" is how far as many training images are."""
    if subject.features is None:
        return {}
    sets = pictures | {"train": subject.train[: len(subject.images)]}
    return {name: frechet_distance(subject.images, one, subject.features) for name, one in sets.items()}


def _codes(subject: Subject, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, bool]:
    """Posterior means and codes (N, L) of images, and whether the two differ."""
    posteriors = [subject.net.encode(batch.to(subject.device)) for batch in torch.split(images, BATCH)]
    mean = torch.cat([one.mean.cpu() for one in posteriors])
    variances = [one.log_var.cpu() for one in posteriors if one.log_var is not None]
    if not variances:
        return mean, mean, False
    return mean, reparameterise(mean, torch.cat(variances), generator), True


def _decoded(subject: Subject, codes: Tensor) -> Tensor:
    batches = torch.split(codes, BATCH)
    return torch.cat([subject.picture(subject.net.decode(batch.to(subject.device))).cpu() for batch in batches])


def write_outcomes(outcomes: Sequence[Outcome], about: dict[str, Any], out: Path) -> None:
    """`generation.json`, `.csv`, the comparison `generation.png`, and a page of samples for each source and net."""
    (out / "generation.json").write_text(json.dumps(as_json(outcomes, about), indent=1) + "\n")
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.figures()))
    with (out / "generation.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", *names])
        writer.writerows([outcome.name, *(outcome.figures().get(name, "") for name in names)] for outcome in outcomes)
    Image.fromarray(generation_grid([_column(outcome) for outcome in outcomes])).save(out / "generation.png")
    for number, outcome in enumerate(outcomes, start=1):
        for source, images in outcome.samples.items():
            Image.fromarray(sample_grid(images[:100])).save(out / f"{number}-{source}.png")
        Image.fromarray(outcome.scatter).save(out / f"{number}-codes.png")


def as_json(outcomes: Sequence[Outcome], about: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold of it: figures that are no finite numbers become null."""
    models = [
        {"name": outcome.name, "variational": outcome.variational}
        | {name: value if math.isfinite(value) else None for name, value in outcome.figures().items()}
        for outcome in outcomes
    ]
    return about | {"models": models}


def print_outcomes(outcomes: Sequence[Outcome], console: Console | None = None) -> None:
    """A table in the terminal, a column an autoencoder."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for outcome in outcomes:
        table.add_column(outcome.name, justify="right")
    for name in dict.fromkeys(name for outcome in outcomes for name in outcome.figures()):
        values = [outcome.figures().get(name) for outcome in outcomes]
        table.add_row(name, *("" if value is None else f"{value:.4g}" for value in values))
    (console or Console()).print(table)


def _column(outcome: Outcome) -> Column:
    found = outcome.code_figures
    lines = [
        f"{100 * found.holes:.0f} % of prior draws in holes, {100 * found.unreached:.0f} % of codes unreached",
        f"KL of the codes' Gaussian {found.prior_kl:.3g} nats",
    ]
    if outcome.fid:
        lines.append("FID " + ", ".join(f"{source} {outcome.fid[source]:.0f}" for source in outcome.samples))
    samples = {SHOWN[source]: images for source, images in outcome.samples.items()}
    return Column(outcome.name, lines, samples, outcome.interpolations, outcome.scatter)
