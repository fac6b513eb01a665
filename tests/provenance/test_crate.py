"""The RO-Crate of a release, read back by the library that others read it with."""

import json

import pytest
from rocrate.rocrate import ROCrate
from support.provenance_release import TILE

from jointseg.provenance import crate as written
from jointseg.provenance.digest import file_digest


@pytest.fixture(scope="module")
def crate(released) -> ROCrate:
    return ROCrate(released)


def test_it_tells_which_job_made_what(crate):
    action = crate.get(f"#isa/2021/{TILE}")
    assert action.type == "CreateAction"
    assert action["result"]["name"] == f"isa/2021/{TILE}.tif"
    assert [entity["name"] for entity in action["object"]] == [
        f"sentinel2/composites/2021/{TILE}.tif",
        "superres.safetensors",
        "segmentation/superres.safetensors",
    ]
    assert action["instrument"]["name"] == "provenance_release:isa"
    assert len(crate.root_dataset["mentions"]) == 1 + 10  # the run and its jobs


def test_its_main_entity_is_the_workflow(crate, released):
    main = crate.mainEntity
    assert main.id == "workflow/Snakefile"
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(main.type)
    assert main["programmingLanguage"]["name"] == "Snakemake"
    assert main["sha256"] == file_digest(released / "workflow/Snakefile")
    assert "workflow/rules/common.smk" in {part.id for part in main["hasPart"]}


def test_the_run_leads_from_what_came_from_outside_to_the_maps(crate):
    run = crate.get(written.RUN)
    assert run["instrument"].id == "workflow/Snakefile"
    assert {entity["name"] for entity in run["object"]} == {"archive", "config.yaml", "superres.safetensors"}
    assert {entity["name"] for entity in run["result"]} == {
        *(f"{kind}/{year}/{name}.tif" for kind, name in (("isa", TILE), ("mosaics", "Hefei")) for year in (2021, 2023)),
        "report/index.html",
    }


def test_its_files_are_what_it_says(crate, released):
    files = [entity for entity in crate.data_entities if "File" in entity.type]
    assert {"README.md", "catalog.json", "provenance.intoto.json"} <= {entity.id for entity in files}
    for entity in files:
        assert entity["sha256"] == file_digest(released / entity.id), entity.id


def test_it_knows_the_term_that_its_version_lacks(released):
    context = json.loads((released / "ro-crate-metadata.json").read_text())["@context"]
    assert context == ["https://w3id.org/ro/crate/1.1/context", written.TERMS]
