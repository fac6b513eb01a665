"""Early warnings: images whose normalisation does not fit them, and a discriminator that has won outright."""

import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SAMPLES = 64  # of the first batches, from which mean and deviation are taken
LARGEST_MEAN, DEVIATIONS = 1.0, (0.3, 3.0)  # what is further from 0 and 1 is warned of
COLLAPSED_ACCURACY = 0.98  # a discriminator that is right this often has nothing left to teach the generator
ACCURACY = "accuracy_"


class NormalisationCheck:
    """Mean and deviation of the first samples of a kind of image, by band; a warning where they are far from 0 and 1.

    Args:
        what: the images are, for the message.
    """

    def __init__(self, what: str) -> None:
        self.what, self.samples = what, 0
        self._sums = torch.zeros(3, 1, dtype=torch.float64)

    def see(self, images: Tensor) -> None:
        """Takes normalised images [n, bands, h, w], 0 in every band where unknown; the rest is ignored once told."""
        if self.samples >= SAMPLES:
            return
        self.samples += len(images)
        known = (images != 0).any(1)
        values = images.transpose(0, 1)[:, known].double()
        number = torch.full((len(values),), values.shape[1], dtype=torch.float64)
        self._sums = self._sums + torch.stack([number, values.sum(1), values.square().sum(1)])
        if self.samples >= SAMPLES:
            self._tell()

    def _tell(self) -> None:
        number, total, squares = self._sums
        mean = total / number.clamp(min=1)
        deviation = (squares / number.clamp(min=1) - mean.square()).clamp(min=0).sqrt()
        for band, (at, around) in enumerate(zip(mean.tolist(), deviation.tolist()), start=1):
            if abs(at) > LARGEST_MEAN or not DEVIATIONS[0] <= around <= DEVIATIONS[1]:
                log.warning(
                    "band %d of the %s has mean %.2f and deviation %.2f after normalisation over the first %d samples, "
                    "expected about 0 and 1: statistics.json does not fit these images; check that they are reflectance "
                    "x 10000 with the bands in order, and make the dataset again",
                    *(band, self.what, at, around, self.samples),
                )


class DiscriminatorCheck:
    """Warns, once each, of a discriminator whose mean accuracy between two validations says that it has won."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def see(self, step: int, figures: dict[str, float]) -> None:
        """Takes the figures of a validation; those called accuracy_SCALE count."""
        for name, value in figures.items():
            if name.startswith(ACCURACY) and value > COLLAPSED_ACCURACY and name not in self._told:
                self._told.add(name)
                log.warning(
                    "step %d: the %s discriminator is right on %.1f %% of pixels: the generator learns nothing from it "
                    "any more; lower discriminator_learning_rate or raise the adversarial weight",
                    *(step, name.removeprefix(ACCURACY), 100 * value),
                )
