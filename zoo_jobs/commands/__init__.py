"""The verbs of `zoo`, one module each with a ``command``; `options` and `working` hold what several verbs share."""
