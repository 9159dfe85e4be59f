"""Measuring: checkpoints in, a table of losses out."""
