"""The progress bar of a command, which Ctrl-C and warnings get past."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qidbayes.cli.interrupts import stop_if_it_came
from qidbayes.errors import SlowWarning
from qidbayes.progress import Progress, bar


@contextmanager
def sampling(doing: str = "sampling", beginning: str = "building the model") -> Iterator[Progress]:
    """Yield what `qidbayes.fit` calls with the transitions done and their total, or a backtest with its fits."""
    with warnings.catch_warnings(), bar(doing, beginning) as (move, console):
        warnings.simplefilter("always", SlowWarning)
        others = warnings.showwarning

        def say(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, SlowWarning):
                console.print(f"qidbayes: {message}", markup=False, highlight=False, soft_wrap=True)
            else:
                others(message, category, *where, **more)

        warnings.showwarning = say

        def tell(done: int, total: int) -> None:
            stop_if_it_came()  # while the program was traced, say
            move(done, total)

        yield tell
