"""Settings flattened to the keys people type, and compared."""

from lightning_cv.cli.settings import differences, flatten

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
