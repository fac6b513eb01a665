"""Settings of the trainings have the names and defaults of the config."""

from dataclasses import MISSING, fields
from typing import Any

import pytest
from support.tiny_training import L1_TRAINING

from jointseg.config import networks
from jointseg.runtime.errors import DataError
from jointseg.training import settings
from jointseg.training.settings import Stage1Settings

PAIRS = [
    (settings.Stage1Settings, networks.StageTraining, set()),
    (settings.Stage2Settings, networks.Stage2Training, set()),
    (settings.AdversarialSettings, networks.AdversarialTraining, {"perceptual_weights"}),  # a file, input of the rule
    (settings.SegmentationSettings, networks.SegmentationTraining, set()),
    (settings.JointSettings, networks.Joint, {"start"}),  # read by the rule
]


@pytest.mark.parametrize(("training", "section", "others"), PAIRS, ids=lambda value: getattr(value, "__name__", ""))
def test_names_and_defaults_are_those_of_the_config(training: type, section: Any, others: set[str]) -> None:
    configured = {name: field for name, field in section.model_fields.items() if name not in others}
    assert {field.name for field in fields(training)} == set(configured)
    for field in fields(training):
        default = configured[field.name].default
        if field.default is MISSING:
            assert configured[field.name].is_required(), field.name
        else:
            assert field.default == (tuple(default) if isinstance(default, list) else default), field.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "cyclic"}, "schedule 'cyclic' is unknown"),
        ({"precision": "fp16"}, "precision 'fp16' is unknown"),
        ({"batch": 0}, "batch is 0, expected 1 or more"),
        ({"learning": 1e-3}, "settings learning are unknown or missing"),
    ],
)
def test_an_invalid_setting_is_an_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Stage1Settings.read(L1_TRAINING | change)
