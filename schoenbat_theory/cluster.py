"""An existing Dask cluster as the engine of a sweep; this module alone knows Dask."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import Future
from importlib import metadata
from typing import Any

from schoenbat_theory.environment import version

__all__ = ["connected", "mended"]

PATIENCE = 10  # seconds for the scheduler to answer, and for the first worker to be there


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Let cells run on the workers of the Dask scheduler at ``address``, e.g. "tcp://host:8786", inside the ``with``.

    A worker needs this package and its libraries in the versions that are here, and the modules that a user's file
    imports; the file itself and a user's archive travel. One thread per worker is best: cells of one process take turns.

    ``RuntimeError`` without Dask, ``OSError`` where no scheduler answers or has a worker, ``ValueError`` for a worker
    with another version of this package. What Dask logs is not shown: its errors arrive here as errors.
    """
    try:
        import distributed
        import joblib
    except ImportError:
        raise RuntimeError('--cluster: Dask is not installed (pip install "schoenbat_theory[cluster]")') from None
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        connect: Any = distributed.Client
        client = connect(address, timeout=PATIENCE)
    except Exception as error:  # also ImportError for a protocol, and whatever an address is not
        raise OSError(f"--cluster {address}: no Dask scheduler answers there ({error})") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise OSError(f"--cluster {address}: the scheduler has no worker") from None
        # A function of the standard library: asked for one of ours, a worker that lacks this package never answers.
        for worker, found in client.run(metadata.version, "schoenbat_theory", on_error="return").items():
            if found != version():
                shown = "none" if isinstance(found, metadata.PackageNotFoundError) else found
                raise ValueError(f"--cluster {address}: {worker}: expected schoenbat_theory {version()}, found {shown}")
        with joblib.parallel_config("dask"):
            yield


def mended(backend: Any) -> Any:
    """Return joblib's back end for Dask without two habits, and any other back end as it is.

    It says nothing, ever, of a task that Dask gives up: one whose workers die, or whose scheduler goes. And it
    runs here what should run on a cluster of one thread.
    """
    if type(backend).__name__ != "DaskDistributedBackend":
        return backend

    class Mended(type(backend)):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, int(super().effective_n_jobs(n_jobs)))

        def submit(self, func: Any, callback: Any = None) -> Any:
            future: Future[Any] = super().submit(func, callback)
            future.add_done_callback(lambda done: callback(done) if done.exception() else None)
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            return out.result() if isinstance(out, Future) else super().retrieve_result_callback(out)

    patience = backend.wait_for_workers_timeout
    return Mended(client=backend.client, wait_for_workers_timeout=patience, **backend.submit_kwargs)
