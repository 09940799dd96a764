"""The lecture's point, measured: an autoencoder is no generator, a variational one is."""

import json

import pytest
import torch

from lightning_cv.cli import main
from lightning_cv.cli.fit import launch

OPTIONS = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SMALL = ["--target=null", "--data.size=16", "--model.net.image_size=16", "--trainer.max_epochs=40"]


@pytest.mark.slow
def test_the_prior_is_a_hole_to_an_autoencoder_and_a_mixture_of_its_codes_is_not(tmp_path):
    """The order of Ghosh et al. 2020 and of pythae's CelebA figures: Normal far off, a mixture near, a VAE near."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ckpts = {}
    for name in ("autoencoder_digits", "beta_vae_digits"):
        command = ["--config", f"vae/{name}", "--runs", str(tmp_path)]
        ckpts[name] = launch("fit", [*command, *OPTIONS, *SMALL]).run_dir / "checkpoints" / "last.ckpt"
    assert main(["generate", "--ckpt", *map(str, ckpts.values()), "--out", str(tmp_path / "out")]) == 0
    torch.set_num_threads(threads)
    auto, variational = json.loads((tmp_path / "out" / "generation.json").read_text())["models"]
    assert auto["fid_cnn_digits/prior"] > 3 * variational["fid_cnn_digits/prior"]
    assert auto["fid_cnn_digits/prior"] > 5 * auto["fid_cnn_digits/gmm10"]
    assert auto["fid_cnn_digits/reconstruction"] < variational["fid_cnn_digits/reconstruction"]
    assert auto["prior_kl"] > 10 * variational["prior_kl"]
    apart = [max(model["holes"], model["unreached"]) for model in (auto, variational)]  # codes narrower or wider
    assert apart[0] > 0.5 > apart[1]
