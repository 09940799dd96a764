"""The one exception that ends a command with a message instead of a traceback, and what others mean."""


class UserError(Exception):
    """Something the caller can put right. The message says which file, key or line; the command exits with status 2."""


class TrainingWarning(UserWarning):
    """Settings or results that are allowed but hardly meant: a schedule beyond the run's end, a collapsed posterior."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine: torch has a class of its own for the first only."""
    names = {kind.__name__ for kind in type(error).__mro__}  # by name, for importing torch takes seconds
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )
