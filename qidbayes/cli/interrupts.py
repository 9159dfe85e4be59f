"""Ctrl-C, remembered: what is being imported or traced when it comes may swallow the exception."""

import signal
from types import FrameType

_came: list[int] = []


def listen() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt and is remembered."""
    _came.clear()
    signal.signal(signal.SIGINT, _note)


def came() -> bool:
    """Return whether Ctrl-C has come."""
    return bool(_came)


def stop_if_it_came() -> None:
    """Raise KeyboardInterrupt, again if need be."""
    if _came:
        raise KeyboardInterrupt


def _note(number: int, frame: FrameType | None) -> None:
    del frame
    _came.append(number)
    raise KeyboardInterrupt
