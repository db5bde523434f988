"""Charts as SVG that the server draws: shapes only, which the style sheet colours and stretches.

Words, scales and keys are HTML beside them (`templates/charts.html`), and each chart has a table of its
data, so that nobody needs to see one. Pure.
"""
