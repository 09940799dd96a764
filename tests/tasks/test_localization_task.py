"""Localization is of one object an image: data of several are refused, at the start where it is known."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_cv.cli import main
from lightning_cv.tasks import LocalizationModule


def test_scenes_of_several_objects_are_refused_before_they_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIGHTNING_CV_DATA", str(tmp_path / "data"))
    options = ["--config", "localization/locator_drawn", "--data.max_objects=3", "--trainer.accelerator=cpu"]
    assert main(["fit", *options]) == 2
    message = capsys.readouterr().err
    assert "data.max_objects is 3" in message
    assert "set data.max_objects=1" in message
    assert not (tmp_path / "data").exists()
    assert not list(Path("runs").glob("*/*/*"))


def test_an_image_of_several_objects_names_the_setting_of_either_kind_of_data() -> None:
    task = LocalizationModule(nn.Linear(1, 1), torch.optim.SGD)
    target = {"image_id": "seven", "boxes": torch.rand(2, 4), "labels": torch.tensor([1, 2])}
    with pytest.raises(
        ValueError, match=r"image seven has 2 .* data\.single_object \(drawn scenes: data\.max_objects=1"
    ):
        task.training_step({"images": torch.rand(1, 3, 8, 8), "targets": [target]}, 0)
