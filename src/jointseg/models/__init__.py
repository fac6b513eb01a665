"""Networks in torch: super-resolution generators, discriminators and segmenters."""
