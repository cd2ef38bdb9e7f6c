"""Readers and writers of snapshot files, one format a file. Nothing here executes what a file
contains.
"""
