"""Reports about published zoos, for people."""
