"""The one error that bad input raises."""


class DataError(ValueError):
    """Bad input, told in one sentence: the thing, its value, what was expected and the remedy."""
