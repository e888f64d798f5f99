"""A deterministic simulation of the store protocol: every order of requests can be chosen and repeated."""
