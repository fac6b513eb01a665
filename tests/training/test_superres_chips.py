"""1 m images depend on every band of the 10 m image."""

import numpy as np
import torch

from jointseg.training import superres_chips


def test_every_band_is_read_and_three_or_four_are_written() -> None:
    class LastBand(torch.nn.Module):
        """Generator whose red band is the last input band."""

        def forward(self, x: torch.Tensor) -> tuple[None, torch.Tensor]:
            image = torch.stack([x[:, -1], x[:, 1], x[:, 2]], dim=1)
            return None, image.repeat_interleave(10, dim=2).repeat_interleave(10, dim=3)

    dn = np.arange(1, 17, dtype=np.uint16)[:, None, None] * np.full((1, 3, 4), 100, np.uint16)
    dn[13:, 0, 0] = 0  # merged dates without clear observation, filled with the composite
    dn[:, 2, 3] = 0
    mean, std = np.full((16, 1, 1), 0.05, np.float32), np.full((16, 1, 1), 0.02, np.float32)
    image = superres_chips.super_resolve(dn, LastBand(), mean, std)
    assert image.shape == (3, 30, 40) and (image[:, 20:, 30:] == 0).all()
    assert image[0, 0, 0] == 300 and image[0, 0, 10] == 1600 and (image[1, :20] == 200).all()
    bilinear = superres_chips.super_resolve(dn, None, mean, std)
    assert bilinear.shape == (3, 30, 40) and (bilinear[2, :15, :25] == 300).all()
    for network in (LastBand(), None):
        infrared = superres_chips.super_resolve(dn, network, mean, std, channels=4)
        assert np.array_equal(infrared[:3], superres_chips.super_resolve(dn, network, mean, std))
        assert infrared.shape == (4, 30, 40) and (infrared[3, :15, :25] == 400).all() and infrared[3, 29, 39] == 0
