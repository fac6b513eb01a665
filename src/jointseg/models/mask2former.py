"""Mask2Former with a Swin backbone (transformers), built from a preset, for impervious / not impervious."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from jointseg.models import mask2former_parts
from jointseg.models.mask_loss import LossWeights, dense_loss, set_loss

CLASSES = 2  # 0 not impervious, 1 impervious
EPSILON = 1e-6  # probability below which a class's share of a pixel makes no difference to its logit


class Segmenter(nn.Module):
    """Normalised image [n, channels, h, w] at 1 m -> probability of impervious surface [n, 1, h, w]."""

    def __init__(self, config: Mask2FormerConfig, multiple_px: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.network = Mask2FormerForUniversalSegmentation(config)
        mask2former_parts.replace_modules(self.network)
        self.pixel_head = nn.Conv2d(self.network.config.mask_feature_size, 1, 1)
        self.multiple_px = multiple_px

    @staticmethod
    def _logit(class_logits: Tensor, mask_logits: Tensor, size: Sequence[int]) -> Tensor:
        """ISA logit [n, 1, *size]: softmax over classes, without the empty one, times sigmoid, summed over queries.

        The map is made on the grid of the masks and its logit is what gets upsampled: one channel instead of one a
        query, and edges that are as sharp.
        """
        shares = torch.einsum("nqc,nqhw->nchw", class_logits.softmax(2)[..., :CLASSES], mask_logits.sigmoid())
        log_shares = (shares + EPSILON).log()
        return F.interpolate(log_shares[:, 1:] - log_shares[:, :1], size=size, mode="bilinear", align_corners=False)

    def pad(self, x: Tensor) -> Tensor:
        """Edge pixels repeated on the right and below, up to a size that the network can halve to 2 px or more."""
        multiple = self.multiple_px
        below, right = (max(2 * multiple - side, -side % multiple) for side in x.shape[2:])
        return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x

    def forward(self, x: Tensor) -> Tensor:
        """Probability of impervious surface [n, 1, h, w] of [n, channels, h, w], any h and w."""
        padded = self.pad(x)
        logit = self._logit(*self.final_layer(padded), padded.shape[2:])
        return logit.float().sigmoid()[:, :, : x.shape[2], : x.shape[3]]

    def final_layer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits [n, queries, classes + 1] and mask logits [n, queries, h / 4, w / 4] of the last decoder layer.

        What the network's own forward gives, without the predictions of the other layers: see `mask2former_parts`.
        """
        model = self.network.model
        pixels = model.pixel_level_module(x)
        decoder = model.transformer_module.decoder
        with decoder.mask_predictor.at_attention_size():
            decoded = model.transformer_module(
                multi_scale_features=pixels.decoder_hidden_states, mask_features=pixels.decoder_last_hidden_state
            )
        queries = decoded.intermediate_hidden_states[-1].transpose(0, 1)
        masks = torch.einsum(
            "nqc,nchw->nqhw", decoder.mask_predictor.mask_embedder(queries), pixels.decoder_last_hidden_state
        )
        return self.network.class_predictor(queries), masks

    def loss(
        self,
        x: Tensor,
        label: Tensor,
        weights: LossWeights,
        generators: Sequence[torch.Generator],
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Loss of [n, channels, h, w] against label [n, h, w] uint8 (0, 1, 255 unknown: weighs nothing).

        The published set loss on every decoder layer, plus two dense terms (cross-entropy + dice) that make short
        trainings work: `dense_weight` on the final map, `pixel_weight` on a linear reading of the pixel features
        from which the masks are made (used in training alone).
        h and w must be multiples of `multiple_px`. `generators` (CPU) draw the sampled points, one an image. `dtype`
        is that of the network's arithmetic, such as torch.bfloat16; the loss itself is always computed in float32.
        """
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            output = self.network(pixel_values=x, output_auxiliary_logits=True, output_hidden_states=True)
            pixels = self.pixel_head(output.pixel_decoder_last_hidden_state)
        layers = [(each["class_queries_logits"], each["masks_queries_logits"]) for each in output.auxiliary_logits]
        layers.append((output.class_queries_logits, output.masks_queries_logits))
        layers = [(classes.float(), masks.float()) for classes, masks in layers]
        pixels = F.interpolate(pixels.float(), size=x.shape[2:], mode="bilinear", align_corners=False)
        return (
            set_loss(layers, label, weights, generators)
            + weights.dense_weight * dense_loss(self._logit(*layers[-1], x.shape[2:]), label)
            + weights.pixel_weight * dense_loss(pixels, label)
        )


def build(
    embed_dim: int,
    depths: Sequence[int],
    heads: Sequence[int],
    window: int,
    hidden_dim: int,
    encoder_layers: int,
    encoder_feedforward: int,
    decoder_layers: int,
    feedforward: int,
    attention_heads: int,
    queries: int,
    drop_path: float = 0.0,
    patch: int = 4,
    in_channels: int = 3,
) -> Segmenter:
    """A segmenter with random weights. `decoder_layers` counts as published: masks are predicted once more than that.

    embed_dim, depths, heads, window, drop_path, patch: the Swin backbone. hidden_dim, attention_heads: both decoders;
    encoder_*: the pixel decoder; decoder_layers, feedforward, queries: the transformer decoder. in_channels: bands of
    the image, 3 for RGB or 4 for RGB and near infrared.
    """
    backbone = {
        "embed_dim": embed_dim,
        "depths": list(depths),
        "num_heads": list(heads),
        "window_size": window,
        "drop_path_rate": drop_path,
        "patch_size": patch,
        "num_channels": in_channels,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    network = {
        "backbone_config": SwinConfig.from_dict(backbone),
        "feature_size": hidden_dim,
        "mask_feature_size": hidden_dim,
        "hidden_dim": hidden_dim,
        "encoder_layers": encoder_layers,
        "encoder_feedforward_dim": encoder_feedforward,
        "decoder_layers": decoder_layers + 1,
        "dim_feedforward": feedforward,
        "num_attention_heads": attention_heads,
        "num_queries": queries,
        "num_labels": CLASSES,
    }
    return Segmenter(Mask2FormerConfig.from_dict(network), multiple_px=8 * patch, channels=in_channels)
