"""The RO-Crate of a release, read with the library `rocrate`."""

import json

import pytest
from rocrate.rocrate import ROCrate
from support.provenance_release import TILE

from jointseg.provenance import crate as crate_module
from jointseg.provenance.digest import file_digest


@pytest.fixture(scope="module")
def crate(released) -> ROCrate:
    return ROCrate(released)


def test_action_links_job_inputs_and_outputs(crate):
    action = crate.get(f"#predict/2021/{TILE}")
    assert action.type == "CreateAction"
    assert action["result"]["name"] == f"isa/2021/{TILE}.tif"
    assert [entity["name"] for entity in action["object"]] == [
        f"sentinel2/composites/2021/{TILE}.tif",
        "superres.safetensors",
        "segmentation/superres.safetensors",
    ]
    assert action["instrument"]["name"] == "support.provenance_release:isa"
    assert len(crate.root_dataset["mentions"]) == 1 + 10  # the run and its jobs


def test_main_entity_is_the_workflow(crate, released):
    main = crate.mainEntity
    assert main.id == "workflow/Snakefile"
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(main.type)
    assert main["programmingLanguage"]["name"] == "Snakemake"
    assert main["sha256"] == file_digest(released / "workflow/Snakefile")
    assert "workflow/rules/common.smk" in {part.id for part in main["hasPart"]}


def test_run_links_external_inputs_to_maps(crate):
    run = crate.get(crate_module.RUN)
    assert run["instrument"].id == "workflow/Snakefile"
    assert {entity["name"] for entity in run["object"]} == {"archive", "config.yaml", "superres.safetensors"}
    assert {entity["name"] for entity in run["result"]} == {
        *(f"{kind}/{year}/{name}.tif" for kind, name in (("isa", TILE), ("mosaics", "Hefei")) for year in (2021, 2023)),
        "report/index.html",
    }


def test_files_have_their_checksums(crate, released):
    files = [entity for entity in crate.data_entities if "File" in entity.type]
    assert {"README.md", "catalog.json", "provenance.intoto.json"} <= {entity.id for entity in files}
    for entity in files:
        assert entity["sha256"] == file_digest(released / entity.id), entity.id


def test_context_defines_sha256(released):
    context = json.loads((released / "ro-crate-metadata.json").read_text())["@context"]
    assert context == ["https://w3id.org/ro/crate/1.1/context", crate_module.TERMS]
