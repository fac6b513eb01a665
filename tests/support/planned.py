"""Job counts from the output of a Snakemake dry run."""


def planned_jobs(output: str) -> dict[str, int]:
    """Return the number of planned jobs by rule, without the rule `all`."""
    lines = output.splitlines()
    counts = {}
    for start in (i for i, line in enumerate(lines) if line.startswith("job ") and "count" in line):
        for line in lines[start + 2 :]:
            if not line.strip() or line.startswith("total"):
                break
            rule, count = line.split()[:2]
            counts[rule] = int(count)
    return {rule: count for rule, count in counts.items() if rule != "all"}
