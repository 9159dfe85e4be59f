"""Make Ctrl-C heard: JAX has a callback in the garbage collector, and Python drops what is raised in one."""

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_SOON = 0.1
"""Seconds after which one that was dropped is raised again: by then the callback is over."""

_came: list[int] = []
_lost: list[int] = []


def listen() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from now on; where Python drops it, raise it again."""
    _came.clear()
    signal.signal(signal.SIGINT, _note)
    sys.unraisablehook = _dropped
    if hasattr(signal, "SIGALRM"):  # not on Windows, where it has to wait for the next progress
        signal.signal(signal.SIGALRM, _again)


def came() -> bool:
    """Return whether Ctrl-C has come."""
    return bool(_came)


def stop_if_it_came() -> None:
    """Raise KeyboardInterrupt, again if need be."""
    if _came:
        _lost.clear()
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    del frame
    _came.append(number)
    _lost.clear()
    raise KeyboardInterrupt


def _dropped(what: "UnraisableHookArgs") -> None:
    if not (_came and issubclass(what.exc_type, KeyboardInterrupt)):
        sys.__unraisablehook__(what)
    elif hasattr(signal, "setitimer"):
        _lost[:] = _came[-1:]
        signal.setitimer(signal.ITIMER_REAL, _SOON)


def _again(number: int, frame: FrameType | None) -> None:
    del number, frame
    if _lost:  # nobody has raised it since
        stop_if_it_came()
