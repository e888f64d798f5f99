"""`make check-gpu`: what a machine with a card shows, with numpy and torch alone."""
