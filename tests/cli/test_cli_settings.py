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


def test_loggers_are_told_the_classes_and_the_code(tmp_path) -> None:
    from lightning.pytorch.loggers.logger import DummyLogger
    from oracles.toy_training import BOX_LABELS, ToyData, ToyTask, all_found, box_batch, toy_trainer

    from lightning_cv import __version__
    from lightning_cv.cli.fit import RunRecord

    told = {}

    class Told(DummyLogger):
        def log_hyperparams(self, settings):
            told.update(settings)

    trainer = toy_trainer(tmp_path, callbacks=[RunRecord({})], logger=Told())
    trainer.fit(ToyTask(all_found), datamodule=ToyData([box_batch(0)], BOX_LABELS))
    assert told["data.classes"] == ["disc", "star"]
    assert told["code.version"] == __version__
    assert set(told) == {"data.classes", "code.version", "code.commit"}
