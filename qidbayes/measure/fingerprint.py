"""What a cell's numbers depend on, in one digest: a stored row counts as measured only while its digest is the same."""

from importlib.metadata import PackageNotFoundError, version

from qidbayes.measure.data import text_identity
from qidbayes.measure.plan import Plan, Quantization, TextSet, digest

_DECIDE_NUMBERS = ("qidbayes", "torch", "transformers", "tokenizers", "bitsandbytes")


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide the numbers; `none` for one that is not there.

    Examples
    --------
    >>> sorted(versions())
    ['bitsandbytes', 'qidbayes', 'tokenizers', 'torch', 'transformers']
    """
    found = {}
    for name in _DECIDE_NUMBERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


class Fingerprints:
    """The fingerprints of one plan's cells.

    Parameters
    ----------
    plan
        The plan; local texts it names are read once for their digests.
    """

    def __init__(self, plan: Plan) -> None:
        self._common = {"dtype": plan.dtype, "begin": plan.begin, "seed": plan.seed, "versions": versions()}
        evaluation, calibration = plan.evaluation, plan.calibration
        reference = evaluation.reference_tokenizer
        self._evaluation = {
            "seq_len": evaluation.seq_len,
            "windows": evaluation.windows,
            "reference": reference.name if reference else None,
        }
        self._texts = {texts.name: text_identity(texts) for texts in evaluation.datasets}
        self._calibration = calibration and {
            "text": text_identity(calibration.dataset),
            "windows": calibration.windows,
            "seq_len": calibration.seq_len,
        }

    def of(
        self, commit: str, tokenizer: str, quantization: Quantization | None, files: str | None, texts: TextSet
    ) -> str:
        """Return a cell's fingerprint.

        Parameters
        ----------
        commit, tokenizer, files
            What the checkpoint, its tokenizer and, for prequantized cells, the quantized files were pinned to.
        quantization
            None for the 16-bit loss.
        texts
            The evaluation set.
        """
        method = quantization and {**quantization.for_quantizer(), "calibration": self._calibration, "files": files}
        return digest([self._common, commit, tokenizer, method, self._evaluation, self._texts[texts.name]])
