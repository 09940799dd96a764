"""The table and the page of a sweep, from runs made up by hand."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_cv.tools.sweep_report import sweep_of, sweep_pictures, write_sweep_report
from lightning_cv.tools.sweep_table import (
    GROUPED,
    RANKED,
    Monitor,
    Run,
    differing_keys,
    evaluation_figures,
    importances,
    numeric_keys,
    short,
)

ELBO = Monitor("val/elbo", "max")


def run(name, settings, figures=None, state="finished", curves=None, previews=None, monitor=ELBO):
    return Run(Path("/runs") / name, name, state, (), settings, figures or {}, curves or {}, previews or {}, monitor)


def beta_runs(folder=None):
    """Two seeds of each of three betas."""
    found = []
    for beta in (1.0, 4.0, 16.0):
        for seed in (0, 1):
            previews = {}
            if folder is not None:
                previews["traversal"] = folder / f"{beta:g}-{seed}.png"
                Image.fromarray(np.full((40, 60, 3), int(10 * beta), np.uint8)).save(previews["traversal"])
            figures = {"val/elbo": -100 - beta + 0.1 * seed, "test/kl": 20 / beta, "test/reconstruction": 80 + beta}
            curves = {"val/elbo": [(10, -200.0), (20, figures["val/elbo"]), (30, float("nan"))]}
            settings = {
                "model.beta": beta,
                "seed_everything": seed,
                "data.size": 32,
                "trainer.logger.save_dir": str(seed),
            }
            found.append(run(f"b{beta:g}-s{seed}", settings, figures, curves=curves, previews=previews))
    return found


def test_only_what_differs_is_named_the_seed_last_and_places_not_at_all():
    assert differing_keys(beta_runs()) == ["model.beta", "seed_everything"]
    assert differing_keys(beta_runs()[:1]) == []
    other = run("x", {"model.beta": 1.0, "data.size": 64})
    assert differing_keys([beta_runs()[0], other]) == ["data.size", "seed_everything"]


def test_what_follows_from_another_class_is_left_out():
    first = run("a", {"model.net.class_path": "m.A", "model.net.width": 8, "model.net.depth": 3, "model.beta": 1.0})
    second = run("b", {"model.net.class_path": "m.B", "model.net.width": 16, "model.beta": 1.0, "model.warmup": 5})
    assert differing_keys([first, second]) == ["model.net.class_path", "model.net.width", "model.warmup"]


def test_what_differs_among_the_runs_of_one_class_is_named_though_another_class_has_no_such_setting():
    coder = {"model.net.class_path": "m.Coder", "model.net.upsample.class_path": "m.Nearest", "model.net.deep": 2}
    runs = [
        run("a", coder),
        run("b", coder | {"model.net.upsample.class_path": "m.Bilinear"}),
        run("c", {"model.net.class_path": "m.Dilated"}),
    ]
    keys = ["model.net.class_path", "model.net.upsample.class_path"]
    assert differing_keys(runs) == keys
    assert [short(key, keys) for key in keys] == ["net", "upsample"]


def test_a_sweep_over_classes_has_a_column_and_bars_of_what_each_took(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "lightning_cv.tools.sweep_report.bars", lambda panels: drawn.update(panels) or np.zeros((4, 4, 3), np.uint8)
    )
    runs = []
    for net, upsample, seed, miou, size in (
        ("Coder", "Nearest", 0, 0.5, 10), ("Coder", "Nearest", 1, 0.6, 10), ("Coder", "Bilinear", 0, 0.4, 10),
        ("Dilated", None, 0, 0.7, 30),
    ):  # fmt: skip
        settings = {"model.net.class_path": f"m.{net}", "seed_everything": seed}
        settings |= {"model.net.upsample.class_path": f"m.{upsample}"} if upsample else {}
        figures = {"val/miou": miou, "train/images_per_s": 100.0 + size, "parameters": float(size)}
        runs.append(run(f"{net}{upsample}{seed}", settings, figures, monitor=Monitor("val/miou", "max")))
    page = write_sweep_report(sweep_of(runs), tmp_path, "t").read_text()
    assert all(f">{name}</th>" in page for name in ("net", "upsample", "seed", "parameters", "images/s"))
    assert drawn == {
        "best val/miou": {"Dilated": [0.7], "Coder, Nearest": [0.6, 0.5], "Coder, Bilinear": [0.4]},
        "parameters": {"Dilated": [30.0], "Coder, Nearest": [10.0, 10.0], "Coder, Bilinear": [10.0]},
        "images/s": {"Dilated": [130.0], "Coder, Nearest": [110.0, 110.0], "Coder, Bilinear": [110.0]},
    }


def test_short_names_are_as_long_as_they_must_be():
    keys = ["model.net.width", "model.head.width", "model.beta"]
    assert [short(key, keys) for key in keys] == ["net.width", "head.width", "beta"]


def test_numbers_are_told_from_words_and_switches():
    runs = [run("a", {"x": 1, "y": "one", "z": True, "w": None}), run("b", {"x": 2.5, "y": "two", "z": False, "w": 3})]
    assert numeric_keys(runs, ["x", "y", "z", "w", "seed_everything"]) == ["x"]


def test_figures_come_from_the_test_where_all_finished_runs_have_one():
    tested = run("a", {}, {"val/miou": 0.4, "test/miou": 0.5, "train/loss": 1.0})
    untested, broken = run("b", {}, {"val/miou": 0.3}), run("c", {}, {}, state="stopped")
    assert evaluation_figures([tested, broken]) == {"miou": "test/miou"}
    assert evaluation_figures([tested, untested]) == {"miou": "val/miou"}


def test_the_best_value_is_over_all_validations_and_never_not_a_number():
    one = run("a", {}, {"val/elbo": -5.0}, curves={"val/elbo": [(1, -3.0), (2, float("nan")), (3, -5.0)]})
    assert one.best(ELBO) == -3.0
    assert one.best(Monitor("val/elbo", "min")) == -5.0
    assert one.best(Monitor("val/miou", "max")) is None
    assert run("b", {}, {"val/elbo": float("nan")}).best(ELBO) is None


def test_importance_is_one_for_the_only_cause_and_near_none_for_noise():
    generator = np.random.default_rng(0)
    settings = [{"cause": level, "noise": int(generator.integers(3))} for level in range(3) for _ in range(200)]
    found = importances(settings, [float(one["cause"] == 1) for one in settings], ["noise", "cause"])
    assert [(one.key, one.method) for one in found] == [("cause", GROUPED), ("noise", GROUPED)]
    assert found[0].share == 1.0
    assert found[1].share < 0.02


def test_importance_by_hand():
    # values 0, 2 | 4, 6: total 20, within 4; 1 - 4/20 * 3/2 = 0.7
    found = importances([{"x": "a"}, {"x": "a"}, {"x": "b"}, {"x": "b"}], [0.0, 2.0, 4.0, 6.0], ["x"])
    assert found[0].share == pytest.approx(0.7)


def test_settings_that_never_repeat_are_ranked_and_words_among_them_left_out():
    settings = [{"lr": 10.0**-i, "name": f"run{i}"} for i in range(5)]
    found = importances(settings, [1.0, 2.0, 4.0, 8.0, 16.0], ["lr", "name"])
    assert [(one.key, one.share, one.method) for one in found] == [("lr", pytest.approx(1.0), RANKED)]
    assert importances(settings, [1.0] * 5, ["lr"]) == []
    assert importances([], [], ["lr"]) == []


def test_the_page_holds_tables_and_pictures_and_the_csv_every_figure(tmp_path):
    lost = {"model.beta": 4.0, "seed_everything": 2, "data.size": 32}
    sweep = sweep_of([*beta_runs(tmp_path), run("lost", lost, state="stopped")])
    out = tmp_path / "out"
    out.mkdir()
    page = write_sweep_report(sweep, out, "a sweep").read_text()
    assert "7 runs: 6 finished, 1 stopped. They differ in beta, seed" in re.sub(r"base64,[^\"]*", "", page)
    assert "best val/elbo: beta 1, seed 1" in page
    assert "no results yet" in page
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    with (out / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["run"], row["model.beta"]) for row in rows][-1] == ("lost", "4.0")
    assert [float(row["best val/elbo"]) for row in rows[:2]] == [-101.0, -100.9]
    assert rows[-1]["test/kl"] == ""
    names = {path.stem for path in out.glob("*.png")}
    assert names == {"rate_distortion", "against_beta", "training", "parallel", "importance", "lined_up_traversal"}


def test_pictures_are_lined_up_by_the_swept_setting_one_seed_each(tmp_path):
    image = sweep_pictures(sweep_of(beta_runs(tmp_path)[::-1]))["lined_up_traversal"].image
    row = image[-30, :, 0]
    colours = [int(value) for value in dict.fromkeys(row.tolist()) if value != 255]
    assert colours == [10, 40, 160]


def test_a_detection_sweep_over_words_has_no_rate_but_bars_and_lines():
    runs = [
        run(f"{net}{seed}", {"model.net.class_path": f"m.{net}", "seed_everything": seed},
            {"val/map": value, "test/map": value}, monitor=Monitor("val/map", "max"))
        for net, seed, value in (("SSD", 0, 0.5), ("SSD", 1, 0.52), ("FCOS", 0, 0.6), ("FCOS", 1, 0.61))
    ]  # fmt: skip
    assert set(sweep_pictures(sweep_of(runs))) == {"bars", "parallel", "importance"}


@pytest.mark.parametrize("runs", [[run("a", {})], [run("a", {}, state="failed", monitor=None), run("b", {"x": 1})]])
def test_runs_without_figures_still_make_a_page(runs, tmp_path):
    assert "<h1>t</h1>" in write_sweep_report(sweep_of(runs), tmp_path, "t").read_text()
