"""Laws: the equation language, priors, and the catalogue of shipped laws."""

from qidbayes.law.law import COVARIATES, Law, Noise
from qidbayes.law.prior import Prior
from qidbayes.law.read import law_from_dict, law_names, load_law, parse_law

__all__ = ["COVARIATES", "Law", "Noise", "Prior", "law_from_dict", "law_names", "load_law", "parse_law"]
