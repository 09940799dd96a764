"""Weights of others as checkpoints: a made-up file of their layout, and the real ones with their published figures."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))

from drawn_root import make_data_root
from forked import run

from lightning_cv.checkpoints import load_checkpoint, newest_checkpoint
from lightning_cv.cli import main
from lightning_cv.cli.predictor import load_model
from lightning_cv.datasets.dsprites import Look, render_sprites
from lightning_cv.datasets.mnist import read_idx
from lightning_cv.ops.latents import kl_to_standard_normal
from lightning_cv.ops.likelihoods import Bernoulli

MODELS = "golden/disvae_models"


def their_weights(channels=1, side=32, latents=2):
    """Random weights under the names and in the shapes of disentangling-vae's net."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv1": (32, channels, 4, 4), "conv2": (32, 32, 4, 4), "conv3": (32, 32, 4, 4)}
    shapes |= {"conv_64": (32, 32, 4, 4)} if side == 64 else {}
    shapes |= {"lin1": (256, 512), "lin2": (256, 256), "mu_logvar_gen": (2 * latents, 256)}
    back = {"lin1": (256, latents), "lin2": (256, 256), "lin3": (512, 256)}
    back |= {"convT_64": (32, 32, 4, 4)} if side == 64 else {}
    back |= {"convT1": (32, 32, 4, 4), "convT2": (32, 32, 4, 4), "convT3": (32, channels, 4, 4)}
    weights = {}
    for part, layers in (("encoder", shapes), ("decoder", back)):
        for name, shape in layers.items():
            biases = shape[1] if name.startswith("convT") else shape[0]
            weights[f"{part}.{name}.weight"] = 0.1 * torch.randn(shape, generator=generator)
            weights[f"{part}.{name}.bias"] = 0.1 * torch.randn(biases, generator=generator)
    return weights


def their_forward(weights, images):
    """Means, log variances and logits at the means: their net written out."""
    relu, conv, back = torch.relu, torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d

    def of(name):
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    maps = images
    for name in ("conv1", "conv2", "conv3", "conv_64"):
        if f"encoder.{name}.weight" in weights:
            maps = relu(conv(maps, *of(f"encoder.{name}"), stride=2, padding=1))
    features = maps.flatten(1)
    for name in ("lin1", "lin2"):
        features = relu(torch.nn.functional.linear(features, *of(f"encoder.{name}")))
    pairs = torch.nn.functional.linear(features, *of("encoder.mu_logvar_gen")).unflatten(1, (-1, 2))
    mean, log_var = pairs.unbind(-1)
    features = mean
    for name in ("lin1", "lin2", "lin3"):
        features = relu(torch.nn.functional.linear(features, *of(f"decoder.{name}")))
    maps = features.unflatten(1, (32, 4, 4))
    for name in ("convT_64", "convT1", "convT2"):
        if f"decoder.{name}.weight" in weights:
            maps = relu(back(maps, *of(f"decoder.{name}"), stride=2, padding=1))
    return mean, log_var, back(maps, *of("decoder.convT3"), stride=2, padding=1)


@pytest.mark.parametrize(("channels", "side", "data"), [(1, 32, "MNIST"), (1, 64, "DSprites"), (3, 64, "CelebA")])
def test_the_data_are_said_to_be_a_guess(tmp_path, capsys, channels, side, data):
    torch.save(their_weights(channels, side), tmp_path / "model.pt")
    imported(tmp_path / "model.pt", tmp_path / "out.ckpt")
    told = f"images {channels} x {side} x {side}, 2 latents; data guessed from that shape: {data} -> "
    assert told in capsys.readouterr().out


def imported(file, out):
    assert main(["import", "disvae", str(file), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize(("channels", "side"), [(1, 32), (1, 64), (3, 64)])
def test_the_imported_net_computes_what_theirs_does(tmp_path, channels, side):
    weights = their_weights(channels, side, latents=3)
    torch.save(weights, tmp_path / "model.pt")
    net = load_model(imported(tmp_path / "model.pt", tmp_path / "out.ckpt"), "cpu").task.net
    images = torch.rand(2, channels, side, side)
    with torch.no_grad():
        mean, log_var = net.encode(images)
        logits = net.decode(mean)
    for ours, theirs in zip((mean, log_var, logits), their_forward(weights, images), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_an_imported_checkpoint_is_tested_and_used_but_not_trained_on(tmp_path):
    torch.save(their_weights(latents=10), tmp_path / "model.pt")
    ckpt = imported(tmp_path / "model.pt", tmp_path / "vae.ckpt")
    root = make_data_root(tmp_path / "root")
    assert run(["test", "--ckpt", str(ckpt)], tmp_path, LIGHTNING_CV_DATA=str(root)) == 0, text_of(tmp_path)
    (results,) = tmp_path.glob("runs/vae/*/*/results.json")
    assert {"test/elbo", "test/kl"} <= json.loads(results.read_text()).keys()
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "image.png")
    used = ["predict", "--ckpt", str(ckpt), "--images", str(tmp_path / "image.png"), "--out", str(tmp_path / "out")]
    assert run(used, tmp_path, LIGHTNING_CV_DATA=str(root)) == 0, text_of(tmp_path)
    assert (tmp_path / "out" / "image.png").exists()
    fit = ["fit", "--config", "vae/beta_vae_mnist", "--ckpt", str(ckpt)]
    assert run(fit, tmp_path, LIGHTNING_CV_DATA=str(root)) == 2
    assert "vae.ckpt holds a net but no training to go on with" in text_of(tmp_path)
    with pytest.raises(ValueError, match=r"vae\.ckpt is not of a run: there is no global_step and no epoch in it"):
        newest_checkpoint(tmp_path)


def text_of(folder):
    return (folder / "output.txt").read_text()


def test_files_that_are_not_theirs_are_named(tmp_path, capsys):
    def refused(content, *words):
        file = tmp_path / "wrong.pt"
        file.unlink(missing_ok=True)
        if content is not None:
            torch.save(content, file) if not isinstance(content, bytes) else file.write_bytes(content)
        assert main(["import", "disvae", str(file), "--out", str(tmp_path / "x.ckpt")]) == 2
        told = capsys.readouterr().err
        assert told.startswith("lightning-cv import: ")
        assert all(word in told for word in words), told
        assert not (tmp_path / "x.ckpt").exists()

    refused(None, "no file", "wrong.pt")
    refused(b"no weights at all", "wrong.pt holds no weights that load")
    refused([1, 2], "holds list, not the weights of a net by name")
    refused({"state_dict": {}}, "holds dict, not the weights")
    whole = their_weights()
    less = {name: value for name, value in whole.items() if name != "decoder.lin3.bias"}
    refused(less, "no trained VAE of disentangling-vae: it lacks decoder.lin3.bias")
    refused(whole | {"fc.weight": torch.zeros(2)}, "it also holds fc.weight")
    refused(whole | {"encoder.lin1.weight": torch.zeros(256, 100)}, "encoder.linear.0.weight does not fit")
    refused(their_weights(channels=3), "no data module here has images of 3 channels and 32 px")


def test_what_is_there_is_not_written_over(tmp_path, capsys):
    torch.save(their_weights(), tmp_path / "model.pt")
    (tmp_path / "mine.ckpt").write_text("mine")
    assert main(["import", "disvae", str(tmp_path / "model.pt"), "--out", str(tmp_path / "mine.ckpt")]) == 2
    assert "mine.ckpt is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.ckpt").read_text() == "mine"
    assert main(["import", "disvae", str(tmp_path / "model.pt"), "--out", str(tmp_path / "mine.pt")]) == 2
    assert "ends in .ckpt" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["import", "keras", "x", "--out", "y.ckpt"])


# --- the real ones

SQUARES = {  # first 1000 images, code at the mean: the repository's own log times 738, to six digits
    "VAE_dsprites": (4.051941, 22.786762),
    "betaH_dsprites": (14.351521, 13.292660),
    "betaB_dsprites": (34.205143, 25.037064),
}


def figures(net, images):
    """Reconstruction at the mean and KL of each latent, nats an image."""
    with torch.no_grad():
        mean, log_var = net.encode(images)
        return Bernoulli()(net.decode(mean), images).mean().item(), kl_to_standard_normal(mean, log_var).mean(0)


@pytest.mark.data
@pytest.mark.parametrize("name", SQUARES)
def test_the_published_losses_of_trained_models(shared_data, tmp_path, name):
    net = load_model(imported(shared_data / MODELS / f"{name}.pt", tmp_path / "out.ckpt"), "cpu").task.net
    squares = render_sprites(Look(0, 0, 0)).reshape(-1, 1, 64, 64)[:1000]
    reconstruction, kl = figures(net, torch.from_numpy(squares).float())
    assert reconstruction == pytest.approx(SQUARES[name][0], rel=1e-5)
    assert kl.sum().item() == pytest.approx(SQUARES[name][1], rel=1e-5)
    if name == "betaB_dsprites":
        assert (kl > 0.5).nonzero().flatten().tolist() == [5, 6, 7, 9]
    if name == "VAE_dsprites":
        assert (kl > 0.5).all()


@pytest.mark.data
def test_the_trained_mnist_model(shared_data, tmp_path):
    net = load_model(imported(shared_data / MODELS / "VAE_mnist.pt", tmp_path / "out.ckpt"), "cpu").task.net
    raw = shared_data / "MNIST" / "raw"

    def enlarged(part, count):
        digits = read_idx(next(raw.glob(f"{part}-images-idx3-ubyte*")), 3)[:count]
        large = [np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR)) for one in digits]
        return torch.from_numpy(np.stack(large)).float().div(255).unsqueeze(1)

    reconstruction, kl = figures(net, enlarged("train", 1000))
    assert reconstruction == pytest.approx(111.9094, rel=1e-5)
    assert kl.sum().item() == pytest.approx(19.1159, rel=1e-5)
    reconstruction, kl = figures(net, enlarged("t10k", 5000))
    assert reconstruction == pytest.approx(117.978, rel=1e-4)
    assert kl.sum().item() == pytest.approx(19.278, rel=1e-4)


@pytest.mark.data
@pytest.mark.slow
def test_the_trained_mnist_model_reaches_its_elbo_on_the_data_it_names(shared_data, tmp_path):
    ckpt = imported(shared_data / MODELS / "VAE_mnist.pt", tmp_path / "vae.ckpt")
    assert run(["test", "--ckpt", str(ckpt)], tmp_path, LIGHTNING_CV_DATA=str(shared_data)) == 0, text_of(tmp_path)
    (results,) = tmp_path.glob("runs/vae/*/*/results.json")
    found = json.loads(results.read_text())
    assert found["test/elbo"] == pytest.approx(-141.76, abs=0.3)  # the z are drawn
    assert found["test/kl"] == pytest.approx(19.278, rel=1e-4)
    assert found["test/reconstruction_mean"] == pytest.approx(117.978, rel=1e-4)


@pytest.mark.data
def test_the_settings_are_those_of_the_net(shared_data, tmp_path):
    ckpt = imported(shared_data / MODELS / "VAE_dsprites.pt", tmp_path / "out.ckpt")
    content = load_checkpoint(ckpt)
    assert content["lightning_cv"]["settings"]["data"]["init_args"]["size"] == 64
    assert content["lightning_cv"]["label_map"]["names"] == ("square", "ellipse", "heart")
