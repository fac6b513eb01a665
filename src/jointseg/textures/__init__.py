"""Chips from labelled high-resolution images with simulated Sentinel-2 images."""
