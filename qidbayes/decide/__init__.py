"""Decisions: how few bits will do, which model for some memory, and what to measure next."""
