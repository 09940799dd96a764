"""What the demo promises, measured: at most ten minutes."""

import json

import pytest
from forked import run_for


@pytest.mark.slow
def test_the_demo_reaches_its_figures(tmp_path):
    assert run_for(3000, ["demo"], tmp_path) == 0, (tmp_path / "output.txt").read_text()[-2000:]
    results = json.loads((tmp_path / "runs/demo/results.json").read_text())
    assert results["seconds"] <= 600
    assert results["detection"]["map_50"] >= 0.72
    assert results["segmentation"]["miou"] >= 0.70
    for seed in (0, 1):
        rows = sorted((row for row in results["vae"] if row["seed"] == seed), key=lambda row: row["beta"])
        assert [row["beta"] for row in rows] == [1, 4, 16]
        assert rows[0]["kl"] > rows[1]["kl"] > rows[2]["kl"]
        assert rows[0]["reconstruction"] < rows[1]["reconstruction"] < rows[2]["reconstruction"]
