"""The one script of every rule: calls the step function of the rule's own name."""

from jointseg.run.steps import run

if __name__ == "__main__":  # worker processes of a step import this file too
    run(snakemake)
