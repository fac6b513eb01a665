"""Chips made of labelled high-resolution images, whose Sentinel-2 side is simulated."""
