"""Charts as SVG, drawn by the server: shapes only, which the style sheet colours and scales.

Text, scales and legends are HTML beside them (`templates/charts.html`), and each chart has a table of its
data for readers who cannot see it. Pure.
"""
