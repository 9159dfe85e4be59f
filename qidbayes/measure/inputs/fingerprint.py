"""What a cell's numbers depend on, in one digest: a stored row counts as measured only while its digest is the same."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from qidbayes.measure.inputs.windows import text_identity
from qidbayes.measure.plan.plan import Checkpoint, Plan, Quantization, TextSet, digest

_DECIDE_NUMBERS = ("qidbayes", "torch", "transformers", "tokenizers", "bitsandbytes")
_READ_FILES = ("compressed-tensors", "gguf")  # those that others have quantized


def versions(names: Iterable[str] = _DECIDE_NUMBERS) -> dict[str, str]:
    """Return the versions of packages; `none` for one that is not there.

    Parameters
    ----------
    names
        Which; without them, those that decide the numbers.

    Examples
    --------
    >>> sorted(versions())
    ['bitsandbytes', 'qidbayes', 'tokenizers', 'torch', 'transformers']
    """
    found = {}
    for name in names:
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
        self._common = {"dtype": plan.dtype, "begin": plan.begin, "seed": plan.seed}
        evaluation, calibration = plan.evaluation, plan.calibration
        reference = evaluation.reference_tokenizer
        self._evaluation = {
            "seq_len": evaluation.seq_len,
            "windows": evaluation.windows,
            "reference": reference.name if reference else None,
        }
        self._until = {} if evaluation.until is None else {"until": evaluation.until}
        self._texts = {texts.name: text_identity(texts) for texts in evaluation.datasets}
        self._calibration = calibration and {
            "text": text_identity(calibration.dataset),
            "windows": calibration.windows,
            "seq_len": calibration.seq_len,
            **({"orders": calibration.orders} if calibration.orders > 1 else {}),
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
        deciding = versions() | (versions(_READ_FILES) if files else {})
        return digest([deciding, self._of_cell(commit, tokenizer, quantization, files, texts)])

    def asked(self, checkpoint: Checkpoint, quantization: Quantization | None, texts: TextSet) -> str:
        """Return the digest of what the plan says of a cell's numbers, whatever its names stand for by now."""
        source, apart = checkpoint.source.name, checkpoint.tokenizer
        files = quantization.files_of(checkpoint).whole_name if quantization and quantization.source else None
        return digest(self._of_cell(source, apart.name if apart else source, quantization, files, texts))

    def _of_cell(
        self, source: str, tokenizer: str, quantization: Quantization | None, files: str | None, texts: TextSet
    ) -> list[object]:
        method = quantization and {**quantization.for_quantizer(), "calibration": self._calibration, "files": files}
        method = method and {**method, **self._until}  # the 16-bit model is always evaluated on all windows
        return [self._common, source, tokenizer, method, self._evaluation, self._texts[texts.name]]
