"""Trained models of disentangling-vae on drawn dSprites, beside figures measured by other code."""

import pytest
import torch
from identity_factors import seeded

from lightning_cv.datamodules import DSpritesDataModule
from lightning_cv.metrics.disentanglement.codes import Codes
from lightning_cv.metrics.disentanglement.scores import score
from lightning_cv.models import ConvVAE
from lightning_cv.tools.import_disvae import read

# The reference's table has a fourth row, btcvae (beta 6.4): MIG .133 (.094 .464 .029 .076 .001), modularity .844, SAP
# .038, 5 active. Its weights are not among the models at hand, nor are those of the large study, so that row and the
# published violins stay untested. The table's FactorVAE and BetaVAE
# columns are of far fewer votes than ours and its DCI of another forest, so they are not compared either.
MEASURED = {  # 10,000 and 5,000 images, means; MIG of shape, scale, orientation, x, y; another draw of the images
    "VAE_dsprites": {"mig_dlib": 0.102, "modularity": 0.848, "sap": 0.066,
                     "factors": (0.066, 0.334, 0.002, 0.024, 0.085), "active": list(range(10))},
    "betaH_dsprites": {"mig_dlib": 0.125, "modularity": 0.841, "sap": 0.082,
                       "factors": (0.020, 0.531, 0.005, 0.054, 0.014), "active": list(range(10))},
    "betaB_dsprites": {"mig_dlib": 0.285, "modularity": 0.853, "sap": 0.034,
                       "factors": (0.074, 0.321, 0.071, 0.479, 0.479), "active": [4, 5, 6, 7, 9]},
}  # fmt: skip


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    data = DSpritesDataModule(str(tmp_path_factory.mktemp("root")))
    data.prepare_data()
    return data.test_set()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", MEASURED)
def test_figures_of_trained_models(shared_data, sprites, name):
    net = ConvVAE(64).eval().to(memory_format=torch.channels_last)  # three times as fast
    weights = read(shared_data / f"golden/disvae_models/{name}.pt").state_dict
    net.load_state_dict({key.removeprefix("net."): value for key, value in weights.items()})
    codes, expected = Codes(sprites, net.encode), MEASURED[name]
    assert codes.active(seeded()).nonzero()[0].tolist() == expected["active"]
    found = score("mig_dlib", codes, 0) | score("modularity", codes, 0) | score("sap", codes, 0)
    for key in ("mig_dlib", "modularity", "sap"):
        assert found[key] == pytest.approx(expected[key], abs=0.02), key
    gaps = [found[f"mig_dlib_{factor}"] for factor in sprites.factor_names]
    assert gaps == pytest.approx(expected["factors"], abs=0.02)
    assert codes.encoded < 16_000  # the three metrics share what they ask for
