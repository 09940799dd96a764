"""`lightning-cv init DIR`: the experiments as files of one's own, to read and to change."""

import argparse
import shutil
from pathlib import Path

from lightning_cv.cli.experiments import shipped_experiments
from lightning_cv.errors import UserError


def main(argv: list[str]) -> int:
    """Copy the experiments to DIR/experiments; a file that is there already is never overwritten."""
    parser = argparse.ArgumentParser(
        prog="lightning-cv init",
        description="Copy the experiments to DIR/experiments. Files that are there already are kept as they are.",
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder of your project, made if it does not exist")
    target: Path = parser.parse_args(argv).dir / "experiments"
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file, not a folder")
    source = shipped_experiments()
    copied, kept = 0, 0
    for file in sorted(source.rglob("*.yaml")):
        place = target / file.relative_to(source)
        if place.exists():
            kept += 1
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        except OSError as error:
            raise UserError(f"cannot write {place}: {error.strerror}; choose another folder") from error
        copied += 1
    print(f"{copied} files copied to {target}" + (f", {kept} kept as they were" if kept else ""))
    print("next: lightning-cv fit --config experiments/vae/beta_vae_digits.yaml")
    return 0
