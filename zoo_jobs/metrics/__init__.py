"""The Prometheus metrics: their registry (`registry.METRICS`), what a driver and a store give them, and the server.

Public: `driver.RunMetrics`, `exporter.StoreMetrics`, `server.serve`.
"""
