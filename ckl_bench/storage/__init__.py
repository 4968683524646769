"""Bytes on disk: whole or not at all, verified, one writer at a time."""
