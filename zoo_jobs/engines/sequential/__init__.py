"""The engine ``sequential``: one model at a time in plain PyTorch. ``engine.SequentialEngine`` is its public name."""
