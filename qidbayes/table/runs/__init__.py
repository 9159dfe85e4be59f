"""Runs of other programs, lm-eval and llama.cpp, as rows of a measurement table."""
