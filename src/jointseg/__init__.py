"""1-m impervious surface maps from 10-m Sentinel-2 imagery."""
