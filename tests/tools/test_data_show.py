import numpy as np
import pytest
from PIL import Image

from lightning_cv.cli import main
from lightning_cv.tools.data_show import PRESETS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    found = {}
    for layout in ("voc", "coco"):
        arguments = ["data", "draw", "--layout", layout, "--train", "6", "--val", "1", "--test", "1", "--size", "64"]
        assert main([*arguments, "--root", str(root)]) == 0
        found[layout] = next((root / "drawn").glob(f"{layout}*"))
    return found


@pytest.mark.parametrize("layout", ["voc", "coco"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_draws_a_picture(folders, tmp_path, preset, layout):
    out = tmp_path / "new" / "samples.png"
    options = ["--preset", preset, "--count", "3", "--size", "64", "--masks", "--out", str(out)]
    assert main(["data", "show", str(folders[layout]), *options]) == 0
    picture = np.array(Image.open(out))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100
    first = out.read_bytes()
    assert main(["data", "show", str(folders[layout]), *options]) == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--count", "0"], "--count must be at least 1"), (["--split", "dev"], "splits here are"), ([], "no folder")],
)
def test_slips_are_told_in_one_line(folders, tmp_path, capsys, options, message):
    root = folders["voc"] if options else tmp_path / "nowhere"
    assert main(["data", "show", str(root), "--layout", "voc", *options, "--out", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()
