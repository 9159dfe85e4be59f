"""How much memory there is, and refusing what would not fit before it starts."""

from pathlib import Path

from qidbayes.errors import InputError

_CGROUP = Path("/sys/fs/cgroup")


def available() -> float:
    """Return the bytes that this process may still take: by the machine, its container and its own limit."""
    return min(_of_machine(), _of_container(), _of_process())


def check(needed: float, what: str, remedy: str) -> None:
    """Refuse what needs more memory than there is.

    Raises
    ------
    InputError
        With both figures.
    """
    free = available()
    if needed > free:
        raise InputError(
            f"{what} would need about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free: {remedy}"
        )


def _of_machine() -> float:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable:")


def _of_container() -> float:
    try:
        limit, used = ((_CGROUP / f"memory.{name}").read_text() for name in ("max", "current"))
        return float(limit) - float(used)  # "max" is no number
    except (OSError, ValueError):
        return float("inf")


def _of_process() -> float:
    try:
        import resource
    except ImportError:  # Windows has none
        return float("inf")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    used = _kilobytes(Path("/proc/self/status"), "VmSize:")
    return limit - used if used < float("inf") else float(limit)


def _kilobytes(path: Path, name: str) -> float:
    """Return a line's number of kilobytes in bytes; infinite where the system has no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * float(line.split()[1]) for line in lines if line.startswith(name)), float("inf"))
