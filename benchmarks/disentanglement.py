"""Seconds that each disentanglement metric takes on dSprites, all on the codes of one net that encodes an image once.

64 x 64, all five factors, counts of Locatello et al. 2019, without DCI by boosted trees. The net, untrained, is that of
Burgess et al. 2018: its weights have no part in the time. Metrics in front pay for the images that later ones share.
"""

import tempfile
import time

import torch

from lightning_cv.datamodules import DSpritesDataModule
from lightning_cv.metrics.disentanglement.codes import Codes
from lightning_cv.metrics.disentanglement.scores import SCORES, score
from lightning_cv.models import ConvVAE


def main() -> None:
    torch.manual_seed(0)
    net = ConvVAE(64).eval().to(memory_format=torch.channels_last)
    with tempfile.TemporaryDirectory() as root:
        data = DSpritesDataModule(root)
        data.prepare_data()
        codes, total = Codes(data.test_set(), net.encode), 0.0
        for name in SCORES:
            if name == "dci_gbt":
                continue
            encoded, begun = codes.encoded, time.perf_counter()
            score(name, codes, seed=0)
            seconds = time.perf_counter() - begun
            total += seconds
            print(f"{name:16} {seconds:6.1f} s, {codes.encoded - encoded:,} images encoded", flush=True)
    print(f"{'all':16} {total:6.1f} s")


if __name__ == "__main__":
    main()
