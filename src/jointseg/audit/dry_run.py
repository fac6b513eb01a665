"""What Snakemake would run, as JSON: a program of its own, since Snakemake keeps state in its process.

    python -m jointseg.audit.dry_run FILE -n --configfile config.yaml ...

Everything after FILE goes to Snakemake, so that it plans exactly as on its own command line, profile included.
"""

import json
import sys
from pathlib import Path
from typing import Any

from snakemake import api, cli

from jointseg.provenance.job_record import json_value


def main(arguments: list[str]) -> int:
    """Plans the flow and writes the jobs that would run to FILE; returns Snakemake's exit status."""
    dag = plan_workflow(arguments[1:])
    if dag is None:
        return 1
    Path(arguments[0]).write_text(json.dumps(_plan(dag)), encoding="utf-8")
    return 0


def plan_workflow(arguments: list[str]) -> Any | None:
    """Snakemake's plan for a command line; None where it fails."""
    found: list[Any] = []
    execute = api.DAGApi.execute_workflow

    def remember(self: api.DAGApi, *given: Any, **named: Any) -> None:
        execute(self, *given, **named)
        found.append(self.workflow_api._workflow.dag)

    # The command line has no option to hand out its plan.
    api.DAGApi.execute_workflow = remember
    parser, parsed = cli.parse_args(arguments)
    done = cli.args_to_api(parsed, parser)
    return found[0] if done and found else None


def _plan(dag: Any) -> dict[str, Any]:
    """Jobs that would run, and whether a checkpoint among them may add more."""
    jobs = [job for job in dag.needrun_jobs(exclude_finished=False) if not job.rule.norun]
    return {"jobs": [_job(dag, job) for job in jobs], "open": any(job.rule.is_checkpoint for job in jobs)}


def _job(dag: Any, job: Any) -> dict[str, Any]:
    reason = dag.reason(job)
    return {
        "rule": job.rule.name,
        "wildcards": {name: str(value) for name, value in job.wildcards_dict.items()},
        "params": json_value(dict(job.params.items())),
        "inputs": sorted(map(str, job.input)),
        "manifest": str(job.output.get("manifest", "")),
        "missing": sorted(map(str, reason.missing_output)),
        "incomplete": sorted(map(str, reason.incomplete_output)),
        "updated": sorted(map(str, reason.updated_input - reason.updated_input_run)),
        "after": sorted({str(each.output.get("manifest", "")) for each in dag.dependencies[job] if dag.needrun(each)}),
        "reasons": list(reason.get_names()),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
