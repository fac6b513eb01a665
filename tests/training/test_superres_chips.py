"""Images of 1 m are made from every band of the 10 m image."""

import numpy as np
import torch

from jointseg.training import superres_chips


def test_every_band_is_sharpened_from_and_three_are_written() -> None:
    class Last(torch.nn.Module):
        """Its red is the last band of all."""

        def forward(self, x: torch.Tensor) -> tuple[None, torch.Tensor]:
            made = torch.stack([x[:, -1], x[:, 1], x[:, 2]], dim=1)
            return None, made.repeat_interleave(10, dim=2).repeat_interleave(10, dim=3)

    dn = np.arange(1, 17, dtype=np.uint16)[:, None, None] * np.full((1, 3, 4), 100, np.uint16)
    dn[13:, 0, 0] = 0  # merged dates that saw nothing: the composite stands there
    dn[:, 2, 3] = 0
    mean, std = np.full((16, 1, 1), 0.05, np.float32), np.full((16, 1, 1), 0.02, np.float32)
    made = superres_chips.super_resolve(dn, Last(), mean, std)
    assert made.shape == (3, 30, 40) and (made[:, 20:, 30:] == 0).all()
    assert made[0, 0, 0] == 300 and made[0, 0, 10] == 1600 and (made[1, :20] == 200).all()
    plain = superres_chips.super_resolve(dn, None, mean, std)
    assert plain.shape == (3, 30, 40) and (plain[2, :15, :25] == 300).all()
    for network in (Last(), None):
        infrared = superres_chips.super_resolve(dn, network, mean, std, channels=4)
        assert np.array_equal(infrared[:3], superres_chips.super_resolve(dn, network, mean, std))
        assert infrared.shape == (4, 30, 40) and (infrared[3, :15, :25] == 400).all() and infrared[3, 29, 39] == 0
