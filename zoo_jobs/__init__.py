"""Training of zoos: specs, data, engines, runs, reports. Imports ``zooforge.storage``."""

if __name__ != "zooforge.zoo_jobs":
    raise ImportError(f"import zooforge.zoo_jobs, not {__name__}: under two names its classes would exist twice")
