"""Kinds of documents, one file each: a function from a file to documents."""
