"""Networks of the chain: super-resolution generators, discriminators and the segmenter (pure torch)."""
