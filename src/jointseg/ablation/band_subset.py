"""The statistics of the dataset for a part of its bands, by which every network and reader knows what it is given."""

import json
from pathlib import Path
from typing import Any

from jointseg.ablation.variants import BAND_SETS
from jointseg.raster.bands import band_indices, band_names
from jointseg.runtime.files import atomic_write


def ablation_bands(*, statistics: Path, reduced: Path, data: str, bands: str) -> dict[str, Any]:
    """Writes the statistics of `data` with the 10 m bands `bands` (a key of BANDS) alone, and gives their names.

    Raises DataError where the dataset lacks one of them.
    """
    told = json.loads(Path(statistics).read_text())
    kept = band_indices(band_names(len(told["lr"]["mean"])), BAND_SETS[bands])
    told["lr"] = {name: [values[place] for place in kept] for name, values in told["lr"].items()}
    with atomic_write(reduced) as part:
        part.write_text(json.dumps(told, indent=1) + "\n")
    return {"data": data, "bands": list(BAND_SETS[bands])}
