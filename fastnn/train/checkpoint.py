"""Checkpoints: the states of several objects in one file that is whole or not there."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stateful", "load_checkpoint", "save_checkpoint"]


class Stateful(Protocol):
    """What has a state: networks, optimizers, generators, schedules with a memory, callbacks."""

    def state_dict(self) -> Mapping[str, NDArray[Any]]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


def save_checkpoint(path: str | Path, **parts: Stateful) -> None:
    """Store the states of `parts` in one ``.npz`` file, without pickle.

    The file is written beside `path` and put into its place when it is complete and on the disk: whenever the process
    is killed, `path` is the last good file.

    Parameters
    ----------
    path : path
        ``.npz`` is not added to it.
    **parts
        Objects with `state_dict` and `load_state_dict`, by the names under which they are stored.

    Examples
    --------
    >>> save_checkpoint("run.npz", net=net, opt=opt)
    """
    path = Path(path)
    arrays = {f"{part}/{name}": array for part, each in parts.items() for name, array in each.state_dict().items()}
    draft = path.with_name(path.name + ".part")
    with draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def load_checkpoint(path: str | Path, **parts: Stateful) -> None:
    """Bring `parts` into the states that `save_checkpoint` has stored.

    Parameters
    ----------
    path : path
    **parts
        Objects made as those that were stored, by the same names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no checkpoint or damaged, holds other parts, or a state does not fit its object.
    """
    states: dict[str, dict[str, NDArray[Any]]] = {part: {} for part in parts}
    with Path(path).open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            raise ValueError(f"{path}: expected a checkpoint, got another file or a part of one")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as file:
            stored = dict.fromkeys(key.partition("/")[0] for key in file.files)
            absent = [part for part in parts if part not in stored and parts[part].state_dict()]
            if absent or not stored.keys() <= parts.keys():
                raise ValueError(f"{path}: expected the parts {', '.join(parts)}, got {', '.join(stored)}")
            for key in file.files:
                part, _, name = key.partition("/")
                states[part][name] = file[key]
    for part, each in parts.items():
        try:
            each.load_state_dict(states[part])
        except ValueError as error:
            raise ValueError(f"{path}, {part}: {error}") from error
