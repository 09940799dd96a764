"""`lightning-cv generate`: what autoencoders draw from random codes, side by side."""

import argparse
import json
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_cv.errors import UserError

if TYPE_CHECKING:  # `--help` shall not wait for them
    from torch import Tensor, nn

    from lightning_cv.cli.autoencoders import AutoencoderModel


def main(argv: list[str]) -> int:
    """Examine each checkpoint, print the table, write it and the pictures; the exit status."""
    options = _parser().parse_args(argv)
    if options.images < 8 or options.train_images < 8:
        raise UserError(f"8 images and training images at least, got {options.images} and {options.train_images}")
    if options.names and len(options.names) != len(options.ckpt):
        raise UserError(f"--names: {len(options.names)} names for {len(options.ckpt)} checkpoints")
    from lightning_cv.cli.autoencoders import MARK, autoencoder_of, images_of, result_folder
    from lightning_cv.metrics.fid import FeatureNet
    from lightning_cv.tools.generate import Subject, as_json, examine, print_outcomes, write_outcomes

    out = result_folder(options.out)
    models = [autoencoder_of(ckpt, options.device, options.root) for ckpt in options.ckpt]
    names = options.names or _names(models, options.ckpt)
    nets: dict[tuple[Any, ...], tuple[nn.Module | None, str]] = {}
    accuracies: dict[str, float] = {}
    outcomes = []
    for name, model in zip(names, models, strict=True):
        train, classes = images_of(model.datamodule, "train", options.train_images)
        images, labels = images_of(model.datamodule, options.split, options.images)
        key = (model.data_name, *images.shape[1:])
        if key not in nets:  # one net a kind of images: only its own figures compare
            nets[key] = net, net_name = _feature_net(options, model.data_name.lower(), train, classes)
            accuracies |= {net_name: net.accuracy(images, labels)} if isinstance(net, FeatureNet) else {}
        subject = Subject(
            name,
            model.net,
            model.device,
            train,
            images,
            labels,
            model.datamodule.class_names,
            *nets[key],
            model.picture,
        )
        outcomes.append(examine(subject, options.seed))
    about = MARK | {"ckpt": [str(ckpt) for ckpt in options.ckpt], "split": options.split, "seed": options.seed}
    about |= {"features_accuracy": accuracies}
    write_outcomes(outcomes, about, out)
    if options.json:
        print(json.dumps(as_json(outcomes, about), indent=1))
    else:
        print_outcomes(outcomes)
        for net_name, accuracy in accuracies.items():
            print(f"{net_name}: a small classifier fitted on the training images, {accuracy:.1%} of the others right")
        print(f"-> {out}/generation.png, .csv, .json")
    return 0


def _names(models: "list[AutoencoderModel]", ckpts: list[Path]) -> list[str]:
    """The net's class with beta, and the run's folder where two would be called the same."""
    names = []
    for model in models:
        beta = (model.settings["model"].get("init_args") or {}).get("beta")
        names.append(type(model.net).__name__ + (f", beta {beta:g}" if isinstance(beta, int | float) else ""))
    counts = Counter(names)
    runs = [ckpt.resolve().parent.parent.name for ckpt in ckpts]
    return [name if counts[name] == 1 else f"{name} ({run})" for name, run in zip(names, runs, strict=True)]


def _feature_net(
    options: argparse.Namespace, data: str, images: "Tensor", labels: "Tensor"
) -> "tuple[nn.Module | None, str]":
    """The net of Fréchet distances and its name in the figures' keys; none where there is nothing to fit it on."""
    if options.no_fid:
        return None, ""
    if options.features:
        return _named_net(options.features), options.features.rpartition(".")[2]
    if len(set(labels.tolist())) < 2:
        why = (
            f"the {len(labels):,} training images of {data} are of one class, which fits no net; name one by --features"
        )
        print(f"no Fréchet distances: {why}", file=sys.stderr)
        return None, ""
    from lightning_cv.metrics.fid import fit_feature_net

    name = f"cnn_{data}"
    return fit_feature_net(images, labels, name, options.seed), name


def _named_net(path: str) -> "nn.Module":
    """The module that a class or function of a dotted path makes when it is called without arguments."""
    from torch import nn

    place, _, name = path.rpartition(".")
    try:
        made = getattr(import_module(place), name)()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UserError(f"--features {path}: {error}") from error
    if not isinstance(made, nn.Module):
        raise UserError(f"--features {path} makes a {type(made).__name__}, no torch module")
    return made.eval()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lightning-cv generate",
        description="Decode random codes: from the prior N(0, 1), and from a Gaussian and a mixture fitted to the "
        "training codes. Says how much of the prior lies where no image's code is, how evenly interpolations change, "
        "and how far samples are from real images (Fréchet distance in a classifier's features).",
    )
    parser.add_argument(
        "--ckpt", type=Path, required=True, nargs="+", help="checkpoints of autoencoders, a column each"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, made if it does not exist")
    parser.add_argument("--names", nargs="+", help="what to call them (default: the net's class and beta)")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="the real images (default test)")
    parser.add_argument(
        "--images", type=int, default=2000, metavar="N", help="N of them, drawn by a fixed seed (default 2000)"
    )
    parser.add_argument(
        "--train-images", type=int, default=10000, metavar="N", help="for fits, drawn likewise (default 10000)"
    )
    parser.add_argument(
        "--features", metavar="PATH",
        help="dotted path of a class or function that makes the net of the Fréchet distance (default: a small "
        "classifier that is fitted on the training images)",
    )  # fmt: skip
    parser.add_argument("--no-fid", action="store_true", help="no Fréchet distances")
    parser.add_argument("--seed", type=int, default=0, help="of the draws and of the classifier (default 0)")
    parser.add_argument("--root", help="data root, where it is not that of the checkpoints")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default auto)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser
