"""The one exception that ends a command with a message instead of a traceback."""


class UserError(Exception):
    """Something the caller can put right. The message says which file, key or line; the command exits with status 2."""
