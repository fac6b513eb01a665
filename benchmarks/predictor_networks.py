"""Networks for `predictors.py`: as one module, replaced by interpolation, and as published."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointseg.inference.predictor import Predictor
from jointseg.models.mask2former import CLASSES
from jointseg.models.mask2former_parts import REPLACEMENTS
from jointseg.models.prog_esrgan import segmenter_input
from jointseg.raster.bands import RGB

SCALE = 10


class Image(nn.Module):
    """Both stages as one module, from reflectance [n, bands, h, w] to reflectance [n, 3, 10h, 10w]."""

    factor = SCALE

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.generator = predictor.generator
        self.mean, self.std = (nn.Parameter(value, requires_grad=False) for value in (predictor.mean, predictor.std))

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.super_resolve(self.normalise(x)) * self.std[: len(RGB)] + self.mean[: len(RGB)]

    def normalise(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def super_resolve(self, x: Tensor) -> Tensor:
        return self.generator(x)[1]  # type: ignore[misc]


class Chain(Image):
    """Both networks as one module, from reflectance [n, bands, h, w] to probability [n, 1, 10h, 10w]."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor)
        self.segmenter = predictor.segmenter

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        x = self.normalise(x)
        inputs = segmenter_input(self.super_resolve(x), x, self.segmenter.channels)  # type: ignore[union-attr, arg-type]
        return self.segmenter(inputs.contiguous(memory_format=torch.channels_last))  # type: ignore[misc]


class NearestUpsampling(nn.Module):
    """Replacement for a generator: an image of the same size without computation."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        image = F.interpolate(x[:, : len(RGB)], scale_factor=SCALE, mode="nearest")
        return image, image


class IsaByBrightness(nn.Module):
    """Replacement for a segmenter without computation."""

    channels = len(RGB)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1].sigmoid()


def published(segmenter: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the forward and post-processing of transformers: masks of all queries at full size, summed over queries."""
    published_class = {own: theirs for theirs, own in REPLACEMENTS.items()}
    for module in segmenter.modules():
        module.__class__ = published_class.get(type(module), type(module))

    def probability(image: Tensor) -> Tensor:
        padded = segmenter.pad(image)  # type: ignore[operator]
        output = segmenter.network(pixel_values=padded)  # type: ignore[operator]
        masks = F.interpolate(output.masks_queries_logits, padded.shape[2:], mode="bilinear", align_corners=False)
        classes = output.class_queries_logits.softmax(2)[..., :CLASSES]
        scores = torch.einsum("nqc,nqhw->nchw", classes, masks.sigmoid())[..., : image.shape[2], : image.shape[3]]
        return scores[:, 1:] / scores.sum(1, keepdim=True)

    return probability
