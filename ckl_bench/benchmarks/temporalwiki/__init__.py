"""TemporalWiki (Jang et al. 2022): monthly Wikipedia and Wikidata snapshots -> what changed, and what did not.

sources.py (files -> snapshots), dumps.py, multistream.py and cuts.py (bytes -> pages), wikitext.py (page -> sentences),
wikidata.py (entity -> statements that hold), shards.py (steps that resume), ingest.py (snapshots -> Parquet),
revisions.py (which articles are read), diffs.py (texts -> what is new), facts.py (pairs of snapshots -> candidate
probes), select.py (filters, caps), texts.py (sentences -> documents), writing.py (rows of a benchmark), build.py (every
step in turn), workers.py and engines.py (who does it), joins.py (DuckDB), words.py (whole words), published.py (the
published files).
"""
