"""Trainings of the generator and the segmenter, and the steps that run them."""
