"""Fits as one HTML page that can be sent to somebody: `qidbayes.report`, whose name a folder cannot have as well."""
