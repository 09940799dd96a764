"""What a data set says when its files are not what they should be."""


class DataError(ValueError):
    """Files that cannot be used: missing, damaged or contradicting each other. The message names the file."""
