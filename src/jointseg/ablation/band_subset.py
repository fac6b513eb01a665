"""Step `ablation_bands`: restrict the statistics of the dataset to the bands of a variant."""

import json
from pathlib import Path
from typing import Any

from jointseg.ablation.variants import BAND_SETS
from jointseg.raster.bands import band_indices, band_names
from jointseg.runtime.files import atomic_write


def ablation_bands(*, statistics: Path, reduced: Path, data: str, bands: str) -> dict[str, Any]:
    """Write the statistics of a set of bands, by which networks select bands; DataError if the dataset lacks one of
    them.
    """
    content = json.loads(Path(statistics).read_text())
    indices = band_indices(band_names(len(content["lr"]["mean"])), BAND_SETS[bands])
    content["lr"] = {name: [values[index] for index in indices] for name, values in content["lr"].items()}
    with atomic_write(reduced) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
    return {"data": data, "bands": list(BAND_SETS[bands])}
