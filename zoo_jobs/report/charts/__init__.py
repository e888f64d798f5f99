"""The charts of the report. Public: `drawing.panel_svg`, `drawing.panels_png`; `panels` and `maps` make the panels."""
