"""Prediction of 1 m maps of impervious surface from composites and trained networks."""
