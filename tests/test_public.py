"""What `import qidbayes as qb` offers: its public names, and what a look at them costs."""

import subprocess
import sys

import pytest

import qidbayes as qb


@pytest.mark.parametrize(("old", "new"), {"Point": "PointEstimate", "design": "next_measurements"}.items())
def test_an_old_name_says_the_new_one(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"qidbayes.{old} is now qidbayes.{new}"):
        assert getattr(qb, old) is getattr(qb, new)


def test_completion_offers_the_public_names() -> None:
    assert set(qb.__all__) <= set(dir(qb))
    assert all(name.startswith("__") for name in set(dir(qb)) - set(qb.__all__))
    assert all(hasattr(qb, name) for name in qb.__all__)


def test_a_python_prompt_completes_them_without_a_sampler() -> None:
    script = (
        "import rlcompleter, sys, qidbayes as qb\n"
        "complete = rlcompleter.Completer({'qb': qb}).attr_matches\n"
        "print([name.strip('()') for name in complete('qb.load_')])\n"
        "print(dir(qb) and sorted({'jax', 'pymc', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.splitlines()
    assert names == "['qb.load_fit', 'qb.load_law', 'qb.load_table']"
    assert heavy == "[]"


def test_what_is_asked_of_several_is_written_once() -> None:
    assert qb.Fit.predict is qb.Stack.predict is qb.PointEstimate.predict
    assert qb.Fit.tokens_to_threshold is qb.Stack.tokens_to_threshold is qb.PointEstimate.tokens_to_threshold
    assert qb.Fit.project is qb.Stack.project
    for asked in (qb.Fit.predict, qb.Fit.tokens_to_threshold, qb.Fit.project):
        assert asked.__doc__ and "Returns\n" in asked.__doc__
