"""Early warnings contain the problem, its value and the remedy, appear once, and only if needed."""

import json
import logging
from pathlib import Path

import pytest
import torch
from support.tiny_training import make, run

from jointseg.training import diagnostics


def random_images(mean: list[float], deviation: list[float]) -> torch.Tensor:
    noise = torch.randn(64, len(mean), 16, 16, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor(deviation).view(1, -1, 1, 1) + torch.tensor(mean).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("mean", "deviation", "band"),
    [([0, 0, 1.2], [1, 1, 1], 3), ([0, -1.3], [1, 1], 2), ([0.9, 0], [3.3, 1], 1), ([0.5, 0.5], [1, 0.2], 2)],
)
def test_warning_about_a_band_that_is_not_standardised(
    mean: list[float], deviation: list[float], band: int, caplog: pytest.LogCaptureFixture
) -> None:
    check = diagnostics.NormalisationCheck("10 m image")
    for part in random_images(mean, deviation).split(16):
        assert not caplog.records  # no warning before all samples are added
        check.update(part)
    check.update(100 + random_images(mean, deviation))
    (record,) = caplog.records
    start = f"band {band} of the 10 m image has mean {mean[band - 1]:.1f}"
    assert record.getMessage().startswith(start[:-1]) and "statistics.json does not fit" in record.getMessage()


def test_nodata_does_not_count_and_standardised_images_cause_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    standardised = random_images([0.5, -0.5, 0], [0.5, 1, 2])
    standardised[:, :, 3:] = 0  # nodata at the mean, which would halve the deviation
    diagnostics.NormalisationCheck("image").update(standardised)
    empty = diagnostics.NormalisationCheck("image")
    empty.update(torch.zeros(1, 3, 4, 4))
    assert not caplog.records


def test_one_warning_per_collapsed_discriminator(caplog: pytest.LogCaptureFixture) -> None:
    check = diagnostics.DiscriminatorCheck()
    check.update(20, {"accuracy_1m": 0.97, "accuracy_2.5m": 0.5, "psnr_1m": 30.0})
    assert not caplog.records
    check.update(40, {"accuracy_1m": 0.991, "accuracy_2.5m": 0.5})
    check.update(60, {"accuracy_1m": 0.999, "accuracy_2.5m": 0.99})
    messages = [record.getMessage() for record in caplog.records]
    assert [message.split(": ")[0] for message in messages] == ["step 40", "step 60"]
    assert "the 1m discriminator classifies 99.1 %" in messages[0] and "the 2.5m discriminator" in messages[1]


@pytest.mark.parametrize("kind", ["stage1", "segmentation"])
def test_training_warns_about_statistics_of_another_dataset(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "SAMPLES", 4)
    make(tmp_path)
    with caplog.at_level(logging.WARNING):
        run(kind, tmp_path, tmp_path / "fitting")
        assert "after normalisation" not in caplog.text
        bands = {"mean": [0.165, 0.165, 0.5], "std": [0.078, 0.078, 0.078]}
        (tmp_path / "statistics.json").write_text(json.dumps({"lr": bands, "hr": bands}))
        run(kind, tmp_path, tmp_path / "other")
    messages = {record.getMessage()[:30] for record in caplog.records if "after normalisation" in record.getMessage()}
    assert "band 3 of the 1 m image has me" in messages and all(line.startswith("band 3") for line in messages)
    assert len(messages) == (2 if kind == "stage1" else 1)


def test_training_warns_at_the_validation_where_a_discriminator_collapses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "COLLAPSED_ACCURACY", -1.0)
    make(tmp_path)
    run("stage1", tmp_path, tmp_path / "one")
    run("stage2", tmp_path, tmp_path / "two", tmp_path / "one/model.safetensors")
    assert "discriminator" not in caplog.text
    run("adversarial", tmp_path, tmp_path / "three", tmp_path / "two/model.safetensors", steps=4)
    messages = [record.getMessage() for record in caplog.records if "discriminator" in record.getMessage()]
    assert len(messages) == 2 and all(line.startswith("step 2: the ") for line in messages)
