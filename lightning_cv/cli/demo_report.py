"""The figures and the page of the demo."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as Terminal

from lightning_cv.cli.experiments import read_yaml
from lightning_cv.cli.run_folder import CONFIG, ENVIRONMENT
from lightning_cv.tools.report import Figure, Headline, Report, Section, Table, write_report
from lightning_cv.viz.rate_distortion import RatePoint, rate_distortion

Results = dict[str, Any]  # what results.json holds


class Outcome(NamedTuple):
    """A trained and tested job: its folder, and what training and the test reported."""

    experiment: str
    title: str
    folder: Path
    training: dict[str, float]
    test: dict[str, float]


def results_of(outcomes: list[Outcome]) -> Results:
    """The figures of results.json: likelihoods in nats an image, mAP and mIoU 0 to 1, all on test data."""
    detection, segmentation = _of(outcomes, "detection/")[0], _of(outcomes, "segmentation/")[0]
    return {
        "vae": [_vae_row(outcome) for outcome in _of(outcomes, "vae/")],
        "detection": {
            "map_50": detection.test["test/map_50"],
            "map": detection.test["test/map"],
            "images_per_s": detection.training["train/images_per_s"],
        },
        "segmentation": {
            "miou": segmentation.test["test/miou"],
            "images_per_s": segmentation.training["train/images_per_s"],
        },
        "seconds": sum(outcome.training["seconds"] + outcome.test["seconds"] for outcome in outcomes),
    }


def headline_table(results: Results, console: Console | None = None) -> None:
    """The results as a table in the terminal."""
    table = Terminal(title="beta-VAE on digits, test images (nats an image)", title_justify="left", box=None)
    for column in ("beta", "seed", "ELBO", "reconstruction", "KL", "active units"):
        table.add_column(column, justify="right", overflow="fold")
    for row in results["vae"]:
        figures = [f"{row[name]:.2f}" for name in ("elbo", "reconstruction", "kl")]
        table.add_row(f"{row['beta']:g}", str(row["seed"]), *figures, str(row["active_units"]))
    shown = console or Console()
    shown.print(table)
    detection, segmentation = results["detection"], results["segmentation"]
    shown.print(f"SSD, drawn scenes: mAP@0.5 {detection['map_50']:.3f}, mAP@[.5:.95] {detection['map']:.3f}")
    shown.print(f"FCN, drawn scenes: mIoU {segmentation['miou']:.3f}")
    shown.print(f"training and tests: {results['seconds'] / 60:.1f} minutes")


def write_demo_report(outcomes: list[Outcome], results: Results, page: Path) -> Path:
    """One HTML file with everything the demo made."""
    detection, segmentation = _of(outcomes, "detection/")[0], _of(outcomes, "segmentation/")[0]
    minutes = results["seconds"] / 60
    report = Report(
        title="lightning_cv demo",
        summary="A detector and a segmentation net on drawn scenes, and a beta sweep on handwritten digits, all "
        "trained on this machine. Figures are on test data that no training saw; pictures are of validation data.",
        headlines=[
            Headline(f"{results['detection']['map_50']:.3f}", "mAP@0.5, SSD on drawn scenes"),
            Headline(f"{results['segmentation']['miou']:.3f}", "mIoU, FCN on drawn scenes"),
            Headline(f"{_mean_elbo(results, 1.0):.1f}", "ELBO at beta 1, nats an image"),
            Headline(f"{minutes:.1f} min", "all trainings and tests"),
        ],
        sections=[
            Section(
                "Object detection",
                "Boxes with a score of at least 30 % beside the true ones. 1 to 8 objects of 10 classes, overlapping.",
                figures=[_preview(detection, "detection", "Truth and predictions", wide=True)],
            ),
            Section(
                "Semantic segmentation",
                "A class for every pixel: the ground or one of 10 kinds of object. The backbone starts from the SSD's.",
                figures=[_preview(segmentation, "segmentation", "Image, truth, prediction", wide=True)],
            ),
            _beta_section(outcomes, results),
            Section("All results", tables=[_results_table(results), _provenance(outcomes)]),
        ],
    )
    return write_report(report, page)


def _beta_section(outcomes: list[Outcome], results: Results) -> Section:
    points = [RatePoint(row["beta"], row["seed"], row["kl"], row["reconstruction"]) for row in results["vae"]]
    figures = [
        Figure(
            "Rate and distortion",
            rate_distortion(points),
            "A larger beta buys a shorter code (KL) with a worse reconstruction. One point a training.",
            wide=True,
        )
    ]
    first_seed = [o for o, row in zip(_of(outcomes, "vae/"), results["vae"], strict=True) if row["seed"] == 0]
    for outcome in first_seed:
        figures.append(_preview(outcome, "reconstruction", f"Reconstructions, {outcome.title}", wide=True))
    for outcome in first_seed:
        figures.append(_preview(outcome, "traversal", f"Latent traversal, {outcome.title}", wide=True))
    return Section(
        "Autoencoding: what beta does",
        "beta weighs the KL term of the loss. In a traversal each row moves one latent, the most informative on top; "
        "rows that change nothing are latents that beta has switched off.",
        figures=figures,
    )


def _results_table(results: Results) -> Table:
    rows = [
        [row["beta"], row["seed"], row["elbo"], row["reconstruction"], row["kl"], row["active_units"]]
        for row in results["vae"]
    ]
    columns = ["beta", "seed", "ELBO", "reconstruction", "KL", "active units"]
    return Table("beta sweep, nats an image, test images", columns, rows)


def _provenance(outcomes: list[Outcome]) -> Table:
    rows = []
    for outcome in outcomes:
        record = json.loads((outcome.folder / ENVIRONMENT).read_text())
        commits = [
            (code["commit"] or "no commit")[:10] + ("+" if code["uncommitted_diff"] else "") for code in record["code"]
        ]
        rows.append(
            [
                outcome.title,
                " ".join(record["command"]),
                " ".join(commits),
                record["device"],
                outcome.training["seconds"],
            ]
        )
    columns = ["training", "command", "commit", "device", "seconds"]
    caption = "+ after a commit: with uncommitted changes, which the run's env.json holds."
    return Table("How each was made", columns, rows, caption=caption, code=["command", "commit"])


def _preview(outcome: Outcome, name: str, title: str, wide: bool = False) -> Figure:
    """The last picture a callback drew of a kind."""
    pictures = sorted((outcome.folder / "previews").glob(f"{name}*.png"))
    if not pictures:
        raise ValueError(f"{outcome.folder} has no {name} preview: was it trained with the demo's callbacks?")
    return Figure(title, pictures[-1], wide=wide)


def _vae_row(outcome: Outcome) -> dict[str, float | int]:
    settings = read_yaml(outcome.folder / CONFIG)
    return {
        "beta": float(settings["model"]["init_args"]["beta"]),
        "seed": int(settings["seed_everything"]),
        "elbo": outcome.test["test/elbo"],
        "reconstruction": outcome.test["test/reconstruction"],
        "kl": outcome.test["test/kl"],
        "active_units": int(outcome.test["test/active_units"]),
    }


def _mean_elbo(results: Results, beta: float) -> float:
    values: list[float] = [row["elbo"] for row in results["vae"] if row["beta"] == beta]
    return sum(values) / len(values)


def _of(outcomes: Iterable[Outcome], prefix: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.experiment.startswith(prefix)]
