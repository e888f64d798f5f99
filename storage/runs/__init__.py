"""Writes and reads training runs: commit.commit_part, ledger.read_ledger, trained_weights.read_weights, claims.Claims,
run_files (create_run, pin_run, start_attempt, want_run, stop_run, UsageWriter), and marks.unmark, by which commits and
collections meet.
"""
