"""`lightning-cv dashboard`: the W&B workspace in which runs of different betas are compared, made and saved.

Every panel reads keys that our runs log under the same names whatever the beta, so that runs line up by themselves.
"""

import argparse
import importlib.util
import json
import os
from pathlib import Path
from typing import Any, TypeAlias

from lightning_cv.errors import UserError
from lightning_cv.tools.wandb_server import ask_server

Workspace: TypeAlias = Any  # of wandb-workspaces, an extra that is imported where it is asked for
Panel: TypeAlias = Any
Library: TypeAlias = Any

NAME = "Compare betas"
BETA, SEED = "model.beta", "seed_everything"
TERMS = ("val/elbo", "val/reconstruction", "val/kl", "val/active_units")
PICTURES = ("previews/traversal", "previews/reconstruction")
LATENTS = "previews/latents"
"""Key of the table with a row for each latent."""


def main(argv: list[str]) -> int:
    """0 when the workspace was saved, on the server or as a file."""
    options = _parser().parse_args(argv)
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError("dashboard needs wandb-workspaces: pip install 'lightning-cv[dashboard]'")
    workspace = compare_betas(options.entity, options.project)
    if options.out is not None:
        write_workspace(workspace, options.out)
        print(f"{options.out}: workspace {NAME!r}, not saved on a server")
        return 0
    ask_server()
    if not options.entity:
        raise UserError("whose project is it? Name its user or team with --entity")
    print(workspace.save().url)
    return 0


def compare_betas(entity: str, project: str) -> Workspace:
    """Rate against distortion, what follows from beta, curves grouped by beta, traversals side by side, all latents."""
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports.v2 import interface as panels

    from lightning_cv.tracking import STEP  # heavy, as what it is made with

    sections = {  # name: panels a row, panels
        "Rate and distortion": (2, [_rate_distortion(panels), _parallel_coordinates(panels)]),
        "What beta does": (len(TERMS), [_against_beta(panels, term) for term in TERMS]),
        "Training": (3, [_curves(panels, term, STEP) for term in (*TERMS, "train/beta")]),
        "Pictures": (1, [_pictures(panels, key) for key in PICTURES]),
        "Latents": (1, [panels.WeavePanelSummaryTable(table_name=LATENTS)]),
    }
    for number, panel in enumerate(panel for _, group in sections.values() for panel in group):
        panel._id = f"panel-{number:02d}"  # otherwise drawn at random: the same workspace would never be the same file
    workspace = workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            workspaces.Section(
                name=name,
                panels=group,
                is_open=True,
                layout_settings=workspaces.SectionLayoutSettings(columns=columns, rows=-(-len(group) // columns)),
            )
            for name, (columns, group) in sections.items()
        ],
        settings=workspaces.WorkspaceSettings(x_axis=STEP),
        runset_settings=workspaces.RunsetSettings(
            order=[workspaces.Ordering(workspaces.Config(BETA), ascending=True)],
            pinned_columns=[f"config:{_stored(BETA)}", *(f"summary:{term}" for term in TERMS)],
        ),
    )
    workspace._internal_runset_id = "compare-betas"
    return workspace


def write_workspace(workspace: Workspace, path: Path) -> None:
    """What would be sent to the server, as JSON."""
    content = as_json(workspace)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def as_json(workspace: Workspace) -> dict[str, Any]:
    """The view as plain values, under the server's own names; Any: whatever JSON can hold."""
    view = workspace._to_model()
    content: dict[str, Any] = json.loads(view.model_dump_json(by_alias=True, exclude_none=True))
    return content


def _stored(key: str) -> str:
    """Where the server keeps a nested setting: `model.value.beta`."""
    first, _, rest = key.partition(".")
    return f"{first}.value.{rest}" if rest else f"{first}.value"


def _rate_distortion(panels: Library) -> Panel:
    return panels.ScatterPlot(
        title="rate against distortion, nats an image",
        x=panels.SummaryMetric("val/kl"),
        y=panels.SummaryMetric("val/reconstruction"),
        legend_template=f"beta ${{config:{BETA}}}",
    )


def _parallel_coordinates(panels: Library) -> Panel:
    column = panels.ParallelCoordinatesPlotColumn
    return panels.ParallelCoordinatesPlot(
        title="beta, seed and what came of them",
        columns=[
            column(panels.Config(BETA), display_name="beta", log=True),
            column(panels.Config(SEED), display_name="seed"),
            *(column(panels.SummaryMetric(term), display_name=term.removeprefix("val/")) for term in TERMS),
        ],
    )


def _against_beta(panels: Library, term: str) -> Panel:
    return panels.ScatterPlot(
        title=f"{term} by beta",
        x=panels.Config(BETA),
        y=panels.SummaryMetric(term),
        log_x=True,
    )


def _curves(panels: Library, term: str, step: str) -> Panel:
    return panels.LinePlot(
        title=f"{term}, mean and range over seeds",
        x=step,
        y=[term],
        groupby=panels.Config(BETA),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
    )


def _pictures(panels: Library, key: str) -> Panel:
    return panels.MediaBrowser(
        title=f"{key}, a row a run",
        media_keys=[key],
        mode="grid",
        grid_x_axis="step",
        grid_y_axis="run",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv dashboard",
        description="Save the W&B workspace that compares runs of different betas: rate and distortion, parallel "
        "coordinates, curves by beta, traversals and reconstructions side by side, a table of all latents.",
    )
    parser.add_argument("--project", default="lightning-cv", help="W&B project (default %(default)s)")
    parser.add_argument("--entity", default="", help="user or team that owns the project")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the workspace as JSON instead; no server needed"
    )
    return parser
