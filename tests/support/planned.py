"""What a dry run of Snakemake says, as numbers."""


def planned_jobs(said: str) -> dict[str, int]:
    """Of what a dry run says: how many jobs of each rule would run, the target left out."""
    lines = said.splitlines()
    found = {}
    for start in (i for i, line in enumerate(lines) if line.startswith("job ") and "count" in line):
        for line in lines[start + 2 :]:
            if not line.strip() or line.startswith("total"):
                break
            rule, count = line.split()[:2]
            found[rule] = int(count)
    return {rule: count for rule, count in found.items() if rule != "all"}
