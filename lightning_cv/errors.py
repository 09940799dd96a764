"""The one exception that ends a command with a message instead of a traceback."""


class UserError(Exception):
    """Something the caller can put right. The message says which file, key or line; the command exits with status 2."""


class TrainingWarning(UserWarning):
    """Settings or results that are allowed but hardly meant: a schedule beyond the run's end, a collapsed posterior."""
