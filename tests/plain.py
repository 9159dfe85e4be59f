"""Shipped laws without a discrepancy."""

from pathlib import Path

from qidbayes.law import Law, load_law
from qidbayes.resources import shipped


def plain(name: str) -> Law:
    """Return a law that takes the equation at its word: fitted in a second where the default takes half a minute."""
    return load_law(name).with_noise(discrepancy="none")


def plain_file(name: str, folder: Path) -> Path:
    """Write such a law to a file, for the command line."""
    text = (shipped("models") / f"{name}.toml").read_text()
    path = folder / f"{name}.toml"
    path.write_text(text.replace("[noise]\n", '[noise]\ndiscrepancy = "none"\n'))
    return path
