"""What every test shares: the hypothesis profile, and a compilation cache away from the user's."""

import os

import polars as pl
import pytest
from hypothesis import HealthCheck, settings
from plain import plain

import qidbayes as qb

# Fits compile, and the machine may be busy: time is asserted where it matters, not as a deadline of every case.
settings.register_profile("qidbayes", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("qidbayes")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the programs that tests compile in pytest's own cache folder, also in the processes tests start."""
    config.addinivalue_line("markers", "slow: left out unless asked for with -m slow (`make test-laws`)")
    shift_seeds(int(os.environ.get("QIDBAYES_TEST_SEED_SHIFT", "0")))
    cache = getattr(config, "cache", None)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and cache is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache.mkdir("jax"))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def shift_seeds(by: int) -> None:
    """Let every fit of this process draw from another seed than it asks for, as `make test-elsewhere` wants."""
    if by:
        import jax

        key = jax.random.key
        jax.random.key = lambda seed, **options: key((seed + by) % 2**32, **options)


EXPECTED = {
    "plots/": "Assumption Diagnostics Extrapolation",  # fits are made up: 100 draws, two widths
    "cli/test_atlas.py": "Diagnostics",  # a stand-in of few draws
    "cli/test_at.py": "Assumption Diagnostics Extrapolation",
    "cli/test_cli_answers.py": "Assumption Diagnostics",
    "decide/test_advise.py": "Assumption",
    "infer/test_covariates.py": "Data Diagnostics",
    "infer/test_every_law.py": "Diagnostics",
    "infer/test_pooling.py": "Data Diagnostics",
    "noise/test_kernels.py": "Assumption Unfitted",
    "posterior/test_conditioning.py": "Assumption",
    "posterior/test_contraction.py": "Assumption Diagnostics Extrapolation",
    "posterior/test_distance.py": "Assumption",
    "posterior/test_kept_coverage.py": "Assumption Diagnostics Extrapolation",
    "posterior/test_training_level.py": "Assumption",
    "posterior/test_unfitted.py": "Assumption Diagnostics",  # of made-up fits
    "score/test_sbc.py": "Data Diagnostics",  # a law's prior makes tables that no model makes; few draws
}
"""Warnings that these tests cause on purpose, or where what they assert does not rest on it. Which fits fail a check
differs between processors, so that no test of these can wait for one."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out unless a marker expression is given; put the longest first.

    The documents' examples take minutes each: at the end, one process would be left alone with them.
    """
    for item in items:
        for part, categories in EXPECTED.items():
            if f"tests/{part}" in item.path.as_posix():
                for category in categories.split():
                    item.add_marker(pytest.mark.filterwarnings(f"ignore::qidbayes.errors.{category}Warning"))
    if not config.getoption("markexpr"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    items.sort(key=lambda item: item.path.name != "test_documentation.py")


@pytest.fixture(scope="session")
def pythia() -> pl.DataFrame:
    """The paper's 360 points."""
    return qb.load_table("pythia")


@pytest.fixture(scope="session")
def unified(pythia: pl.DataFrame) -> qb.Fit:
    """The unified law fitted to them with the default settings."""
    return qb.fit(pythia, plain("unified"), random_seed=0)


@pytest.fixture(scope="session")
def per_bit(pythia: pl.DataFrame) -> qb.Fit:
    """One law per bit width fitted to them."""
    return qb.fit(pythia, plain("per-bit"), random_seed=0)


@pytest.fixture(scope="session")
def one_width(pythia: pl.DataFrame) -> qb.Fit:
    """The unified law fitted to one bit width, away from its reference point, which cannot tell gamma."""
    return qb.fit(pythia.filter(bits=3.0), plain("unified"), random_seed=0)
