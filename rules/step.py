"""The one script of every rule: calls the step function of the rule's own name."""

from jointseg.steps import run

run(snakemake)
