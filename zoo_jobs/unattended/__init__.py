"""`python -m zooforge.zoo_jobs.unattended run NAME --store URL`: `zoo run` as a scheduler's job.

What is asked of the zoo is in ``ZOO_REQUEST``, as `zoo cluster submit` writes it. A scheduler knows one thing about a
job that ended: whether to try it again. What must not be tried again (bad input, a stop, a cap, repeated failures)
ends with status 0, after `control.json` says why: read the truth there, not in the job's status. `pending` lists what
such jobs left unfinished in a store, `begun` the jobs that began at all, and `stop NAME` says that a zoo's run has to
end and stay stopped.
"""
