"""Ways in and out that others defined: the reference's raw tree, tables for numpy, SANE's samples, archives."""
