"""Protocols of the benchmark, one file each; ``registry.PROTOCOLS`` lists them."""
