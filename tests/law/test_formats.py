"""The error of number formats on Gaussian data, against published tables and by brute force."""

import math

import numpy as np
import pytest

import qidbayes as qb

# Equidistant levels for a standard normal: Max (1960), Quantizing for minimum distortion, Table II.
MAX_1960 = {2: 0.3634, 3: 0.1902, 4: 0.1188, 8: 0.03744, 16: 0.01154, 32: 0.00349}
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


@pytest.mark.parametrize("levels", MAX_1960)
def test_integers_have_the_published_errors(levels: int) -> None:
    assert qb.gaussian_mse(math.log2(levels)) == pytest.approx(MAX_1960[levels], rel=3e-3)


def test_four_bits_of_floating_point_by_brute_force() -> None:
    x = np.linspace(-8, 8, 40_001)
    weight = np.exp(-0.5 * x**2)
    levels = np.concatenate([-E2M1, E2M1])

    def error(scale: float) -> float:
        nearest = np.abs(x[:, None] - scale * levels).min(axis=1)
        return float((nearest**2 * weight).sum() / weight.sum())

    best = min(error(scale) for scale in np.linspace(0.2, 1.0, 161))
    assert qb.gaussian_mse(exponent_bits=2, mantissa_bits=1) == pytest.approx(best, rel=1e-3)


def test_a_format_without_an_exponent_is_an_integer_format_of_two_zeros() -> None:
    # 2^(M+1) - 1 levels, since zero stands there twice.
    assert qb.gaussian_mse(exponent_bits=0, mantissa_bits=3) == pytest.approx(qb.gaussian_mse(math.log2(15)), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give either bits"),
        ({"bits": 4, "mantissa_bits": 1}, "give either bits"),
        ({"bits": 16}, "bits must be from 1 to 12"),
        ({"exponent_bits": 2}, "must be whole numbers"),
        ({"exponent_bits": 8, "mantissa_bits": 7}, "1 to 11 together"),
    ],
)
def test_what_is_no_format_is_refused(given: dict[str, int], says: str) -> None:
    with pytest.raises(qb.InputError, match=says):
        qb.gaussian_mse(**given)
