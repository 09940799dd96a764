"""The shipped sweep files: what W&B's agent would run by them is a fit that our command line accepts."""

from inspect import isclass
from itertools import product

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from lightning_cv.cli import main
from lightning_cv.cli.experiments import experiment_files, find_experiment, read_yaml, shipped_experiments, with_bases
from lightning_cv.cli.fit import launch
from lightning_cv.models.segmentation import upsamplers
from lightning_cv.models.segmentation.upsamplers import Upsampler

SWEEPS = sorted(shipped_experiments().glob("sweeps/*.yaml"))


def points(sweep):
    names = list(sweep["parameters"])
    values = product(*(sweep["parameters"][name]["values"] for name in names))
    return [dict(zip(names, point, strict=True)) for point in values]


def command_of(sweep, point):
    """What `wandb agent` starts: its macros replaced as `Agent._command_run` does."""
    lists = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
    lists |= {"program": [sweep["program"]]}
    command = []
    for word in create_sweep_command(list(sweep["command"])):
        command += lists[word[2:-1]] if word.startswith("${") else [word]
    return command


def settings_of(command, capsys):
    """The settings that a fit of this command line would have."""
    with pytest.raises(SystemExit) as ended:
        launch("fit", [*command[2:], "--print_config"])
    assert ended.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


BETA_SWEEPS = [path for path in SWEEPS if path.stem.startswith("beta")]
UPSAMPLERS = shipped_experiments() / "sweeps/upsamplers_drawn.yaml"


def test_there_are_the_beta_sweeps_of_three_data_sets():
    assert {path.stem for path in SWEEPS} >= {"beta_dsprites", "beta_mnist", "beta_celeba"}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_says_what_wandb_asks_for(path):
    sweep = load_sweep_config(str(path))
    assert sweep["method"] == "grid"
    metric = "val/elbo" if path in BETA_SWEEPS else "val/miou"
    assert sweep["metric"] == {"name": metric, "goal": "maximize"}
    assert sweep["name"] == path.stem
    loggers = [block.get("init_args", {}) for file in bases(sweep) for block in trainer(file).get("logger", [])]
    assert sweep["project"] in [arguments.get("project") for arguments in loggers]


def bases(sweep):
    return with_bases(find_experiment(sweep["command"][3]))


def trainer(file):
    return read_yaml(file).get("trainer") or {}


@pytest.mark.parametrize("path", BETA_SWEEPS, ids=lambda path: path.stem)
def test_a_beta_sweep_has_five_betas_and_three_seeds(path):
    expected = [{"model.beta": beta, "seed_everything": seed} for beta in (1, 2, 4, 8, 16) for seed in (0, 1, 2)]
    assert points(read_yaml(path)) == expected


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_agents_command_line_is_a_fit_with_the_points_values(path, capsys):
    sweep = read_yaml(path)
    for point in (points(sweep)[0], points(sweep)[-1]):
        command = command_of(sweep, point)
        assert command[:3] == ["lightning-cv", "fit", "--config"]
        settings = settings_of(command, capsys)
        assert settings["seed_everything"] == point["seed_everything"]
        if path in BETA_SWEEPS:
            assert settings["model"]["init_args"]["beta"] == point["model.beta"]


def test_the_sweep_of_upsamplers_has_every_one_and_the_dilated_net_three_seeds_each(capsys):
    sweep = read_yaml(UPSAMPLERS)
    assert len(points(sweep)) == 7 * 3
    found = []
    for point in points(sweep)[::3]:
        net = settings_of(command_of(sweep, point), capsys)["model"]["init_args"]["net"]
        upsample = net["init_args"].get("upsample", {"class_path": ""})
        found.append((net["class_path"].rpartition(".")[2], upsample["class_path"].rpartition(".")[2]))
        assert (net["init_args"]["width"], net["init_args"]["depth"]) == (16, 2 if upsample["class_path"] else 3)
    every = {one.__name__ for one in vars(upsamplers).values() if isclass(one) and issubclass(one, Upsampler)}
    assert set(found) == {("EncoderDecoder", name) for name in every - {"Upsampler"}} | {("DilatedNet", "")}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_misspelt_parameter_would_be_refused(path, capsys):
    command = command_of(read_yaml(path), {"model.beat": 4})
    assert main([*command[1:], "--print_config"]) == 2
    assert "beat" in capsys.readouterr().err


def test_sweeps_are_no_experiments_but_are_copied_by_init(tmp_path, capsys):
    assert not set(SWEEPS) & set(experiment_files(shipped_experiments()))
    assert main(["list"]) == 0
    assert "sweeps/" not in capsys.readouterr().out
    assert main(["init", str(tmp_path)]) == 0
    assert {path.name for path in (tmp_path / "experiments/sweeps").iterdir()} == {path.name for path in SWEEPS}
