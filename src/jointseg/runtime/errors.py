"""Errors that a job reports as one sentence, without a traceback."""


class DataError(ValueError):
    """Invalid input. The message names the thing, its value, what was expected and the remedy."""


class TransientError(DataError):
    """A server did not respond; the same job may succeed when it is rerun."""
