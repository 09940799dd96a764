"""Finding experiment files, and the order of the files they stand on."""

from pathlib import Path

import pytest

from lightning_cv.cli.experiments import expand_configs, find_experiment, with_bases
from lightning_cv.errors import UserError


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_bases_come_before_their_file_depth_first_and_once(tmp_path: Path) -> None:
    write(tmp_path, "_base/root.yaml", "a: 1")
    write(tmp_path, "_base/left.yaml", "base: [root.yaml]")
    write(tmp_path, "_base/right.yaml", "base: [root.yaml]")
    top = write(tmp_path, "x/top.yaml", "base: [../_base/left.yaml, ../_base/right.yaml]")
    assert [path.name for path in with_bases(top)] == ["root.yaml", "left.yaml", "right.yaml", "top.yaml"]


def test_a_file_that_includes_itself_is_refused_with_the_chain(tmp_path: Path) -> None:
    write(tmp_path, "b.yaml", "base: [a.yaml]")
    a = write(tmp_path, "a.yaml", "base: [b.yaml]")
    with pytest.raises(UserError, match=r"a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        with_bases(a)


def test_a_missing_base_names_who_asked_for_it(tmp_path: Path) -> None:
    a = write(tmp_path, "a.yaml", "base: [gone.yaml]")
    with pytest.raises(UserError, match=r"a\.yaml: base: no file .*gone\.yaml"):
        with_bases(a)


@pytest.mark.parametrize(
    ("text", "message"),
    [("base: x.yaml", "must be a list"), ("- 1", "mapping"), ("a: [1", r"a\.yaml, line"), ("a: b: c", "line 1")],
)
def test_malformed_files_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    a = write(tmp_path, "a.yaml", text)
    with pytest.raises(UserError, match=message):
        with_bases(a)


def test_configs_are_replaced_by_what_they_stand_on_and_the_rest_is_kept(tmp_path: Path) -> None:
    base = write(tmp_path, "base.yaml", "a: 1")
    top = write(tmp_path, "top.yaml", "base: [base.yaml]")
    arguments, asked = expand_configs([f"--config={top}", "--model.beta", "4"])
    assert arguments == ["--config", str(base), "--config", str(top), "--model.beta", "4", "--base=[]"]
    assert asked == [top]


def test_short_names_find_the_shipped_experiments() -> None:
    assert find_experiment("vae/beta_vae_digits").name == "beta_vae_digits.yaml"


def test_a_mistyped_experiment_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"did you mean vae/beta_vae_digits\?"):
        find_experiment("vae/beta_vae_digit")


def test_an_own_experiment_wins_over_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "experiments/vae/beta_vae_digits.yaml", "a: 1")
    assert find_experiment("vae/beta_vae_digits") == Path("experiments/vae/beta_vae_digits.yaml")


def test_a_config_without_a_value_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="needs the name of an experiment"):
        expand_configs(["--config"])
