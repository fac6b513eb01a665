"""Settings of networks that take milliseconds to build and run."""

from typing import Any

STAGE: dict[str, Any] = {"features": 8, "growth": 4, "blocks": 1, "upsampling": "shuffle", "tail": 4}
GENERATOR: dict[str, Any] = {"stage1": STAGE, "stage2": {**STAGE, "unshuffle": 2}}
SEGMENTER: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "heads": [1, 1, 2, 2],
    "window": 4,
    "hidden_dim": 32,
    "encoder_layers": 1,
    "encoder_feedforward": 16,
    "decoder_layers": 1,
    "feedforward": 16,
    "attention_heads": 2,
    "queries": 4,
}
