"""Early warnings: a normalisation that does not fit the images, and a discriminator that the generator cannot fool."""

import logging

import torch
from torch import Tensor

log = logging.getLogger(__name__)

SAMPLES = 64  # of the first batches, from which mean and standard deviation are computed
MAX_MEAN, DEVIATION_RANGE = 1.0, (0.3, 3.0)  # values outside are warned about; 0 and 1 are expected
COLLAPSED_ACCURACY = 0.98  # above it, the gradient of a discriminator no longer trains the generator
ACCURACY = "accuracy_"


class NormalisationCheck:
    """Warning about bands whose mean or standard deviation over the first samples is far from 0 or 1."""

    def __init__(self, name: str) -> None:
        self.name, self.samples = name, 0
        self._sums = torch.zeros(3, 1, dtype=torch.float64)

    def update(self, images: Tensor) -> None:
        """Add normalised images [n, bands, h, w], 0 in every band at nodata. After SAMPLES samples, ignore them."""
        if self.samples >= SAMPLES:
            return
        self.samples += len(images)
        valid = (images != 0).any(1)
        values = images.transpose(0, 1)[:, valid].double()
        number = torch.full((len(values),), values.shape[1], dtype=torch.float64)
        self._sums = self._sums + torch.stack([number, values.sum(1), values.square().sum(1)])
        if self.samples >= SAMPLES:
            self._warn()

    def _warn(self) -> None:
        number, total, squares = self._sums
        means = total / number.clamp(min=1)
        deviations = (squares / number.clamp(min=1) - means.square()).clamp(min=0).sqrt()
        for band, (mean, deviation) in enumerate(zip(means.tolist(), deviations.tolist()), start=1):
            if abs(mean) > MAX_MEAN or not DEVIATION_RANGE[0] <= deviation <= DEVIATION_RANGE[1]:
                log.warning(
                    "band %d of the %s has mean %.2f and standard deviation %.2f after normalisation over the first "
                    "%d samples, expected about 0 and 1: statistics.json does not fit these images; check that they are "
                    "reflectance x 10000 with the bands in order, and rebuild the dataset",
                    *(band, self.name, mean, deviation, self.samples),
                )


class DiscriminatorCheck:
    """Warning, once per discriminator, if its mean accuracy between two validations exceeds COLLAPSED_ACCURACY."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def update(self, step: int, metrics: dict[str, float]) -> None:
        """Check the metrics of a validation named accuracy_SCALE."""
        for name, value in metrics.items():
            if name.startswith(ACCURACY) and value > COLLAPSED_ACCURACY and name not in self._warned:
                self._warned.add(name)
                log.warning(
                    "step %d: the %s discriminator classifies %.1f %% of pixels correctly, so its loss no longer trains "
                    "the generator; lower discriminator_learning_rate or raise the adversarial weight",
                    *(step, name.removeprefix(ACCURACY), 100 * value),
                )
