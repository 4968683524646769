"""Probes -> scores."""
