"""The log's tiles over HTTP."""
