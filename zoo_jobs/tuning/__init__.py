"""The search for a grid before it is fixed (`zoo tune`): what is tried, the trials, the proposed grid.

Public: `search_spec.TuneSpec`, `search_spec.proposal`, `trials.search`.
"""
