"""Where a run keeps what it measured: a folder or an object store, and the rows in it. Needs no torch."""
