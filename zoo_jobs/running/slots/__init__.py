"""The slots in which tasks run. Each is a Ray actor or a thread, which trains tasks and commits their parts.

Public: `place.Place`, `worker.WorkerContext`, `unit_runner.UnitRunner`.
"""
