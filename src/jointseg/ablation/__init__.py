"""Ablation of super-resolution: variants of the mapping method, trained alike and scored on the same test chips."""
