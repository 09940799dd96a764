"""Random and Bayesian search and early stopping, without a launcher and with one."""

import json
import logging
import math
from pathlib import Path
from statistics import fmean

import pytest
import yaml

from lightning_cv.errors import UserError
from lightning_cv.sweeps.parameters import parameters_of
from lightning_cv.sweeps.search import Search, value_of
from lightning_cv.sweeps.spec import read_sweep

pytest.importorskip("optuna")
from lightning_cv.sweeps.journal import JournalLock  # needs Optuna

LINE = {"x": {"min": -4.0, "max": 4.0}}


@pytest.fixture
def search_of(tmp_path):
    def make(parameters, method="random", seed=0, journal="journal", **more):
        metric = {"name": "val/x", "goal": "minimize"}
        content = {"program": "p", "method": method, "parameters": parameters, "metric": metric, "run_cap": 10, **more}
        (tmp_path / "s.yaml").write_text(yaml.safe_dump(content))
        return Search(read_sweep(tmp_path / "s.yaml"), tmp_path / journal, seed)

    return make


def new_to(seen):
    def is_new(trial):
        return not (trial in seen or seen.add(trial))

    return is_new


def parameter(**block):
    (found,) = parameters_of({"a": block}, "f")
    return found


def test_random_points_follow_from_the_seed_and_the_number_alone(search_of):
    forth = [search_of(LINE, journal="a").ask(number, new_to(set())).point["x"] for number in range(6)]
    back = [search_of(LINE, journal="b").ask(number, new_to(set())).point["x"] for number in reversed(range(6))]
    assert forth == back[::-1]
    assert len(set(forth)) == 6
    assert all(-4 <= x <= 4 for x in forth)
    assert search_of(LINE, seed=1, journal="c").ask(0, new_to(set())).point["x"] not in forth


def test_no_point_is_drawn_twice_and_a_space_ends(search_of):
    search, seen = search_of({"a": {"values": ["p", "q"]}, "b": {"min": 1, "max": 3}}), set()
    drawn = [search.ask(number, new_to(seen)) for number in range(8)]
    points = [tuple(one.point.values()) for one in drawn if one]
    assert sorted(points) == [(a, b) for a in "pq" for b in (1, 2, 3)]
    assert drawn[6:] == [None, None]


def test_a_trial_that_asks_again_gets_what_it_had(search_of):
    first = search_of(LINE).ask(0, new_to(set()))
    assert search_of(LINE).ask(0, lambda _: False) == first


def test_a_bayesian_search_of_a_parabola_ends_near_its_foot(search_of):
    search = search_of(LINE, "bayes")
    tried = []
    for number in range(30):
        drawn = search.ask(number, lambda _: True)
        x = drawn.point["x"]
        search.tell(number, drawn.asked, (x - 2) ** 2, "finished")
        tried.append(abs(x - 2))
    assert fmean(tried[10:]) < 2.5 / 2, "half of what points drawn blindly have: (2 ** 2 / 2 + 6 ** 2 / 2) / 8"
    assert min(tried) < 0.2


def test_a_search_learns_from_a_trial_that_failed_and_finished_when_it_was_asked_for_again(search_of):
    search = search_of(LINE, "bayes")
    drawn = search.ask(0, lambda _: True)
    search.tell(0, drawn.asked, None, "failed")
    search.tell(0, drawn.asked, 0.25, "finished")
    again = search_of(LINE, "bayes")
    assert (again._study.best_value, again._study.best_params) == (0.25, drawn.point)
    assert again.ask(1, lambda _: True).point != drawn.point


def test_successive_halving_stops_the_worse_two_thirds_when_they_have_values_enough(search_of):
    search = search_of({"a": {"values": [1, 2, 3]}}, "grid", early_terminate={"type": "hyperband", "min_iter": 2})
    asked = [search.follow(number) for number in range(3)]
    assert not search.is_hopeless(0, asked[0], [1.0, 1.0])
    assert not search.is_hopeless(1, asked[1], [5.0]), "too early to say"
    assert search.is_hopeless(1, asked[1], [5.0, 5.0])
    assert not search.is_hopeless(2, asked[2], [0.5, 0.5])
    assert search.follow(2) == asked[2]
    search.tell(1, asked[1], 5.0, "pruned")
    search.tell(1, asked[1], 4.0, "finished")  # told before: nothing happens


@pytest.mark.parametrize(
    ("block", "drawn", "expected"),
    [
        ({"value": 7}, None, 7),
        ({"values": ["p", [1], None]}, 1, [1]),
        ({"values": ["p", "q", "r"], "probabilities": [0.2, 0.5, 0.3]}, 0.1, "p"),
        ({"values": ["p", "q", "r"], "probabilities": [0.2, 0.5, 0.3]}, 0.2, "q"),
        ({"values": ["p", "q", "r"], "probabilities": [0.2, 0.5, 0.3]}, 1.0, "r"),
        ({"distribution": "q_uniform", "min": 0, "max": 9, "q": 4}, 5.9, 4),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.1}, 0.29, 0.3),
        ({"distribution": "log_uniform", "min": 0, "max": 1}, 1.0, math.e),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 1}, 1.0, 1 / math.e),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 99, "q": 8}, 63.0, 64),
        ({"distribution": "normal", "mu": 3, "sigma": 2}, 0.5, 3.0),
        ({"distribution": "normal", "mu": 3, "sigma": 2}, 0.8413447460685429, 5.0),  # one sigma above
        ({"distribution": "log_normal", "mu": 0, "sigma": 1}, 0.5, 1.0),
        ({"distribution": "q_normal", "mu": 0, "sigma": 1, "q": 1}, 0.8413447460685429, 1),
        ({"distribution": "beta", "a": 1, "b": 1}, 0.25, 0.25),
        ({"distribution": "beta", "a": 2, "b": 1}, 0.25, 0.5),  # its distribution function is x squared
    ],
    ids=str,
)
def test_values_of_every_distribution(block, drawn, expected):
    assert value_of(parameter(**block), drawn) == pytest.approx(expected)


def test_a_damaged_journal_is_named(search_of, tmp_path):
    search_of(LINE).ask(0, new_to(set()))
    journal = tmp_path / "journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(["{no json", *lines]) + "\n")
    with pytest.raises(UserError, match=r"the search's journal .*journal is damaged") as refused:
        search_of(LINE)
    assert "without that file the sweep goes on" in str(refused.value)


def test_a_journal_made_anew_takes_no_value_for_another_trials(search_of, tmp_path):
    asked = search_of(LINE).ask(0, new_to(set())).asked
    (tmp_path / "journal").unlink()
    search = search_of(LINE, early_terminate={"type": "hyperband", "min_iter": 1})
    other = search.ask(5, new_to(set())).asked
    assert other == asked, "numbers in the journal begin again"
    search.tell(0, asked, 1.0, "finished")
    assert not search.is_hopeless(0, asked, [9.0])
    (known,) = search._study.get_trials()
    assert (known.state.name, known.intermediate_values) == ("RUNNING", {}), "trial 5 is at work still"


def test_a_line_that_a_kill_or_a_full_disk_cut_is_no_damage(search_of, tmp_path):
    first, journal = search_of(LINE).ask(0, new_to(set())), tmp_path / "journal"
    whole = journal.read_text()
    journal.write_text(whole + '{"op_code":4,"worker')
    search = search_of(LINE)
    second = search.ask(1, new_to({"-"}))
    assert journal.read_text().startswith(whole + "{")
    again = search_of(LINE)
    assert [again.ask(number, lambda _: False) for number in (0, 1)] == [first, second]


def test_a_lock_whose_holder_died_is_taken_over_and_told(tmp_path, monkeypatch, caplog):
    """Also in a folder that was named from here, as all are by default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)
    journal = Path("runs/journal")
    journal.parent.mkdir()
    journal.touch()
    JournalLock(journal).acquire()
    other = JournalLock(journal)
    other.grace_period = 0.05
    assert other.acquire()
    assert "Forcibly releasing the lock file" in caplog.text
    other.release()
    assert not list(journal.parent.glob("*.lock*"))


def test_without_optuna_the_message_says_what_to_install(search_of, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"method: random needs Optuna: pip install 'lightning-cv\[sweeps\]'"):
        search_of(LINE)


def test_a_random_sweep_by_two_launchers_is_that_of_one(sweeping):
    points = []
    for folder, launchers in (("one", 1), ("two", 2)):
        sweeping.notes_file.unlink(missing_ok=True)
        sweeping.write({"x": {"min": 0.0, "max": 1.0}}, method="random", run_cap=6)
        at_work = [sweeping.start("s.yaml", "--folder", folder) for _ in range(launchers)]
        said = [one.communicate(timeout=100) for one in at_work]
        assert [one.returncode for one in at_work] == [0] * launchers, said
        points.append(sorted(one["argv"][0] for one in sweeping.notes()))
    assert points[0] == points[1]
    assert len(set(points[0])) == 6
    assert sweeping.run("s.yaml", "--folder", "one", "--count", "8").returncode == 0
    assert len(sweeping.notes()) == 8, "a sweep may be prolonged"


def test_a_hopeless_trial_is_stopped_and_counts_as_done(sweeping):
    """The good one has ended before anybody looked at it."""
    good, bad = json.dumps([1.0] * 3), json.dumps([9.0] * 400)
    sweeping.write(
        {"curve": {"values": [good, bad]}, "pause": {"value": 0.2}},
        metric={"name": "val/x", "goal": "minimize"}, early_terminate={"type": "hyperband", "min_iter": 2},
    )  # fmt: skip
    done = sweeping.run("s.yaml")
    assert done.returncode == 0, done.stderr
    assert sweeping.states() == ["finished", "pruned"]
    first, second = sweeping.status()["trials"]
    assert (first["best"], second["best"]) == (1.0, 9.0)
    assert 2 <= second["epoch"] < 400
    assert len(sweeping.notes("ends")) == 1
    assert sweeping.run("s.yaml").returncode == 0
    assert len(sweeping.notes()) == 2
