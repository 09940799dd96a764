"""What beta does, for every seed: a shorter code, a worse reconstruction, no more latents in use.

The sweep of the README: `pytest -m slow tests/test_beta_sweep.py --basetemp FOLDER` keeps its runs.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "cli"))

from forked import run_for

from lightning_cv.datamodules import DSpritesDataModule

BETAS = (1, 4, 16)
MINUTES = 30


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which dSprites are drawn once."""
    root = tmp_path_factory.mktemp("sprites")
    DSpritesDataModule(str(root)).prepare_data()
    return root


def figures(root: Path, folder: Path, beta: int, seed: int) -> dict[str, float]:
    """Test figures of the experiment as it stands, one thread."""
    asked = ["--config", "vae/beta_vae_dsprites32", f"--model.beta={beta}", f"--seed_everything={seed}"]
    run = folder / f"beta{beta}-seed{seed}"
    options = {"threads": 1, "LIGHTNING_CV_DATA": str(root)}
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    assert run_for(60 * MINUTES, ["fit", *asked, *quiet, "--run_dir", str(run)], folder, **options) == 0
    last = run / "checkpoints" / "last.ckpt"
    assert run_for(60 * MINUTES, ["test", "--ckpt", str(last), *quiet], folder, **options) == 0
    found = json.loads((run / "test-1" / "results.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
@pytest.mark.timeout(60 * 60)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_beta_trades_code_length_for_reconstruction(sprites: Path, tmp_path: Path, seed: int) -> None:
    sweep = [figures(sprites, tmp_path, beta, seed) for beta in BETAS]
    for smaller, larger in pairwise(sweep):
        assert larger["test/kl"] < smaller["test/kl"]
        assert larger["test/reconstruction"] > smaller["test/reconstruction"]
        assert larger["test/active_units"] <= smaller["test/active_units"]
        assert larger["test/elbo"] < smaller["test/elbo"]  # free of beta: best at 1
