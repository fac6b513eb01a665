"""Does super-resolution help? Ways to map, trained alike with several seeds and scored on the same held-out chips."""
