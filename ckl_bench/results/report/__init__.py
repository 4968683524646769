"""Records -> pictures: the claim, the trade-off plane, curves, a sortable table, facts, token weights.

standings.py names and colours rows, claim.py says what they come to, trade_off.py and figures.py draw (matplotlib, by
what drawing.py shares), table.py, weights.py and facts.py make the rest, page.py joins it all into one HTML file, which
watch.py serves as records come in; terminal.py shows a run where there is no browser.
"""
