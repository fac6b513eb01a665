"""Parts of transformers' Mask2Former that give the same values, but for rounding, from less work."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Mask2FormerForUniversalSegmentation
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskPredictor,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
)
from transformers.models.swin.modeling_swin import SwinLayer

# Pixel features by size, while an image is looked at; several threads look at images with the same network.
_COARSE: ContextVar[dict[tuple[int, ...], Tensor] | None] = ContextVar("coarse", default=None)


class MaskPredictor(Mask2FormerMaskPredictor):
    """The decoder's mask predictor, which can also make the masks at the size at which its layers attend, and no larger.

    A layer attends where the mask of the layer before is not negative, on a grid 8, 16 or 32 times coarser than the image.
    The published code makes every query's mask on the finest grid (4 times coarser) and interpolates it. Both steps are
    linear: interpolating the pixel features once a size, and reading the masks from these, gives the same but for rounding.
    """

    @staticmethod
    @contextmanager
    def at_attention_size() -> Iterator[None]:
        """Within it the masks handed on are those at the size of attention; one image, or batch of them, is looked at."""
        token = _COARSE.set({})
        try:
            yield
        finally:
            _COARSE.reset(token)

    def forward(
        self, outputs: Tensor, pixel_embeddings: Tensor, attention_mask_target_size: Any = None
    ) -> tuple[Tensor, Tensor]:
        coarse = _COARSE.get()
        if coarse is None:
            return super().forward(outputs, pixel_embeddings, attention_mask_target_size)
        size = tuple(attention_mask_target_size)
        if size not in coarse:
            coarse[size] = F.interpolate(pixel_embeddings, size=size, mode="bilinear", align_corners=False)
        masks = torch.einsum("bqc,bchw->bqhw", self.mask_embedder(outputs.transpose(0, 1)), coarse[size])
        hidden = (masks < 0).flatten(2).unsqueeze(1).expand(-1, self.num_heads, -1, -1).flatten(0, 1)
        return masks, hidden


class ShiftedLayer(SwinLayer):
    """A Swin layer that makes the mask of its shifted windows once a size of image, not once an image."""

    def get_attn_mask(self, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        return _shift_mask(int(self.window_size), int(self.shift_size), height, width, dtype, device)


@lru_cache(maxsize=16)
def _shift_mask(
    window: int, shift: int, height: int, width: int, dtype: torch.dtype, device: torch.device
) -> Tensor | None:
    layer = SimpleNamespace(window_size=window, shift_size=shift)
    with torch.inference_mode(False):  # trainings may use it too
        return SwinLayer.get_attn_mask(layer, height, width, dtype, device)  # type: ignore[arg-type]


class DeformableAttention(Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention):
    """The pixel decoder's attention; where no gradient is asked for, pixels are read by `sampled`.

    The published code (Zhu et al. 2021, Deformable DETR, equation 3) reads every level with `grid_sample`, stacks what it
    read, and weighs and sums the stack. Bilinear reading is itself a weighted sum, of four pixels, so one sum of the
    rows of a table does both. Going back through such a sum is slower, so trainings keep the published code.
    """

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        if torch.is_grad_enabled() or args:
            return super().forward(hidden_states, *args, **kwargs)
        n, count, _ = hidden_states.shape
        shapes = kwargs["spatial_shapes_list"]
        # The layer is told which pixels are padding; `Segmenter.pad` leaves none.
        value = self.value_proj(kwargs["encoder_hidden_states"]).float()
        query = self.with_pos_embed(hidden_states, kwargs["position_embeddings"])
        points = (n, count, self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).float().view(*points, 2)
        weights = self.attention_weights(query).float().view(n, count, self.n_heads, -1).softmax(-1).view(points)
        size = offsets.new_tensor([[width, height] for height, width in shapes])
        places = (kwargs["reference_points"].float() * size - 0.5)[:, :, None, :, None] + offsets
        read = deformable_sampling(value.unflatten(2, (self.n_heads, -1)), shapes, places, weights)
        return self.output_proj(read), None


def deformable_sampling(value: Tensor, shapes: list[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of bilinear readings at all levels; 0 beyond an edge, as with `grid_sample`.

    Args:
        value: float32 [n, pixels of all levels, heads, channels].
        shapes: height and width of each level.
        places: float32 [n, queries, heads, levels, points, 2], x and y in pixels of the level from its first centre.
        weights: float32 [n, queries, heads, levels, points].

    Returns:
        float32 [n, queries, heads x channels].
    """
    n, queries, heads, _, _, _ = places.shape
    # Every level gets a rim of zeros, 1 px before and 2 px behind, so that four neighbours of any place are rows of the table.
    levels = value.flatten(2).split([height * width for height, width in shapes], 1)
    rimmed = [F.pad(each.unflatten(1, shape), (0, 0, 1, 2, 1, 2)).flatten(1, 2) for each, shape in zip(levels, shapes)]
    table = torch.cat(rimmed, 1)
    first = torch.tensor([0, *(each.shape[1] for each in rimmed[:-1])], device=value.device).cumsum(0)
    step = torch.tensor([width + 3 for _, width in shapes], device=value.device)

    largest = places.new_tensor([[width, height] for height, width in shapes])[:, None]
    places = torch.minimum(places.clamp(min=-1), largest)
    corner = places.floor()
    right, below = (places - corner).unbind(-1)
    # What is no number must not choose a row; its weights are none either, so the sum stays none.
    column, line = corner.nan_to_num().int().unbind(-1)
    head = torch.arange(heads, device=value.device)[:, None, None]
    image = torch.arange(n, device=value.device)[:, None, None, None, None] * table.shape[1]
    start = ((image + (first + step + 1)[:, None]) * heads + head).int()
    row = start + (column + line * step.int()[:, None]) * heads
    near = torch.stack([0 * step, 0 * step + 1, step, step + 1], -1).int()[:, None] * heads
    lower = weights * below
    upper = weights - lower
    parts = torch.stack([upper - upper * right, upper * right, lower - lower * right, lower * right], -1)

    bags = n * queries * heads
    read = F.embedding_bag(
        (row[..., None] + near).view(bags, -1),
        table.view(-1, value.shape[3]),
        mode="sum",
        per_sample_weights=parts.view(bags, -1),
    )
    return read.view(n, queries, -1)


REPLACEMENTS = {
    Mask2FormerMaskPredictor: MaskPredictor,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention: DeformableAttention,
    SwinLayer: ShiftedLayer,
}


def replace_modules(network: Mask2FormerForUniversalSegmentation) -> None:
    """Puts the parts in the places of the published ones, with the weights that these were given."""
    for module in network.modules():
        if type(module) in REPLACEMENTS:
            module.__class__ = REPLACEMENTS[type(module)]
