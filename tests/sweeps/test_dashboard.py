"""The workspace for comparing betas: one file, made of keys that runs log, and nothing sent where no server is."""

import importlib.util
import json
from pathlib import Path

from lightning_cv.cli import main
from lightning_cv.sweeps import dashboard

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "dashboards" / "compare_betas.json"


def test_the_committed_file_is_what_the_verb_makes(tmp_path, capsys):
    out = tmp_path / "new" / "workspace.json"
    assert main(["dashboard", "--out", str(out)]) == 0
    assert "not saved on a server" in capsys.readouterr().out
    assert out.read_text() == COMMITTED.read_text()
    assert [path.name for path in out.parent.iterdir()] == ["workspace.json"]


def test_every_panel_the_issue_of_comparing_betas_needs_is_there():
    view = dashboard.as_json(dashboard.compare_betas("us", "mnist"))
    assert (view["entity"], view["project"], view["displayName"]) == ("us", "mnist", "Compare betas")
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    panels = [panel for section in sections for panel in section["panels"]]
    scatter, parallel = panels[:2]
    assert (scatter["config"]["xAxis"], scatter["config"]["yAxis"]) == ("summary:val/kl", "summary:val/reconstruction")
    assert parallel["config"]["columns"][0] == {
        "accessor": "config:model.value.beta",
        "displayName": "beta",
        "log": True,
    }
    curves = [panel["config"] for panel in panels if panel["viewType"] == "Run History Line Plot"]
    assert {curve["xAxis"] for curve in curves} == {"trainer/global_step"}
    assert {curve["groupBy"] for curve in curves} == {"model.value.beta"}
    media = [panel["config"]["mediaKeys"] for panel in panels if panel["viewType"] == "Media Browser"]
    assert media == [["previews/traversal"], ["previews/reconstruction"]]
    assert json.dumps(panels[-1]).count("previews/latents") == 1
    assert len({panel["__id__"] for panel in panels}) == len(panels)


def test_without_a_server_nothing_is_saved(capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert main(["dashboard", "--entity", "us"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_the_missing_extra_is_named(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["dashboard", "--out", "x.json"]) == 2
    assert "pip install 'lightning-cv[dashboard]'" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["dashboard", "--out", str(tmp_path / "file" / "x.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err
