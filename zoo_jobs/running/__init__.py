"""Runs a stage: checks it, drives its workers, commits what they train and accounts for it.

Public: `work.Work`, `stage.check`, `drive.drive`, `driver.Driver`, `inputs.Run`; ``slots`` has the workers.
"""
