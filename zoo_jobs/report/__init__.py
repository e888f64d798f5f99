"""The report about a published zoo: one HTML page and its pictures, and the comparison with the reference's figures.

Public: `read.read_contents`, `read.read_accounts`, `page.write_report`, `fidelity.references`.
A section of the page is a file in `sections/`, named like its anchor; `charts/` has what the charts look like.
"""
