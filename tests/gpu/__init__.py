"""`make check-gpu`: checks and measurements on a machine with a GPU, which needs only numpy and torch."""
