"""Read model zoos: ``zooforge.open_zoo(url)``."""

__version__ = "0.1.0"
