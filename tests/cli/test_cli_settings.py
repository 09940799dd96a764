"""Settings flattened to the keys people type, and compared."""

from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import StochasticWeightAveraging

from lightning_cv.cli.settings import as_tree, differences, flatten, of_training, untrained, without_objects

SETTINGS = {
    "seed_everything": 1,
    "model": {
        "class_path": "p.VAEModule",
        "init_args": {"beta": 4.0, "net": {"class_path": "p.Net", "init_args": {"width": 6}}},
    },
    "trainer": {"callbacks": [{"class_path": "p.A", "init_args": {"n": 1}}, {"class_path": "p.A"}], "devices": [0, 1]},
}


def test_flat_keys_are_those_of_the_command_line() -> None:
    assert flatten(SETTINGS) == {
        "seed_everything": 1,
        "model.class_path": "p.VAEModule",
        "model.beta": 4.0,
        "model.net.class_path": "p.Net",
        "model.net.width": 6,
        "trainer.callbacks.0.A.class_path": "p.A",
        "trainer.callbacks.0.A.n": 1,
        "trainer.callbacks.1.A.class_path": "p.A",
        "trainer.devices": [0, 1],
    }


def test_differences_name_the_key_and_both_values() -> None:
    import copy

    changed = copy.deepcopy(SETTINGS)
    changed["model"]["init_args"]["beta"] = 8.0  # type: ignore[index]  # nested literals
    del changed["seed_everything"]
    assert [str(d) for d in differences(SETTINGS, changed)] == ["model.beta: 4.0 -> 8.0", "seed_everything: 1 -> None"]
    assert differences(SETTINGS, SETTINGS) == []


def test_a_tree_has_the_same_keys_one_level_a_dot() -> None:
    tree = as_tree(SETTINGS)
    assert tree["model"] == {
        "class_path": "p.VAEModule",
        "beta": 4.0,
        "net": {"class_path": "p.Net", "width": 6},
    }
    assert tree["trainer"]["callbacks"]["0"] == {"A": {"class_path": "p.A", "n": 1}}
    assert joined(tree) == flatten(SETTINGS)


def test_a_name_that_is_a_value_and_a_prefix_loses_neither() -> None:
    settings = {"model": {"lr_scales": {"net": 0.1, "net.backbone": 0.3, "net.backbone.stem": 0.5}, "beta": 1}}
    assert joined(as_tree(settings)) == flatten(settings)


def test_defaults_that_are_objects_are_left_out() -> None:
    """The words are those of jsonargparse, which a run with Lightning's SWA, whose default is a device, meets."""
    parser = ArgumentParser()
    parser.add_class_arguments(StochasticWeightAveraging, "swa")
    dumped = yaml.safe_load(parser.dump(parser.parse_args(["--swa.swa_lrs=0.1"])))
    assert "device" in dumped["swa"]
    kept = without_objects({"callbacks": [dumped["swa"]]})["callbacks"][0]
    assert kept == {key: value for key, value in dumped["swa"].items() if key != "device"}


def joined(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The names of a tree as W&B shows them."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= joined(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def test_a_trained_net_needs_no_weights_to_begin_from_and_keeps_its_way_to_look():
    inference = {"class_path": "NetProduct", "init_args": {"weights": "second.ckpt"}}
    net = {"class_path": "DeconvNet", "init_args": {"num_classes": 2, "weights": "first.ckpt"}}
    block = {"init_args": {"net": net, "inference": inference, "losses": [{"weights": [1, 2]}]}}
    kept = untrained(block)["init_args"]
    assert kept["net"]["init_args"] == {"num_classes": 2, "weights": None}
    assert kept["inference"] == inference
    assert kept["losses"] == [{"weights": [1, 2]}]  # of a loss: numbers, no path
    assert "inference" not in of_training(block)["init_args"]
    assert of_training(block)["init_args"]["net"] == kept["net"]
