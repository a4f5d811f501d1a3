"""The processes that train together, and what they tell each other. Every wait has an end."""

from __future__ import annotations

import atexit
import io
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fastnn._checks import check_number, check_size
from fastnn.train import checkpoint

__all__ = ["World", "load_checkpoint", "save_checkpoint", "world"]

_LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # set by mpiexec of MPICH and its kin, Open MPI
_POLLS = 2000  # looks at a request before it is looked at less often


class World:
    """The processes that train together.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Default: all processes that ``mpiexec`` has started; this one alone where it was not used.
    timeout : float, default 300
        Seconds that this process waits for the others, wherever it does, before it gives up.

    Attributes
    ----------
    rank : int
        Of this process, from 0.
    size : int
        Number of processes.
    sent : int
        Bytes that this process has contributed to exchanges since it began.

    Raises
    ------
    ImportError
        Where ``mpiexec`` has started several processes and mpi4py or the MPI library is missing.
    RuntimeError
        Where ``mpiexec`` belongs to another MPI library than mpi4py.
    ValueError
        For a `timeout` that is not positive.

    Notes
    -----
    From the import of `fastnn.distributed` on, an exception that nobody catches in the main thread of one process
    aborts all of them, as ``python -m mpi4py`` does: the others would wait for it.  After a `TimeoutError` that was
    caught, the process ends all of them when it ends.
    """

    def __init__(self, comm: Any = None, *, timeout: float = 300.0) -> None:
        check_number("timeout", timeout)
        if not timeout > 0:
            raise ValueError(f"timeout: expected seconds > 0, got {timeout}")
        self.timeout = timeout
        self.sent = 0
        self._open: list[tuple[Any, Any]] = []  # requests, with the arrays that they write to
        if comm is not None and not hasattr(comm, "Idup"):
            raise TypeError(f"comm: expected a communicator of mpi4py, got {type(comm).__name__}")
        self._mpi = _mpi()
        given = self._mpi.COMM_WORLD if comm is None and self._mpi is not None else comm
        self.rank: int = 0 if given is None else given.Get_rank()
        self.size: int = 1 if given is None else given.Get_size()
        self._comm: Any = None
        self._gave_up = False
        if self.size > 1:
            self._comm, request = given.Idup()  # apart from what else is sent over it
            self.wait(request)

    # ------------------------------------------------------------------------------------------------- exchanges

    def wait(self, request: Any) -> None:
        """Wait until the others have done their part of `request`.

        Raises
        ------
        TimeoutError
            After `timeout` seconds.
        RuntimeError
            If MPI reports that a process has failed.
        """
        end, polls = time.monotonic() + self.timeout, 0
        while not self._done(request):
            if time.monotonic() > end:
                self._end_with_abort()
                raise TimeoutError(
                    f"rank {self.rank} of {self.size}: waited {self.timeout:g} s for the others, which have died, "
                    "hang, or run something else; World(timeout=) sets how long"
                )
            polls += 1
            time.sleep(0 if polls < _POLLS else 1e-4)
        self._open = [(other, array) for other, array in self._open if other is not request]

    def progress(self) -> None:
        """Let MPI work on what was started; it does so only inside its functions."""
        for request, _ in self._open:
            self._done(request)

    def start_sum(self, array: NDArray[Any]) -> Any:
        """Start the sum of `array` over all processes, in place; returns what to `wait` for."""
        self.sent += array.nbytes
        return self._start(array, self._comm.Iallreduce, self._mpi.IN_PLACE, array)

    def gather(self, row: NDArray[Any]) -> NDArray[Any]:
        """The `row` of every process, one after the other: equal shapes and types."""
        if self.size == 1:
            return np.array([row])
        rows: NDArray[Any] = np.empty((self.size, *row.shape), row.dtype)
        self.sent += row.nbytes
        self.wait(self._start(rows, self._comm.Iallgather, np.ascontiguousarray(row), rows))
        return rows

    def gather_rows(self, rows: NDArray[Any], counts: NDArray[np.int64]) -> NDArray[Any]:
        """Rows of all processes, `counts` of each."""
        if self.size == 1:
            return rows
        every = np.empty((int(counts.sum()), *rows.shape[1:]), rows.dtype)
        width = int(np.prod(rows.shape[1:]))
        self.sent += rows.nbytes
        self.wait(self._start(every, self._comm.Iallgatherv, np.ascontiguousarray(rows), [every, counts * width]))
        return every

    def broadcast_bytes(self, data: bytes) -> bytes:
        """Those of rank 0."""
        if self.size == 1:
            return data
        length = int(self.gather(np.array([len(data)], np.int64))[0, 0])
        buffer = np.frombuffer(data, np.uint8).copy() if self.rank == 0 else np.empty(length, np.uint8)
        self.sent += buffer.nbytes if self.rank == 0 else 0
        self.wait(self._start(buffer, self._comm.Ibcast, buffer))
        return buffer.tobytes()

    def check_same(self, what: str, value: Any) -> None:
        """ValueError in all processes if `value` is not the same in all of them."""
        digests = self.gather(np.array([crc32(repr(value).encode())], np.int64))[:, 0]
        refuse_differences(self, what, digests, value)

    def barrier(self) -> None:
        """Wait for all processes."""
        self.gather(np.zeros(1, np.int64))

    def _end_with_abort(self) -> None:
        """MPI's own end would wait for those that have not answered."""
        if self._comm is not None and not self._gave_up:
            self._gave_up = True
            atexit.register(self._comm.Abort, 1)

    def _start(self, written: Any, function: Any, *arguments: Any) -> Any:
        try:
            request = function(*arguments)
        except self._mpi.Exception as error:
            raise self._failure(error) from error
        self._open.append((request, (written, arguments)))
        return request

    def _done(self, request: Any) -> bool:
        try:
            return bool(request.Test())
        except self._mpi.Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> RuntimeError:
        return RuntimeError(f"rank {self.rank} of {self.size}: another process has failed ({error})")

    # --------------------------------------------------------------------------------------------- for the script

    def share(self, n: int) -> slice:
        """This process's share of `n` samples: consecutive ones, sizes at most one apart.

        Examples
        --------
        >>> mine = order[step * batch : (step + 1) * batch][world().share(batch)]
        """
        check_size("n", n, 0)
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def mean(self, metrics: Mapping[str, float], samples: int) -> dict[str, float]:
        """Means over all processes of what each has measured, weighted by its number of `samples`.

        Parameters
        ----------
        metrics : mapping of str to float
            Of the same names in all processes.
        samples : int
            May be 0 in some processes.

        Returns
        -------
        dict of str to float
            The same in all processes; NaN without samples.

        Raises
        ------
        ValueError
            In all processes, if the names differ.
        """
        check_size("samples", samples, 0)
        names = list(metrics)
        self.check_same("metrics", names)
        rows = self.gather(np.array([samples, *(float(metrics[name]) for name in names)], np.float64))
        weights, values = rows[:, 0], np.where(rows[:, :1] > 0, rows[:, 1:], 0.0)
        total = float(weights.sum())
        return {name: float(weights @ values[:, k]) / total if total else float("nan") for k, name in enumerate(names)}

    def broadcast(self, **parts: checkpoint.Stateful) -> None:
        """Bring `parts` of all processes into the states that they have in rank 0.

        Parameters
        ----------
        **parts
            Networks, optimizers, generators: objects with `state_dict` and `load_state_dict`, of the same names in all
            processes.
        """
        self.check_same("parts", list(parts))
        if self.size == 1:
            return
        buffer = io.BytesIO()
        if self.rank == 0:
            arrays = {f"{part}/{key}": a for part, each in parts.items() for key, a in each.state_dict().items()}
            np.savez(buffer, **arrays)  # type: ignore[arg-type]
        data = self.broadcast_bytes(buffer.getvalue())
        if self.rank > 0:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                for part, each in parts.items():
                    each.load_state_dict({k[len(part) + 1 :]: file[k] for k in file.files if k.startswith(f"{part}/")})

    def __repr__(self) -> str:
        return f"World(rank={self.rank}, size={self.size})"

    def __deepcopy__(self, memo: Any) -> World:
        return self  # a copied network talks to the same processes


def refuse_differences(among: World, what: str, digests: NDArray[np.int64], value: Any) -> None:
    """ValueError, naming the first rank whose digest is not that of rank 0; `value` is this process's."""
    for rank, digest in enumerate(digests.tolist()):
        if digest != digests[0]:
            raise ValueError(
                f"{what}: expected the same in all processes, got others in rank {rank} than in rank 0; "
                f"rank {among.rank} has {str(value)[:300]}"
            )


_default: World | None = None


def world() -> World:
    """The `World` of all processes, made at the first call."""
    global _default
    if _default is None:
        _default = World()
    return _default


def _launched() -> int:
    """How many processes ``mpiexec`` says it has started."""
    counts = [os.environ.get(name, "") for name in _LAUNCHED]
    return max(int(count) if count.isdecimal() else 1 for count in counts)


def _mpi() -> Any:
    """mpi4py.MPI; None where one process can do without it."""
    started = _launched()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # without mpi4py, or without the library that it loads
        if started > 1:
            raise ImportError(
                f"fastnn.distributed: {started} processes were started, which need mpi4py and an MPI library to talk; "
                f"pip install 'fastnn-kernels[mpi]' ({error})"
            ) from error
        return None
    if started > 1 and MPI.COMM_WORLD.Get_size() == 1:
        raise RuntimeError(
            f"fastnn.distributed: {started} processes were started, but each is alone: mpiexec is not that of the MPI "
            f"library of mpi4py, {MPI.Get_library_version().splitlines()[0].strip()}"
        )
    return MPI


def start() -> None:
    """Start MPI where ``mpiexec`` has started several processes; from here on an uncaught exception ends all."""
    if _launched() == 1:
        return
    comm, before = _mpi().COMM_WORLD, sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            before(kind, error, trace)
        except Exception:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(0.5)  # mpiexec drops what it has not read by then
        comm.Abort(1)

    sys.excepthook = hook


def save_checkpoint(path: str | Path, *, among: World | None = None, **parts: checkpoint.Stateful) -> None:
    """`fastnn.train.save_checkpoint` in rank 0; the others wait until the file is there.

    Parameters
    ----------
    path : path
    among : World, optional
        Default: `world()`.
    **parts
        Objects with `state_dict` and `load_state_dict`.

    Raises
    ------
    OSError
        In rank 0, if it cannot be written; then a RuntimeError in the others.
    """
    among = among or world()
    error: Exception | None = None
    if among.rank == 0:
        try:
            checkpoint.save_checkpoint(path, **parts)
        except Exception as raised:
            error = raised
    _agree(among, path, error)


def load_checkpoint(path: str | Path, *, among: World | None = None, **parts: checkpoint.Stateful) -> None:
    """`fastnn.train.load_checkpoint` in rank 0, whose states then go to all: only rank 0 needs the file.

    Parameters
    ----------
    path : path
    among : World, optional
        Default: `world()`.
    **parts
        Objects made as those that were stored, by the same names.

    Raises
    ------
    FileNotFoundError, ValueError
        In rank 0, as there; then a RuntimeError in the others.
    """
    among = among or world()
    error: Exception | None = None
    if among.rank == 0:
        try:
            checkpoint.load_checkpoint(path, **parts)
        except Exception as raised:
            error = raised
    _agree(among, path, error)
    among.broadcast(**parts)


def _agree(among: World, path: str | Path, error: Exception | None) -> None:
    failed = among.gather(np.array([error is not None], np.int64))
    if error is not None:
        raise error
    if failed.any():
        raise RuntimeError(f"{path}: rank 0 has failed with it")
