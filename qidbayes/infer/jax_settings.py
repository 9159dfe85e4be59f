"""JAX's settings while this package computes; the caller's are as before afterwards."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import jax
from jax.experimental.compilation_cache import compilation_cache

from qidbayes.resources import cache_folder

_LOCK = threading.RLock()


@contextmanager
def kept_on_disk() -> Iterator[None]:
    """Keep what is compiled here for the next process, unless the user has said where JAX keeps programs."""
    folder = cache_folder()
    if jax.config.jax_compilation_cache_dir is not None or "JAX_COMPILATION_CACHE_DIR" in os.environ or folder is None:
        yield  # without a folder to keep them in, every process compiles again
        return
    ours = {
        "jax_compilation_cache_dir": str(folder / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    with _LOCK:
        before = {name: getattr(jax.config, name) for name in ours}
        try:
            _use(ours)
            yield
        finally:
            _use(before)


def _use(settings: dict[str, object]) -> None:
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # which would go on with the folder that it had
