"""Catalog entries, branch manifests and their rules; everything that makes Memoturn special is decided here."""
