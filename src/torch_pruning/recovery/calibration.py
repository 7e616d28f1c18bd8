"""Calibration inputs: batches as the model takes them, whatever a data loader puts around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from torch_pruning.errors import CalibrationError


def as_batches(calibration: Iterable[Any], example: Any) -> list[Any]:
    """The batches, each in the form of the example inputs. What the example does not have is left out: labels.

    * the example is one tensor: of a pair or list the first entry is the input, `(images, labels)` -> `images`;
    * the example is a tuple: its first so many entries, `(a, b, labels)` -> `(a, b)`;
    * the example is a dict: its keys, `{"input_ids": ..., "labels": ...}` -> `{"input_ids": ...}`;
    * anything else is passed as it is.

    Raises:
        CalibrationError: for no batches at all, or one without what the example has.
    """
    if isinstance(calibration, (Tensor, dict, str)) or not _iterable(calibration):
        raise CalibrationError(
            f"calibration must be an iterable of batches, found one {type(calibration).__name__}: put it into a list"
        )
    batches = [_like(batch, example, number) for number, batch in enumerate(calibration)]
    if not batches:
        raise CalibrationError("calibration must give at least one batch, found none: an exhausted iterator is empty")
    return batches


def read_once(calibration: Iterable[Any]) -> Iterable[Any]:
    """What can be gone through several times: an iterator as a list, anything else as it is."""
    return list(calibration) if isinstance(calibration, Iterator) else calibration


def _iterable(item: Any) -> bool:
    return hasattr(item, "__iter__") or hasattr(item, "__getitem__")


def _like(batch: Any, example: Any, number: int) -> Any:
    if isinstance(example, Tensor):
        while isinstance(batch, (tuple, list)) and batch:
            batch = batch[0]
        if not isinstance(batch, Tensor):
            raise _unlike(number, "a tensor, or a tuple that begins with one", batch)
        return batch
    if isinstance(example, (tuple, list)):
        if len(example) == 1 and isinstance(batch, Tensor):
            return (batch,)
        if not isinstance(batch, (tuple, list)) or len(batch) < len(example):
            raise _unlike(number, f"a tuple of at least {len(example)} entries", batch)
        return tuple(batch[: len(example)])
    if isinstance(example, dict):
        missing = sorted(set(example) - set(batch)) if hasattr(batch, "keys") else sorted(example)
        if missing:
            raise _unlike(number, f"a dict with {missing}", batch)
        return {key: batch[key] for key in example}
    return batch


def _unlike(number: int, wanted: str, batch: Any) -> CalibrationError:
    found = f"keys {sorted(batch)}" if hasattr(batch, "keys") else type(batch).__name__
    return CalibrationError(
        f"a calibration batch must be like the example inputs, here {wanted}; found {found} in batch {number}: "
        "let the iterable give what the model is called with"
    )
