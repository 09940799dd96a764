"""Which class is taken for which, as a picture, a file and a W&B table."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray
from PIL import Image

from lightning_cv import tracking
from lightning_cv.viz.confusion import confusion_picture


def save_confusion(trainer: Trainer, stage: str, matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """Write `previews/confusion-<stage>.png` and `.csv`, and `<stage>/confusion` and its `_table` in W&B.

    Only the first process does, and sanity checks leave nothing. The picture shows shares of each true class; file and
    table hold the counts (K, K), truth by prediction, a row `truth, prediction, count` for each entry that is not 0.
    """
    if not trainer.is_global_zero or trainer.sanity_checking:
        return
    folder = Path(trainer.default_root_dir) / "previews"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = confusion_picture(matrix, names)
    part = folder / f".confusion-{stage}.part.png"
    Image.fromarray(drawn).save(part)
    os.replace(part, folder / f"confusion-{stage}.png")
    rows = [(names[row], names[column], int(matrix[row, column])) for row, column in np.argwhere(matrix)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("truth", "prediction", "count"), *rows])
    part = folder / f".confusion-{stage}.csv.part"
    part.write_text(text.getvalue())
    os.replace(part, folder / f"confusion-{stage}.csv")
    tracking.log_images(trainer, f"{stage}/confusion", [drawn])
    tracking.log_table(trainer, f"{stage}/confusion_table", ["truth", "prediction", "count"], rows)
