"""Faster replacements for modules of transformers' Mask2Former; their outputs differ only by rounding."""

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

# Pixel features by size during one forward pass. Several threads may use the same network.
_COARSE: ContextVar[dict[tuple[int, ...], Tensor] | None] = ContextVar("coarse", default=None)


class MaskPredictor(Mask2FormerMaskPredictor):
    """The decoder's mask predictor, optionally with masks only at the size of the attention.

    A layer attends where the mask of the previous layer is not negative, on a grid 8, 16 or 32 times coarser than the
    image. The published code computes the mask of every query on a grid 4 times coarser and interpolates it. Both steps
    are linear. Interpolating the pixel features once per size and computing the masks from them is therefore
    equivalent.
    """

    @staticmethod
    @contextmanager
    def at_attention_size() -> Iterator[None]:
        """Return a context for one forward pass in which masks are computed at the size of the attention only."""
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
    """A Swin layer that caches the attention mask of its shifted windows by image size."""

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
    """The pixel decoder's attention, which samples by `deformable_sampling` if no gradient is required.

    The published code (Zhu et al. 2021, Deformable DETR, equation 3) samples every level with `grid_sample`, stacks the
    samples, and sums them with weights. A bilinear sample is itself a weighted sum of four pixels, so a single weighted
    sum of table rows computes both. Its backward pass is slower, so trainings use the published code.
    """

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        if torch.is_grad_enabled() or args:
            return super().forward(hidden_states, *args, **kwargs)
        n, count, _ = hidden_states.shape
        shapes = kwargs["spatial_shapes_list"]
        # The published layer also masks padding; inputs from `Segmenter.pad` have none.
        value = self.value_proj(kwargs["encoder_hidden_states"]).float()
        query = self.with_pos_embed(hidden_states, kwargs["position_embeddings"])
        points = (n, count, self.n_heads, self.n_levels, self.n_points)
        offsets = self.sampling_offsets(query).float().view(*points, 2)
        weights = self.attention_weights(query).float().view(n, count, self.n_heads, -1).softmax(-1).view(points)
        size = offsets.new_tensor([[width, height] for height, width in shapes])
        locations = (kwargs["reference_points"].float() * size - 0.5)[:, :, None, :, None] + offsets
        sampled = deformable_sampling(value.unflatten(2, (self.n_heads, -1)), shapes, locations, weights)
        return self.output_proj(sampled), None


def deformable_sampling(value: Tensor, shapes: list[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of bilinear samples of all levels, float32 [n, queries, heads x channels].

    Samples beyond an edge are 0, as in `grid_sample`.

    Args:
        value: float32 [n, pixels of all levels, heads, channels].
        shapes: height and width of each level.
        locations: float32 [n, queries, heads, levels, points, 2], x and y in pixels of the level from its first centre.
        weights: float32 [n, queries, heads, levels, points].
    """
    n, queries, heads, _, _, _ = locations.shape
    # Every level is padded with zeros, 1 px before and 2 px after, so the four neighbours of any location are in the table.
    levels = value.flatten(2).split([height * width for height, width in shapes], 1)
    padded = [
        F.pad(level.unflatten(1, shape), (0, 0, 1, 2, 1, 2)).flatten(1, 2) for level, shape in zip(levels, shapes)
    ]
    table = torch.cat(padded, 1)
    first = torch.tensor([0, *(level.shape[1] for level in padded[:-1])], device=value.device).cumsum(0)
    step = torch.tensor([width + 3 for _, width in shapes], device=value.device)

    largest = locations.new_tensor([[width, height] for height, width in shapes])[:, None]
    locations = torch.minimum(locations.clamp(min=-1), largest)
    corner = locations.floor()
    right, below = (locations - corner).unbind(-1)
    # NaN is not a valid row index. The weights of a NaN location are NaN too, so its sum stays NaN.
    column, line = corner.nan_to_num().int().unbind(-1)
    head = torch.arange(heads, device=value.device)[:, None, None]
    image = torch.arange(n, device=value.device)[:, None, None, None, None] * table.shape[1]
    start = ((image + (first + step + 1)[:, None]) * heads + head).int()
    row = start + (column + line * step.int()[:, None]) * heads
    neighbours = torch.stack([0 * step, 0 * step + 1, step, step + 1], -1).int()[:, None] * heads
    lower = weights * below
    upper = weights - lower
    neighbour_weights = torch.stack([upper - upper * right, upper * right, lower - lower * right, lower * right], -1)

    bags = n * queries * heads
    sums = F.embedding_bag(
        (row[..., None] + neighbours).view(bags, -1),
        table.view(-1, value.shape[3]),
        mode="sum",
        per_sample_weights=neighbour_weights.view(bags, -1),
    )
    return sums.view(n, queries, -1)


REPLACEMENTS = {
    Mask2FormerMaskPredictor: MaskPredictor,
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention: DeformableAttention,
    SwinLayer: ShiftedLayer,
}


def replace_modules(network: Mask2FormerForUniversalSegmentation) -> None:
    """Replace the classes of the published modules in place; their weights are unchanged."""
    for module in network.modules():
        if type(module) in REPLACEMENTS:
            module.__class__ = REPLACEMENTS[type(module)]
