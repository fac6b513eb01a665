"""Learning-rate schedules."""

import math

from jointseg.runtime.errors import DataError

SCHEDULES = ("cosine", "poly", "halving", "constant")
MILESTONES = (0.5, 0.75, 0.875)  # ESRGAN's fixed milestones, in proportion to the number of steps


def learning_rate(step: int, steps: int, base: float, warmup: int = 0, schedule: str = "cosine") -> float:
    """Return the learning rate of a step, 0 to steps - 1.

    The rate rises linearly over `warmup` steps. Then it follows `schedule`: "cosine" to zero, "poly" (power 0.9) to
    zero, "halving" (at MILESTONES) or "constant". Raises DataError if the schedule is unknown.
    """
    if step < warmup:
        return base * (step + 1) / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    if schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "poly":
        return base * (1 - done) ** 0.9
    if schedule == "halving":
        return base * 0.5 ** sum(done >= milestone for milestone in MILESTONES)
    if schedule == "constant":
        return base
    raise DataError(f"learning-rate schedule '{schedule}' is unknown; choose {', '.join(SCHEDULES)}")
