"""kill -9, then `resume`, under mixed precision: the same bits, and the gradients' scale goes on where it was."""

from pathlib import Path
from typing import Any

import pytest
from forked import KILL_AT, run
from test_cli_resume import (
    BATCHES,
    DETECTOR,
    DIGITS,
    EPOCHS,
    VAE,
    assert_same_bits,
    drawn,
    experiment,
    final_state,
    logged_losses,
    only_run,
)

ON_GPU = ["--trainer.accelerator=gpu", "--trainer.devices=1"]


def scaled(device: str) -> list[str]:
    """float16 with a scale of the gradients that doubles every four steps, so that a lost scale would be seen."""
    scaler = (
        f"{{class_path: torch.amp.GradScaler, init_args: {{device: {device}, init_scale: 256.0, growth_interval: 4}}}}"
    )
    arguments = f"{{precision: 16-mixed, device: {device}, scaler: {scaler}}}"
    return [f"--trainer.plugins=[{{class_path: lightning.pytorch.plugins.MixedPrecision, init_args: {arguments}}}]"]


BF16 = ["--trainer.precision=bf16-mixed"]
CASES = {
    "bf16-cpu": (VAE, DIGITS, BF16),
    "float16-cpu": (VAE, DIGITS, scaled("cpu")),
    "bf16-gpu": (DETECTOR, drawn(0), [*BF16, *ON_GPU]),
    "float16-gpu": (DETECTOR, drawn(0), ["--trainer.precision=16-mixed", *ON_GPU]),
    "float16-growing-gpu": (VAE, DIGITS, [*scaled("cuda"), *ON_GPU]),
}


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[pytest.mark.gpu] if name.endswith("gpu") else []) for name in CASES]
)
def test_a_killed_and_resumed_run_ends_in_the_same_bits(tmp_path: Path, case: str) -> None:
    model, data, options = CASES[case]
    states: list[dict[str, Any]] = []
    for name, killed_at in (("whole", None), ("killed", 11)):
        folder = tmp_path / name
        folder.mkdir()
        experiment(folder, model, data, 9)
        start = ["fit", "--config", "small.yaml", *options]
        if killed_at is None:
            assert run(start, folder) == 0, (folder / "output.txt").read_text()
        else:
            assert run(start, folder, **{KILL_AT: str(killed_at)}) == -9, (folder / "output.txt").read_text()
            assert final_state(folder)["global_step"] == 9
            assert run(["resume", str(only_run(folder))], folder) == 0, (folder / "output.txt").read_text()
        states.append(final_state(folder))
    whole, resumed = states
    assert resumed["global_step"] == BATCHES * EPOCHS
    assert_same_bits(whole["state_dict"], resumed["state_dict"])
    assert_same_bits(whole["optimizer_states"], resumed["optimizer_states"])
    assert logged_losses(tmp_path / "whole") == logged_losses(tmp_path / "killed")
    assert ("MixedPrecision" in whole) == case.startswith("float16")
    assert_same_bits(whole.get("MixedPrecision"), resumed.get("MixedPrecision"))
    if "growing" in case or case == "float16-cpu":
        steps = BATCHES * EPOCHS
        assert whole["MixedPrecision"]["scale"] == 256.0 * 2 ** (steps // 4)
        assert whole["MixedPrecision"]["_growth_tracker"] == steps % 4
