"""Engines: they train populations of models. ``contract`` defines an engine, ``choose.choose`` picks one,
and ``growth.Growth`` drives it from epoch to epoch."""
