"""Mask2Former with a Swin backbone (from transformers) for two classes, impervious and not impervious."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from jointseg.models import mask2former_parts
from jointseg.models.mask_loss import LossWeights, dense_loss, set_loss

CLASSES = 2  # 0 not impervious, 1 impervious
EPSILON = 1e-6  # added to class probabilities before the logarithm


class Segmenter(nn.Module):
    """Map a normalised image [n, channels, h, w] at 1 m to the probability of impervious surface [n, 1, h, w].

    The network's input is padded to multiples of `multiple_px`.
    """

    def __init__(self, config: Mask2FormerConfig, multiple_px: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.network = Mask2FormerForUniversalSegmentation(config)
        mask2former_parts.replace_modules(self.network)
        self.pixel_head = nn.Conv2d(self.network.config.mask_feature_size, 1, 1)
        self.multiple_px = multiple_px

    @staticmethod
    def _logit(class_logits: Tensor, mask_logits: Tensor, size: Sequence[int]) -> Tensor:
        """Return the ISA logit [n, 1, *size]: class softmax without "no object" times mask sigmoid, summed over queries.

        The logit is computed on the grid of the masks and then upsampled, which is one channel instead of one per query
        and gives equally sharp edges.
        """
        scores = torch.einsum("nqc,nqhw->nchw", class_logits.softmax(2)[..., :CLASSES], mask_logits.sigmoid())
        log_scores = (scores + EPSILON).log()
        return F.interpolate(log_scores[:, 1:] - log_scores[:, :1], size=size, mode="bilinear", align_corners=False)

    def pad(self, x: Tensor) -> Tensor:
        """Repeat edge pixels on the right and below, up to a size that the network can halve down to at least 2 px."""
        multiple = self.multiple_px
        below, right = (max(2 * multiple - side, -side % multiple) for side in x.shape[2:])
        return F.pad(x, (0, right, 0, below), mode="replicate") if right or below else x

    def forward(self, x: Tensor) -> Tensor:
        """Return the probability of impervious surface [n, 1, h, w] of [n, channels, h, w], any h and w."""
        padded = self.pad(x)
        logit = self._logit(*self.final_layer(padded), padded.shape[2:])
        return logit.float().sigmoid()[:, :, : x.shape[2], : x.shape[3]]

    def final_layer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the class logits [n, q, classes + 1] and mask logits [n, q, h / 4, w / 4] of the last decoder layer.

        They equal those of the network's own forward, which also predicts from the other layers. See
        `mask2former_parts`.
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
        """Return the loss of [n, channels, h, w] against label [n, h, w] uint8 (0, 1; 255 unlabelled, has no weight).

        The published set loss on every decoder layer, plus two dense terms (cross-entropy + dice) that speed up short
        trainings: `dense_weight` on the final map, `pixel_weight` on a linear classifier of the pixel features (used
        only in training). h and w are multiples of `multiple_px`. The generators, on the CPU, one per image, draw the
        points at which masks are compared. `dtype` is that of the forward pass; the loss is computed in float32.
        """
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            output = self.network(pixel_values=x, output_auxiliary_logits=True, output_hidden_states=True)
            pixels = self.pixel_head(output.pixel_decoder_last_hidden_state)
        layers = [(layer["class_queries_logits"], layer["masks_queries_logits"]) for layer in output.auxiliary_logits]
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
    """Return a segmenter with random weights; the arguments are keys of `segmentation.presets` in the config."""
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
        "decoder_layers": decoder_layers + 1,  # as published, the initial queries predict masks too
        "dim_feedforward": feedforward,
        "num_attention_heads": attention_heads,
        "num_queries": queries,
        "num_labels": CLASSES,
    }
    return Segmenter(Mask2FormerConfig.from_dict(network), multiple_px=8 * patch, channels=in_channels)
