"""TemporalWiki (Jang et al. 2022): monthly Wikipedia and Wikidata snapshots -> what changed, and what did not.

dumps.py (bytes -> pages), wikitext.py (page -> sentences), wikidata.py (entity -> statements), shards.py (steps that
resume), ingest.py (snapshots -> Parquet), facts.py (pairs of snapshots -> candidate probes), select.py (filters, caps),
texts.py (sentences -> documents), build.py (benchmark directory), published.py (the published files).
"""
