"""One's own text under a task's data schema: windows of tokens, and the tokens that follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedledger.learning.data import Dataset
from fedledger.learning.schemas.arrays import fit_arrays
from fedledger.learning.schemas.fit import Fit, Misfit, fit_of, require_few_numbers
from fedledger.learning.sequences import token_windows
from fedledger.protocol.errors import ConfigError
from fedledger.protocol.records.data_schema import ArraySchema
from fedledger.protocol.records.vocabulary import Vocabulary

SUFFIX = ".txt"


def fit_texts(schema: ArraySchema, vocabulary: Vocabulary, path: Path) -> Fit:
    """Make windows of tokens of a text in UTF-8, or of all texts of a folder, each for itself.

    Lines end with one line feed, however the file has it; nothing else is changed.

    Parameters
    ----------
    schema
        The task's, whose shape is the length of a window.
    vocabulary
        The one that it names.
    path
        One's own file or folder.

    Raises
    ------
    ConfigError
        If the task does not predict the tokens that follow, a text cannot be read, or windows are so long that they
        would have more tokens than there may be.
    """
    if schema.target_shape != schema.shape or not schema.whole_targets:
        raise ConfigError(
            "The task does not predict the tokens that follow, so that text alone makes no examples for it.",
            "Give a script whose data() returns inputs and targets.",
        )
    tokens, misfits = {}, []
    for file in _files(path):
        found, strange = vocabulary.tokens(_text(file))
        tokens[file.name] = np.array(found, np.int64)
        if strange:
            what = f"{len(strange):,} characters of {file} are in no token of the task's vocabulary, such as "
            told = "They are left out." if vocabulary.unknown is None else f"They become token {vocabulary.unknown}."
            is_serious = vocabulary.unknown is None
            remedy = "Take them out of the text, or replace them." if is_serious else told
            misfits.append(Misfit("", f"{what}{strange[0]!a}.", remedy, is_serious))
    if any(misfit.is_serious for misfit in misfits):
        return fit_of(None, 0, 0, misfits)
    # Each text ends with a window that may be nearly empty.
    require_few_numbers(sum(1 + len(text) // schema.shape[0] for text in tokens.values()), schema.shape[0])
    windows = token_windows(tokens, schema.shape[0])
    fit = fit_arrays(schema, Dataset(windows.inputs, windows.targets, None), vocabulary)
    return Fit(fit.examples, fit.count, (*misfits, *fit.misfits))


def _files(path: Path) -> list[Path]:
    found = [path] if path.is_file() else sorted(file for file in path.glob(f"*{SUFFIX}") if file.is_file())
    if not found:
        raise ConfigError(f"There is no text at {path}.", f"Give a file, or a folder of {SUFFIX} files.")
    return found


def _text(file: Path) -> str:
    try:
        # Universal newlines: as a file is written on one system or another is no part of the text.
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not text in UTF-8 ({error.reason}).", "Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}.", "Correct the path.") from error
