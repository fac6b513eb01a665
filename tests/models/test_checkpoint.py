from pathlib import Path
from typing import Any

import pytest
import torch

from jointseg.models.checkpoint import build, load, normalisation_of, save
from jointseg.runtime.errors import DataError

KWARGS: dict[str, Any] = {"scales": ["1m"], "features": 2}
NORMALISATION = {"mean": [0.1, 0.2, 0.3], "std": [0.01, 0.02, 0.03]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return write(tmp_path / "weights.safetensors")


def write(path: Path, kwargs: dict[str, Any] = KWARGS) -> Path:
    torch.manual_seed(0)
    architecture = {"name": "unet_discriminators", "kwargs": kwargs}
    save(path, build("unet_discriminators", **KWARGS), architecture=architecture, normalisation=NORMALISATION, extra={"steps": 3, "seed": 7})  # fmt: skip
    return path


def test_weights_and_header_are_restored(path: Path) -> None:
    model, header = load(path, "unet_discriminators", NORMALISATION)
    torch.manual_seed(0)
    expected = build("unet_discriminators", **KWARGS).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert header["architecture"] == {"name": "unet_discriminators", "kwargs": KWARGS}
    assert header["normalisation"] == NORMALISATION and header["trained"] == {"steps": 3, "seed": 7}


def test_the_same_weights_give_the_same_bytes(path: Path) -> None:
    assert len({path.read_bytes(), *(write(path.with_name(f"{n}")).read_bytes() for n in range(8))}) == 1


def test_file_permissions_are_the_default(path: Path) -> None:
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_another_architecture_is_an_error(path: Path) -> None:
    with pytest.raises(
        DataError, match=r"weights\.safetensors contains a 'unet_discriminators', expected a 'mask2former'"
    ):
        load(path, "mask2former")


def test_another_normalisation_is_an_error(path: Path) -> None:
    other = {"mean": [0.1, 0.2, 0.31], "std": NORMALISATION["std"]}
    with pytest.raises(DataError, match="trained with normalisation"):
        load(path, "unet_discriminators", other)
    with pytest.raises(DataError, match="trained with normalisation"):
        load(path, "unet_discriminators", {"mean": [0.1], "std": [0.01]})


@pytest.mark.parametrize("size", [0, 4, 300, -10])
def test_a_truncated_file_is_an_error(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match="cannot be read"):
        load(path, "unet_discriminators")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "none.safetensors", "prog_esrgan")


def test_weights_of_another_size_are_an_error(path: Path) -> None:
    write(path, {"scales": ["1m"], "features": 4})
    with pytest.raises(DataError, match="do not fit"):
        load(path, "unet_discriminators")


def test_a_file_of_another_package_is_an_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(DataError, match="has no 'architecture'"):
        load(tmp_path / "foreign", "prog_esrgan")


def test_an_unknown_architecture_is_an_error() -> None:
    with pytest.raises(DataError, match="'vit' is unknown"):
        build("vit")


def test_normalisation_is_that_of_the_low_resolution_images() -> None:
    normalisation = {"mean": [0.1, 0.2, 0.3], "std": [0.2, 0.1, 0.2]}
    statistics = {"lr": normalisation, "hr": {"mean": [0.3] * 3, "std": [0.4] * 3}}
    assert normalisation_of(statistics) == normalisation


def test_merged_dates_have_the_normalisation_of_the_composites_bands() -> None:
    normalisation = normalisation_of(
        {"lr": {"mean": [1.0, 2.0, 3.0, *range(10, 22)], "std": [4.0, 5.0, 6.0, *range(30, 42)]}}
    )
    assert normalisation == {"mean": [1.0, 2.0, 3.0] * 5, "std": [4.0, 5.0, 6.0] * 5}


def test_a_band_without_valid_pixels_is_an_error() -> None:
    with pytest.raises(DataError, match="band 2 of the 10 m chips has no valid pixel"):
        normalisation_of({"lr": {"mean": [0.1, None, 0.1], "std": [0.2, None, 0.2]}})
