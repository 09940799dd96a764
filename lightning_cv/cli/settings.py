"""Settings as plain nested dicts: flattened to the keys a sweep names, and compared."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning_cv.errors import UserError

Settings = dict[str, Any]  # what YAML holds: scalars, lists, mappings


class Difference(NamedTuple):
    """One setting that is not what it was."""

    key: str
    before: Any  # any value YAML can hold
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before!r} -> {self.now!r}"


def checkpoint_to_test(splits: Mapping[str, str]) -> str:
    """The checkpoint to test: the best one, or the last where validation looked at images that were trained on.

    >>> checkpoint_to_test({"train": "2007/trainval", "val": "val"})
    'last'
    >>> checkpoint_to_test({"train": "2012/train+sbd/val - 2012/val", "val": "val"})
    'best'
    """
    seen = _named(splits.get("train", ""))
    return "last" if any(_same(one, other) for one in _named(splits.get("val", "")) for other in seen) else "best"


def _named(splits: str) -> set[tuple[str, str]]:
    """Set and name of each split that `splits` joins, those left out by " - " not counted."""
    named = set()
    for part in filter(None, splits.partition(" - ")[0].split("+")):
        origin, _, name = part.strip().rpartition("/")
        named |= {(origin, each) for each in (("train", "val") if name == "trainval" else (name,))}
    return named


def _same(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two splits may hold the same pictures: without a set, a name is of the year that the data are of."""
    sets = {one[0], other[0]}
    return one[1] == other[1] and (len(sets) == 1 or ("" in sets and all(each.isdigit() for each in sets - {""})))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Settings:
    """Settings by dotted short key: `model.net.width`, the key that the command line, a sweep and W&B use.

    >>> flatten({"model": {"class_path": "a.VAEModule", "init_args": {"beta": 4.0}}})
    {'model.class_path': 'a.VAEModule', 'model.beta': 4.0}
    """
    flat: Settings = {}
    for name, value in settings.items():
        key = prefix if name == "init_args" else f"{prefix}.{name}".lstrip(".")
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, key)
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            flat |= flatten({_item_name(item, i): item for i, item in enumerate(value)}, key)
        else:
            flat[key] = value
    return flat


def as_tree(settings: Mapping[str, Any]) -> Settings:
    """The settings under the parts of their short keys, for a logger that joins nested names with dots, as W&B does.

    >>> as_tree({"model": {"class_path": "a.VAEModule", "init_args": {"beta": 4.0}}})
    {'model': {'class_path': 'a.VAEModule', 'beta': 4.0}}
    """
    tree: Settings = {}
    for key, value in flatten(settings).items():
        *names, last = key.split(".")
        place = tree
        while names and isinstance(place.setdefault(names[0], {}), dict):
            place = place[names.pop(0)]
        place[".".join([*names, last])] = value  # below a name that is a value itself, the rest stays one name
    return tree


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    """The settings that differ, by dotted short key; a key that only one side has is None on the other."""
    old, new = flatten(before), flatten(now)
    return [
        Difference(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def refuse_other_settings(asked: Settings, saved: Settings | None, ckpt: str, verb: str) -> None:
    """A checkpoint trained under other settings than those asked for would be evaluated or continued mislabelled."""
    if saved is None:
        return
    parts = ("model", "seed_everything", "data") if verb == "fit" else ("model",)
    before, now = ({part: settings.get(part) for part in parts} for settings in (saved, asked))
    changed = differences(before, now) if verb == "fit" else differences(of_training(before), of_training(now))
    if changed:
        listed = "\n".join(f"  {change}" for change in changed[:3])
        more = f"\n  and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(f"{ckpt} was trained under other settings than asked for:\n{listed}{more}")


def _item_name(item: Any, index: int) -> str:  # Any: an item of a YAML list
    class_path = item.get("class_path") if isinstance(item, Mapping) else None
    return f"{index}.{class_path.rpartition('.')[2]}" if isinstance(class_path, str) else str(index)


def untrained(block: Any) -> Any:  # Any: a YAML tree
    """The block without paths to pretrained weights of the net, which those of the checkpoint that is loaded replace.

    `inference` stays as it is: it may name a second net, whose weights no checkpoint of the first one holds.
    """
    if isinstance(block, dict):
        return {
            key: None
            if key == "weights" and isinstance(value, str)
            else value
            if key == "inference"
            else untrained(value)
            for key, value in block.items()
        }
    return [untrained(item) for item in block] if isinstance(block, list) else block


def forget_weights(block: Any) -> None:  # Any: parsed settings
    """`untrained`, of parsed settings and in place."""
    from jsonargparse import Namespace  # slow, and only a fit needs it

    entries = block if isinstance(block, dict) else vars(block) if isinstance(block, Namespace) else {}
    for key, value in entries.items():
        if key == "weights" and isinstance(value, str):
            entries[key] = None
        elif key != "inference":
            forget_weights(value)
    for item in block if isinstance(block, list) else ():
        forget_weights(item)


def of_training(block: Any) -> Any:  # Any: a YAML tree
    """The block without what does not touch a trained net: weights to begin from, and how it looks at images after."""
    if isinstance(block, dict):
        return {key: of_training(value) for key, value in untrained(block).items() if key != "inference"}
    return [of_training(item) for item in block] if isinstance(block, list) else block


def without_objects(block: Any) -> Any:  # Any: a YAML tree
    """The block without defaults that YAML cannot hold, such as a torch.device: left out, they are so again."""
    if isinstance(block, dict):
        return {key: without_objects(value) for key, value in block.items() if not _is_object(value)}
    return [without_objects(item) for item in block] if isinstance(block, list) else block


def _is_object(value: Any) -> bool:  # Any: a YAML value
    return isinstance(value, str) and value.startswith("Unable to serialize instance")  # jsonargparse's words
