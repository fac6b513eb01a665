"""Snakemake's plan as JSON, computed in a separate process because Snakemake keeps global state.

    python -m jointseg.audit.dry_run FILE -n --configfile config.yaml ...

The arguments after FILE are passed to Snakemake, so the plan equals that of its own command line, profile included.
"""

import json
import sys
from pathlib import Path
from typing import Any

from snakemake import api, cli

from jointseg.provenance.job_record import json_value


def main(arguments: list[str]) -> int:
    """Plan the workflow and write the jobs that would run to FILE; return Snakemake's exit status."""
    dag = plan_workflow(arguments[1:])
    if dag is None:
        return 1
    Path(arguments[0]).write_text(json.dumps(_plan(dag)), encoding="utf-8")
    return 0


def plan_workflow(arguments: list[str]) -> Any | None:
    """Return Snakemake's job graph for a command line, None if planning fails."""
    dags: list[Any] = []
    execute = api.DAGApi.execute_workflow

    def keep_dag(self: api.DAGApi, *args: Any, **kwargs: Any) -> None:
        execute(self, *args, **kwargs)
        dags.append(self.workflow_api._workflow.dag)

    # Snakemake's command line has no option to return its plan.
    api.DAGApi.execute_workflow = keep_dag
    parser, parsed = cli.parse_args(arguments)
    succeeded = cli.args_to_api(parsed, parser)
    return dags[0] if succeeded and dags else None


def _plan(dag: Any) -> dict[str, Any]:
    """The jobs that would run, and whether a checkpoint among them may add more."""
    jobs = [job for job in dag.needrun_jobs(exclude_finished=False) if not job.rule.norun]
    return {"jobs": [_job(dag, job) for job in jobs], "open": any(job.rule.is_checkpoint for job in jobs)}


def _job(dag: Any, job: Any) -> dict[str, Any]:
    reason = dag.reason(job)
    upstream = [parent for parent in dag.dependencies[job] if dag.needrun(parent)]
    return {
        "rule": job.rule.name,
        "wildcards": {name: str(value) for name, value in job.wildcards_dict.items()},
        "params": json_value(dict(job.params.items())),
        "inputs": sorted(map(str, job.input)),
        "manifest": str(job.output.get("manifest", "")),
        "missing": sorted(map(str, reason.missing_output)),
        "incomplete": sorted(map(str, reason.incomplete_output)),
        "updated": sorted(map(str, reason.updated_input - reason.updated_input_run)),
        "after": sorted({str(parent.output.get("manifest", "")) for parent in upstream}),
        "reasons": list(reason.get_names()),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
