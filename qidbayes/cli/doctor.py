"""`qidbayes doctor`: what this installation has, and what an extra would add."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

import click

from qidbayes.cli.output import echo_frame, format_option

# What users install; the others are for whoever works on the package.
_EXTRAS = ("measure", "ray")


@click.command()
@format_option
def doctor(fmt: str) -> None:
    """Show what this installation has: versions, the device that fits run on, the cache, and what an extra would add.

    Paste it into a report of a problem. Exits with 1 if a package is missing that fits or answers need.
    """
    import polars as pl

    missing = _missing()
    rows = [("qidbayes", version("qidbayes")), ("Python", f"{platform.python_version()} on {platform.platform()}")]
    rows += [(name, "missing" if name in missing else version(name)) for name in _needed()]
    rows += [("cores", str(os.cpu_count())), ("device of fits", _device()), ("cache", _cache())]
    for extra in _EXTRAS:
        adds = _missing(extra)
        told = f"pip install 'qidbayes[{extra}]' would add {', '.join(adds)}" if adds else "installed"
        rows.append((f"extra {extra}", told))
    echo_frame(pl.DataFrame(rows, schema=["name", "what"], orient="row"), fmt, "This installation")
    if missing:
        raise click.exceptions.Exit(1)


def _needed(extra: str | None = None) -> list[str]:
    """Return the packages that this one needs, or that an extra adds."""
    found = []
    for requirement in requires("qidbayes") or []:
        name, _, marker = requirement.partition(";")
        wanted = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        if (wanted[1] if wanted else None) == extra:
            found.append(re.split(r"[\s<>=!~\[(]", name.strip())[0])
    return sorted(found)


def _missing(extra: str | None = None) -> list[str]:
    return [name for name in _needed(extra) if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _device() -> str:
    try:
        import jax
    except ImportError as error:
        return f"none: JAX cannot be imported ({error})"
    return ", ".join(f"{device.platform} ({device.device_kind})" for device in jax.devices())


def _cache() -> str:
    """Return where compiled programs are kept, and what they take."""
    from qidbayes.resources import cache_folder
    from qidbayes.units import format_bytes

    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = cache_folder()
    if given:
        return f"{given} (JAX_COMPILATION_CACHE_DIR)"
    if folder is None:
        return "none: this user has no home folder, so every process compiles again"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    return f"{folder}, {format_bytes(size)}"
