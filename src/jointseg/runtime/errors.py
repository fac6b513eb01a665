"""The errors that a job tells in one sentence."""


class DataError(ValueError):
    """Bad input, told in one sentence: the thing, its value, what was expected and the remedy."""


class TransientError(DataError):
    """A server that gave no answer: the same job, started again later, may get one."""
