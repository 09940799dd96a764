"""Whether `fit` would take a command line: parsed, nothing built, nothing written."""

from lightning_cv.cli.experiments import expand_configs
from lightning_cv.cli.fit import ExperimentCLI
from lightning_cv.errors import UserError


class _ParsedOnly(ExperimentCLI):
    def before_instantiate_classes(self) -> None:
        """No run folder."""

    def instantiate_classes(self) -> None:
        """No data, model or trainer."""


def refusal(argv: list[str]) -> str | None:
    """What `fit` says to these arguments, or None if it takes them."""
    try:
        arguments, asked = expand_configs(argv)
        _ParsedOnly("fit", argv, arguments, asked[-1].stem if asked else "unnamed", None, None)
    except UserError as error:
        return str(error)
    return None
