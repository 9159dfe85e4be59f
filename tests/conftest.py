"""What every test shares: the hypothesis profile, and a compilation cache away from the user's."""

import os

import pytest
from hypothesis import HealthCheck, settings

# Fits compile, and the machine may be busy: time is asserted where it matters, not as a deadline of every case.
settings.register_profile("qidbayes", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qidbayes")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the programs that tests compile in pytest's own cache folder, also in the processes tests start."""
    cache = getattr(config, "cache", None)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and cache is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache.mkdir("jax"))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
