"""Refuse to work in a fork of a process that has threads of polars or JAX: the fork would hang."""

import os

_THREADED: list[int] = []


def note() -> None:
    """Note that this process is about to have threads of polars or JAX.

    Raises
    ------
    RuntimeError
        In a fork of a process that had them already.
    """
    if not _THREADED:
        _THREADED.append(os.getpid())
    elif _THREADED[0] != os.getpid():
        raise RuntimeError(
            f"this process ({os.getpid()}) was forked from one ({_THREADED[0]}) that had loaded a table or a fit, and "
            "the threads of polars and JAX are not in it: anything asked here would hang. Start processes anew, as "
            "multiprocessing.get_context('spawn') and 'forkserver' do"
        )
