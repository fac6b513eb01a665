"""From composites and trained networks to 1 m maps of impervious surface."""
