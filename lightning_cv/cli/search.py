"""Proposals of pictures of one's own, found as those that a net was trained on: for `lightning-cv predict`."""

from pathlib import Path

from lightning_cv.contracts import ProposalDetector
from lightning_cv.datamodules.base import DataModule, DetectionDataModule
from lightning_cv.datasets.errors import DataError
from lightning_cv.datasets.proposals import ABOUT, HOW, read_settings
from lightning_cv.datasets.selective_search import SelectiveSearch, search_of_settings
from lightning_cv.errors import UserError
from lightning_cv.tasks import Task


def search_of(task: Task, datamodule: DataModule, folder: Path | None = None) -> SelectiveSearch | None:
    """What finds the proposals of a picture for a net that judges those of its data; None where it needs none.

    Args:
        task: with its net.
        datamodule: of the net's checkpoint.
        folder: by whose settings pictures are searched; None is the data module's `proposals`.

    Raises:
        UserError: the folder is gone, or its boxes were found otherwise than by this version's selective search; or a
            folder is named for a net that is shown no proposals.
    """
    if not (isinstance(task.net, ProposalDetector) and isinstance(datamodule, DetectionDataModule)):
        if folder is not None:
            raise UserError(
                f"--proposals: the checkpoint's {type(task.net).__name__} is shown no proposals; leave it out"
            )
        return None
    name = "--proposals" if folder is not None else "data.proposals of the checkpoint"
    place = folder or (Path(datamodule.proposals) if datamodule.proposals is not None else None)
    if place is None:
        return None
    try:
        return search_of_settings(_settings_in(place))
    except ValueError as error:
        raise UserError(
            f"{name}, {place.absolute()}: {error}. The net judges proposals, and predict searches pictures as such a "
            f"folder says: put it back, or name another of `{HOW}` by --proposals DIR"
        ) from error


def _settings_in(place: Path) -> dict[str, object]:
    if place.is_file():
        raise DataError("a single file does not say how its boxes were found")
    settings = read_settings(place)
    if settings is None:
        raise DataError(f"there is no {ABOUT}")
    return settings
