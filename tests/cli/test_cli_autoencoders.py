"""`compress` and `generate` on barely trained nets: what they write, and what they refuse."""

import csv
import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from drawn_root import write_sprites
from PIL import Image
from scipy.special import expit, logit
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from lightning_cv.cli import main
from lightning_cv.cli.autoencoders import images_of
from lightning_cv.cli.fit import launch
from lightning_cv.cli.generate import _feature_net
from lightning_cv.contracts import Draw, Posterior
from lightning_cv.datamodules import DigitsDataModule, DSpritesDataModule
from lightning_cv.metrics.compression import eight_bits
from lightning_cv.tools.compress import Images, compare, print_comparison
from lightning_cv.tools.generate import Subject, examine

FEW = ["--images", "24", "--train-images", "60"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The nets are small: a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A variational and a deterministic autoencoder of digits, 16 x 16."""
    root = tmp_path_factory.mktemp("runs")
    options = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=4", "--trainer.accelerator=cpu"]
    options += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--target=null"]
    sizes = ["--data.size=16", "--model.net.image_size=16", "--model.net.latent_size=4", "--model.net.width=4"]
    runs = {
        kind: launch("fit", ["--config", f"vae/{name}", "--runs", str(root), *options, *sizes]).run_dir
        for kind, name in (("vae", "beta_vae_digits"), ("ae", "autoencoder_digits"))
    }
    return {kind: run / "checkpoints" / "last.ckpt" for kind, run in runs.items()}


@pytest.mark.parametrize("kind", ["vae", "ae"])
def test_compress_writes_a_table_a_figure_and_the_same_as_json(kind, checkpoints, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["compress", "--ckpt", str(checkpoints[kind]), "--out", str(out), *FEW]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "compression.json").read_text())
    with (out / "compression.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["codec"] for row in rows] == [row["codec"] for row in printed["rows"]]
    codecs = {"net, 4 latents", "PCA, 4 components", "PCA, 16 components"}
    codecs |= {"JPEG, scans only", "JPEG, mosaic", "WebP, mosaic", "PNG, mosaic", "zlib"}
    assert {row["codec"] for row in rows} == codecs
    assert {row["data"] for row in rows} == {"Digits, test, 24 images"}
    assert all(float(row["bits_per_image"]) == pytest.approx(256 * float(row["bits_per_pixel"])) for row in rows)
    net = [float(row["bits_per_image"]) for row in rows if row["codec"].startswith("net")]
    assert net == sorted(net)  # the steps get finer
    assert Image.open(out / "compression.png").width > 400
    assert main(command) == 0  # once more into the folder of an earlier result
    assert "bits a pixel" in capsys.readouterr().out


def test_other_data_take_the_nets_size_and_get_a_panel_of_their_own(checkpoints, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("data:\n  class_path: lightning_cv.datamodules.DigitsDataModule\n  init_args: {size: 32}\n")
    out = tmp_path / "out"
    command = ["compress", "--ckpt", str(checkpoints["vae"]), "--out", str(out), *FEW, "--other", str(other)]
    assert main([*command, "--split", "val"]) == 0
    names = [row["data"] for row in json.loads((out / "compression.json").read_text())["rows"]]
    assert list(dict.fromkeys(names)) == ["Digits, val, 24 images", f"Digits ({other}), val, 24 images"]


class Identity(nn.Module):
    """Codes are the logits of the images' values: nothing is lost but by quantisation."""

    latent_size = 144

    def encode(self, images, /):
        return Posterior(images.clamp(0.01, 0.99).logit().flatten(1), None)

    def decode(self, latent, /):
        return latent.reshape(-1, 1, 12, 12)


def test_a_net_that_copies_loses_what_the_quantiser_takes_and_pays_for_values_it_does_not_know():
    generator = torch.Generator().manual_seed(0)
    soft = [eight_bits(0.5 + 0.05 * torch.randn(40, 1, 12, 12, generator=generator)) for _ in range(2)]
    hard = eight_bits((torch.rand(40, 1, 12, 12, generator=generator) > 0.5).float() * 0.9 + 0.05)
    rows = compare(
        Identity(), Images("train", soft[0]), [Images("same", soft[1]), Images("other", hard)], torch.device("cpu")
    )
    own = {row.data: row.figures for row in rows if row.codec.startswith("net") and row.setting == "step 1"}
    values, train = soft[1].double().numpy(), soft[0].double().numpy()
    step = np.sqrt(logit(train).var(0).mean())
    received = np.round(expit(np.round(logit(values) / step) * step) * 255) / 255
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(values, received, strict=True)]
    assert own["same"].psnr == pytest.approx(np.mean(expected), abs=0.01)
    assert own["other"].bits_per_pixel > 3 * own["same"].bits_per_pixel  # values that no table knows
    print_comparison(rows)


def test_generate_compares_nets_and_names_the_features(checkpoints, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["generate", "--ckpt", str(checkpoints["ae"]), str(checkpoints["vae"]), "--out", str(out), *FEW]
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((out / "generation.json").read_text())
    assert [model["variational"] for model in content["models"]] == [False, True]
    assert [model["name"] for model in content["models"]] == ["ConvAutoencoder", "ConvVAE, beta 1"]
    sources = ("prior", "gaussian", "gmm10", "reconstruction", "train")
    for model in content["models"]:
        assert {key for key in model if key.startswith("fid_")} == {f"fid_cnn_digits/{source}" for source in sources}
    assert content["models"][0]["fid_cnn_digits/train"] == content["models"][1]["fid_cnn_digits/train"]
    assert 0 <= content["features_accuracy"]["cnn_digits"] <= 1
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {"generation.png"} | {
        f"{number}-{name}.png" for number in (1, 2) for name in ("prior", "gaussian", "gmm10", "codes")
    }


def test_generate_takes_names_and_no_distances(checkpoints, tmp_path, capsys):
    command = ["generate", "--ckpt", str(checkpoints["vae"]), "--out", str(tmp_path / "out"), *FEW, "--names", "mine"]
    assert main([*command, "--no-fid"]) == 0
    shown = capsys.readouterr().out
    assert "mine" in shown
    assert "fid" not in shown
    assert main([*command, "--features", "torch.nn.Flatten"]) == 0
    assert "fid_Flatten/prior" in capsys.readouterr().out


def test_sorted_data_are_looked_at_across_all_classes(tmp_path):
    write_sprites(tmp_path)
    module = DSpritesDataModule(str(tmp_path), size=32)
    assert module.split("train")[[Draw(0, 0), Draw(0, 9999)]]["labels"].tolist() == [0, 0]
    _, labels = images_of(module, "train", 900)
    assert (torch.bincount(labels) - 300).abs().max() < 60  # 4 standard deviations
    assert (torch.bincount(labels[:90]) - 30).abs().max() < 18  # any first part, as the Fréchet distances take it
    assert torch.equal(labels, images_of(module, "train", 900)[1])


def test_all_images_are_looked_at_once_where_there_are_no_more(tmp_path):
    module = DigitsDataModule(size=8)
    images, labels = images_of(module, "val", 10_000)
    whole = module.split("val")
    assert sorted(map(float, images.sum((1, 2, 3)))) == sorted(map(float, whole.images.sum((1, 2, 3))))
    assert torch.equal(torch.bincount(labels), torch.bincount(whole.labels))


def test_training_images_of_one_class_are_said_to_be_the_reason_for_no_distances(capsys):
    options = Namespace(no_fid=False, features=None, seed=0)
    assert _feature_net(options, "celeba", torch.zeros(1200, 1, 8, 8), torch.zeros(1200)) == (None, "")
    assert "the 1,200 training images of celeba are of one class" in capsys.readouterr().err


class Far(nn.Module):
    """Codes far away from the prior: decoding is exact there, black elsewhere."""

    latent_size = 2

    def encode(self, images, /):
        return Posterior(100 + 10 * images[:, 0, 0, :2], None)

    def decode(self, latent, /):
        return torch.where(latent.min(dim=1).values > 50, 5.0, -5.0).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_a_decoder_that_has_never_seen_the_prior_is_found_out():
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 2
    outcome = examine(Subject("far", Far(), torch.device("cpu"), images, images, labels, ("a", "b"), None, ""))
    assert outcome.code_figures.holes == 1.0
    assert outcome.code_figures.unreached == 1.0
    assert float(outcome.samples["prior"].max()) < 0.01
    assert float(outcome.samples["gaussian"].min()) > 0.99
    assert float(outcome.samples["gmm10"].min()) > 0.99
    assert outcome.fid == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compress", "--images", "0"], "at least 1 image"),
        (["compress", "--other", "nothing_of_that_name"], "no experiment file nothing_of_that_name"),
        (["compress", "--other", "_base/vae"], "--other _base/vae: the file has no data block"),
        (["generate", "--images", "2"], "8 images and training images at least"),
        (["generate", "--names", "a", "b"], "2 names for 1 checkpoints"),
        (["generate", "--features", "torch.nn.NoSuch"], "--features torch.nn.NoSuch"),
        (["generate", "--features", "builtins.dict"], "makes a dict, no torch module"),
        (["generate", "--train-images", "8", "--device", "nowhere"], "--device nowhere: not usable"),
    ],
)
def test_slips_are_told_with_status_2(arguments, message, checkpoints, tmp_path, capsys):
    verb, *options = arguments
    assert main([verb, "--ckpt", str(checkpoints["vae"]), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_folders_of_others_and_other_kinds_of_nets_are_refused(checkpoints, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("not yours")
    for verb in ("compress", "generate"):
        assert main([verb, "--ckpt", str(checkpoints["vae"]), "--out", str(tmp_path)]) == 2
        assert "holds files that are no earlier result" in capsys.readouterr().err
        assert main([verb, "--ckpt", str(tmp_path / "mine.txt"), "--out", str(tmp_path / "new")]) == 2
        assert "mine.txt" in capsys.readouterr().err
