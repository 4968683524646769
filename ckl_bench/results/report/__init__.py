"""Records -> pictures: curves, the trade-off plane, a sortable table, a fact explorer, token weights.

figures.py draws (matplotlib), facts.py sorts facts by what became of them, page.py joins it all into one HTML file,
terminal.py shows a run where there is no browser.
"""
