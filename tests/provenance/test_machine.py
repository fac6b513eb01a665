"""The recorded execution environment."""

import subprocess
import sys
from importlib import metadata

from jointseg.provenance import machine


def test_versions_equal_those_of_importlib_metadata():
    owners = metadata.packages_distributions()
    loaded = {name.partition(".")[0] for name in sys.modules}
    names = sorted({owners[name][0] for name in loaded if name in owners})
    versions = machine.software()["versions"]
    expected = {name: metadata.version(name) for name in names}
    assert {name: versions[name] for name in expected} == expected
    assert versions.keys() - expected.keys() <= {"python", "gdal (rasterio)", "gdal (tools)"}


def test_job_start_imports_no_heavy_packages():
    code = (
        "import sys\n"
        "from jointseg.run.steps import run\n"
        "import jointseg.provenance.job_record\n"
        "heavy = {'numpy', 'pandas', 'geopandas', 'rasterio', 'torch', 'pydantic', 'scipy'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
