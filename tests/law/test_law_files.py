"""Law files: what is read, what is refused, and that no text does anything else."""

import contextlib
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from quick import quick

from qidbayes.errors import InputError
from qidbayes.law import Law, law_from_dict, law_names, load_law, parse_law
from qidbayes.resources import shipped

GOOD = """
equation = "b * D**beta"
[parameters]
b = {prior = "LogNormal", mu = 0, sigma = 2}
beta = {prior = "Normal", mu = 0.5, sigma = 0.3}
"""
HUGE = "1" + "0" * 400
WRONG = {
    "not TOML": ("equation = ", "not valid TOML"),
    "twice": ('equation = "1"\nequation = "2"', "not valid TOML"),
    "a date with no such day": ("reference = {D = 2026-02-31}", "not valid TOML"),
    "a 5,000-digit number": ("[reference]\nD = " + "9" * 5000, "not valid TOML"),
    "deep nesting": ("title = " + "[" * 40_000, "not valid TOML: it is nested too deeply"),
    "a long file": ("#" * 50_001, "longer than 50000 characters"),
    "a deep key": ("a" + ".a" * 20_000 + " = 1", "too many dots"),
    "an unknown key": (GOOD + "[nosie]\n", "the key nosie is not known; did you mean noise"),
    "a misspelt key": (GOOD.replace("equation", "equaton"), "equation is missing; .* equaton is there: did you mean"),
    "a name of its own": ('name = "x"\n' + GOOD, "the key name is not known"),
    "no equation": ("[parameters]", "equation is missing; give a string"),
    "no parameters": ('equation = "b"', r"parameters is missing; give a table, \[parameters\]"),
    "a number for an equation": ("equation = 3\n[parameters]", "equation = 3; give a string"),
    "a list for a table": ('equation = "b"\nparameters = []', r"parameters = \[\]; give a table"),
    "code for an equation": ("""equation = "__import__('os')"\n[parameters]""", "not part of the equation language"),
    "code in a definition": (GOOD + """[define]\nx = "open('f')"\n""", "not part of the equation language"),
    "a definition of a later one": (GOOD + '[define]\nx = "y"\ny = "b"\n', "'y' has no prior and no definition before"),
    "a definition that is not used": (GOOD + '[define]\nx = "b"\n', "'x' is declared but"),
    "a parameter without a prior": ('equation = "b * bet"\n[parameters]\nb = {prior = "Normal", mu = 0, sigma = 1}',
                                    "'bet' has no prior"),
    "an unknown prior": (GOOD.replace('"LogNormal"', '"Cauchy"'), "prior 'Cauchy' is not known; choose one of Normal"),
    "a missing argument": (GOOD.replace("mu = 0,", ""), "LogNormal takes mu and sigma; got sigma"),
    "an argument named family": (GOOD.replace("mu = 0,", 'family = 1, mu = 0,'), "takes mu and sigma; got family"),
    "an argument named self": (GOOD.replace("mu = 0,", 'self = 1, mu = 0,'), "takes mu and sigma; got mu, self"),
    "a negative sigma": (GOOD.replace("sigma = 2", "sigma = -2"), "sigma must be above 0"),
    "an infinite sigma": (GOOD.replace("sigma = 2", "sigma = inf"), "sigma = inf; give a finite number"),
    "a huge mu": (GOOD.replace("mu = 0,", f"mu = {HUGE},"), r"mu = 10{199}…; give a finite number"),
    "text for mu": (GOOD.replace("mu = 0,", 'mu = "0",'), r"\[parameters.b\]: mu = '0'; give a finite number"),
    "a deep table for mu": (GOOD.replace("mu = 0,", "mu = {" + "a." * 398 + "a = 1},"), "mu = {'a': .*…; give a"),
    "true for mu": (GOOD.replace("mu = 0,", "mu = true,"), "mu = True; give a finite number"),
    "an unknown group": (GOOD.replace("sigma = 2", 'sigma = 2, by = "os"'), "by = 'os' is not a group"),
    "a huge reference": (GOOD + f"[reference]\nD = {HUGE}", "D = 10{199}…; give a finite number"),
    "a deep reference": (GOOD + "[reference]\nD." + "a." * 398 + "a = 1", "D = {'a': .*…; give a finite number"),
    "a reference of nothing": (GOOD + "[reference]\nN = 1e9", "'N', which is not a covariate"),
    "a negative reference": (GOOD + "[reference]\nD = -1", "D must be a positive number"),
    "an unknown noise group": (GOOD + '[noise]\ngroups = ["suite"]', "choose from 'model' and 'checkpoint'"),
    "an unknown noise key": (GOOD + '[noise]\nkind = "t"', r"\[noise\]: the key kind is not known; Accepted: .*groups"),
    "an unknown noise family": (GOOD + '[noise]\nfamily = "t"', "family 't' is not known; choose one of normal"),
    "Student's t with effects": (GOOD + '[noise]\nfamily = "student_t"', "'student_t' goes with groups = .."),
    "a huge noise scale": (GOOD + f"[noise]\nscale = {HUGE}", "scale = 10{199}…; give a finite number"),
    "a deep noise scale": (GOOD + "[noise]\nscale." + "a." * 398 + "a = 1", "scale = {'a': .*…; give a finite number"),
    "a published stranger": (GOOD + "[published.x]\nk = 1", "'k' is not a constant of the equation"),
    "a huge published constant": (GOOD + f"[published.x]\nb = {HUGE}", r"\[published.x\]: b = 10{199}…; give a"),
    "published text": (GOOD + '[published.x]\nb = "1"', r"\[published.x\]: b = '1'; give a finite number"),
    "an unknown response": ('response = "os"\n' + GOOD, "response 'os' is not known"),
    "a number for a 16-bit law": ("loss_16bit = 3\n" + GOOD, "loss_16bit = 3; give a string"),
    "a 16-bit law that is not shipped": ('loss_16bit = "kaplan"\n' + GOOD, "no shipped law is called 'kaplan'"),
    "a file for a 16-bit law": ('loss_16bit = "./mine.toml"\n' + GOOD, "no shipped law is called './mine.toml'"),
    "a QiD law for a 16-bit law": ('loss_16bit = "unified"\n' + GOOD, "of QiD and 'unified' of QiD"),
    "a 16-bit law in part": (GOOD + "[loss_16bit]\ntitle = 'x'", r"\[loss_16bit\]: equation is missing"),
    "deep 16-bit laws": (GOOD + "[loss_16bit]\n" + "loss_16bit." * 398 + "a = 1", "has none beside it"),
    "a reserved name": (GOOD.replace("beta", "sigma_ref"), "cannot name a parameter"),
    "a covariate's name": ('equation = "D"\n[parameters]\nD = {prior = "HalfNormal", sigma = 1}', "already means"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with quick(), pytest.raises(InputError, match=message):
        parse_law(text, where="mine.toml")


_KEYS = st.sampled_from(["equation", "parameters", "define", "reference", "noise", "published", "title", "response"])
_WORDS = st.sampled_from(
    [*"bDNP", "beta", "prior", "Normal", "mu", "sigma", "by", "bits", "pooling", "none", "groups", "scale", "family"]
)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _WORDS | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
_declared: dict[str, Any] = {
    "name": "mine",
    "equation": "b * D**beta",
    "parameters": {
        "b": {"prior": "LogNormal", "mu": 0.0, "sigma": 2.0, "by": "bits", "pooling": "none"},
        "beta": {"prior": "Normal", "mu": 0.5, "sigma": 0.3},
    },
    "reference": {"D": 1e11},
    "noise": {"groups": ["model"], "scale": 0.5},
    "published": {"paper": {"b": {"4": 1.0}, "beta": 0.5}},
}


def _read_or_refused(text: str) -> None:
    law = None
    with quick(), contextlib.suppress(InputError):
        law = parse_law(text)
    assert law is None or law.constants


@settings(max_examples=400)
@given(st.text(max_size=200) | st.text(string.printable, max_size=200))
@example("a" + ".a" * 50_000 + " = 1")
@example("a" + ".a" * 400 + " = 1")
@example(("[" + "a." * 398 + "a]\n") * 60)
@example('equation = "' + "b" * 49_000 + '"\n[parameters]')
def test_any_text_is_a_law_or_refused(text: str) -> None:
    _read_or_refused(text)


@settings(max_examples=300)
@given(st.data())
def test_any_damage_to_a_law_file_is_a_law_or_refused(data: st.DataObject) -> None:
    text = (shipped("models") / f"{data.draw(st.sampled_from(law_names()))}.toml").read_text()
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 12))
        text = text[:at] + data.draw(st.text(string.printable, max_size=6) | _WORDS | _KEYS) + text[at + length :]
    _read_or_refused(text)


@settings(max_examples=400)
@given(st.data())
def test_any_declaration_is_a_law_or_refused(data: st.DataObject) -> None:
    declared = {**_declared, data.draw(_KEYS): data.draw(_values)}
    if data.draw(st.booleans()):
        spec = {**_declared["parameters"]["b"], data.draw(_WORDS): data.draw(_values)}
        declared["parameters"] = {**_declared["parameters"], "b": spec}
    try:
        law = law_from_dict(declared)
    except InputError:
        return
    assert law_from_dict(law.to_dict()) == law


@pytest.mark.parametrize("name", law_names())
def test_a_shipped_law_survives_plain_types(name: str) -> None:
    law = load_law(name)
    again = law_from_dict(law.to_dict())
    assert again == law
    assert again.fingerprint() == law.fingerprint()
    assert isinstance(again, Law) and law.title and law.source.startswith(("arXiv", "Kaplan"))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(InputError, match=r"mine.toml: cannot be read \(No such file"):
        load_law(path)
    path.write_text(GOOD)
    assert load_law(path).name == "mine"
    plain = load_law(path)
    path.write_text("\ufeff" + GOOD, encoding="utf-8")  # as Windows' editors write it
    assert load_law(path) == plain
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8"):
        load_law(path)
    path.write_text("#" * 300_000)
    with pytest.raises(InputError, match="larger than 50000 bytes"):
        load_law(path)
    with pytest.raises(InputError, match="cannot be read"):
        load_law(f"{tmp_path}/")
    with pytest.raises(InputError, match=r"no law is called .unifed. .did you mean .unified..*; shipped are atlas"):
        load_law("unifed")
