"""Trained VAEs of the public repository YannDubs/disentangling-vae, in the layers of `ConvVAE`.

Letters: L latents. Their net has the same layers under other names, and one layer of 2L units whose even rows are the
mean and whose odd rows are the log variance.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_cv.errors import UserError
from lightning_cv.models import ConvVAE
from lightning_cv.tools.imports import Imported, evaluation_settings

_OUTER = ("conv1", "conv2", "conv3", "conv_64")  # in the order of use; the last where images have 64 px
_INNER = ("convT_64", "convT1", "convT2", "convT3")
_ROOT = "${oc.env:LIGHTNING_CV_DATA,data}"
_DATA: dict[tuple[int, int], tuple[str, dict[str, Any], tuple[str, ...]]] = {
    (1, 32): ("MNISTDataModule", {"resize": "stretch", "eval_batch_size": 500}, tuple("0123456789")),
    (1, 64): ("DSpritesDataModule", {"eval_batch_size": 500}, ("square", "ellipse", "heart")),
    (3, 64): ("CelebADataModule", {"eval_batch_size": 250}, ("face",)),
}
"""Data module, its settings and classes by channels and side of the images: a file does not say what it is of."""


def read(file: Path) -> Imported:
    """The net of a file, with settings to test it on the data that images of its shape come from in that repository.

    Raises:
        UserError: the file is not of these nets.
    """
    theirs = _weights(file)
    ours = _renamed(theirs, file)
    channels, latents = theirs["encoder.conv1.weight"].shape[1], theirs["decoder.lin1.weight"].shape[1]
    side = 64 if "encoder.conv_64.weight" in theirs else 32
    if (channels, side) not in _DATA:
        raise UserError(f"{file}: no data module here has images of {channels} channels and {side} px")
    net = ConvVAE(side, channels, latents)
    state = net.state_dict()
    wrong = sorted(name for name in state if name not in ours or ours[name].shape != state[name].shape)
    if wrong:
        raise UserError(f"{file} is not of the layers of {channels} x {side} x {side} px: {wrong[0]} does not fit")
    parameters = sum(tensor.numel() for tensor in ours.values())
    data = _DATA[channels, side][0].removesuffix("DataModule")
    return Imported(
        task="vae",
        settings=_settings(channels, side, latents),
        state_dict={f"net.{name}": ours[name] for name in state},
        label_map=_label_map(channels, side),
        summary=f"VAE of {parameters:,} parameters, images {channels} x {side} x {side}, {latents} latents; "
        f"data guessed from that shape: {data}",
    )


def _weights(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises a dozen types, from EOFError to UnpicklingError
        raise UserError(f"{file} holds no weights that load: {str(error).splitlines()[0][:200]}") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{file} holds {type(content).__name__}, not the weights of a net by name")
    return content


def _renamed(theirs: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Weights under our names."""
    encoder = [name for name in _OUTER if f"encoder.{name}.weight" in theirs]
    decoder = [name for name in _INNER if f"decoder.{name}.weight" in theirs]
    places = {f"encoder.{name}": f"encoder.convolutions.{2 * i}" for i, name in enumerate(encoder)}
    places |= {"encoder.lin1": "encoder.linear.0", "encoder.lin2": "encoder.linear.2"}
    places |= {"decoder.lin1": "decoder.from_code", "decoder.lin2": "decoder.linear.1"}
    places |= {"decoder.lin3": "decoder.linear.3"}
    places |= {f"decoder.{name}": f"decoder.convolutions.{2 * i + 1}" for i, name in enumerate(decoder)}
    heads = "encoder.mu_logvar_gen"
    known = {f"{name}.{part}" for name in (*places, heads) for part in ("weight", "bias")}
    if differ := sorted(known ^ theirs.keys()):
        what = "lacks" if differ[0] in known else "also holds"
        raise UserError(f"{file} is no trained VAE of disentangling-vae: it {what} {differ[0]}")
    ours = {f"{new}.{part}": theirs[f"{old}.{part}"] for old, new in places.items() for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        ours[f"mean.{part}"], ours[f"log_var.{part}"] = (theirs[f"{heads}.{part}"][row::2].clone() for row in (0, 1))
    return ours


def _label_map(channels: int, side: int) -> dict[str, Any]:
    kind, _, names = _DATA[channels, side]
    first = 1 if kind == "DSpritesDataModule" else 0
    return {"names": names, "first": 0, "dataset_ids": tuple(range(first, first + len(names)))}


def _settings(channels: int, side: int, latents: int) -> dict[str, Any]:
    """What `lightning-cv test` runs where no experiment is named."""
    kind, options, _ = _DATA[channels, side]
    callbacks = ("LikelihoodMetrics", "ReconstructionPreview", "LatentTraversal", "ProgressLines")
    size = {"image_size": side, "image_channels": channels, "latent_size": latents, "width": 32, "hidden": 256}
    return evaluation_settings(
        "VAEModule",
        net={"class_path": "lightning_cv.models.ConvVAE", "init_args": size},
        optimizer={"class_path": "torch.optim.Adam", "init_args": {"lr": 5.0e-4}},
        data={
            "class_path": f"lightning_cv.datamodules.{kind}",
            "init_args": {"root": _ROOT, "size": side, **options},
        },
        callbacks={name: {} for name in callbacks},
    )
