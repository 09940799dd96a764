"""The demo from the command line: a page, its figures, and a second call that trains nothing again."""

import json

from forked import run


def test_the_demo_writes_its_page_and_goes_on_where_it_was(tmp_path):
    assert run(["demo", "--fast"], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    demo = tmp_path / "runs" / "demo"
    results = json.loads((demo / "results.json").read_text())
    assert [(row["beta"], row["seed"]) for row in results["vae"]] == [(b, s) for b in (1, 4, 16) for s in (0, 1)]
    assert results["vae"][0].keys() == {"beta", "seed", "elbo", "reconstruction", "kl", "active_units"}
    assert results["detection"].keys() == {"map_50", "map", "images_per_s"}
    assert results["segmentation"].keys() == {"miou", "images_per_s"}
    page = (demo / "report.html").read_text()
    for title in ("Rate and distortion", "Reconstructions, beta 16", "Latent traversal, beta 1", "Truth and pred"):
        assert title in page
    assert 'src="http' not in page
    assert "FCN, drawn scenes: mIoU" in (tmp_path / "output.txt").read_text()
    weights = {path: path.stat().st_mtime_ns for path in demo.rglob("*.ckpt")}
    assert len(weights) >= 8
    assert run(["demo", "--fast"], tmp_path) == 0, (tmp_path / "output.txt").read_text()
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*.ckpt")} == weights
