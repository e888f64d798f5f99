"""Shows a run while it grows and afterwards: totals, status, the log in its store, progress on a terminal.

Public: `facts.read_facts`, `status.status`, `status.imported_status`, `status_screen.watch`,
`totals.store_totals`, `run_log.RunLog`, `run_log.read_logs`, `progress.ProgressObserver`, `eta.eta_seconds`.
"""
