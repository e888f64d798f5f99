"""The zoos that come with the project, as YAML files, the specs of zoos in a store, and the parents that they need.

Public: `entries.load`, `entries.resolve`, `in_store.resolve`, `in_store.register`.
"""
