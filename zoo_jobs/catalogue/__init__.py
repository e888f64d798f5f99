"""The zoos that come with the project, as YAML files, and the specs of zoos in a store.

Public: `entries.load`, `entries.resolve`, `in_store.resolve`, `in_store.register`.
"""
