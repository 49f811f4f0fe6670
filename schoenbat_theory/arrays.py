"""Which array library, which device, host and back: every such question is answered here, once.

The mathematics of this package speaks the Python array API standard and runs on NumPy, CuPy and any
other library that `array_api_compat` knows. Random draws and statistics live on the host, in NumPy.
Only this module names an array library other than NumPy.
"""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any

import array_api_compat
import array_api_compat.numpy
import numpy as np

__all__ = [
    "Array",
    "all_finite",
    "as_generator",
    "as_reals",
    "asarray_like",
    "backend_asarray",
    "broadcast_shapes",
    "check_finite",
    "check_floating",
    "check_mask",
    "device_of",
    "eps",
    "matmul_into",
    "namespace",
    "placement",
    "require_bool",
    "require_int",
    "require_real",
    "to_host",
]

Array = Any  # an array of any library of the array API standard; shapes are in the docstrings
FLOATING = ("float32", "float64")
HOST_FLOATING = tuple(np.dtype(name) for name in FLOATING)


def namespace(*arrays: Array) -> Any:
    """Return the array API namespace that ``arrays`` share, e.g. ``array_api_compat.numpy``."""
    if len(arrays) == 1 and type(arrays[0]) is np.ndarray:  # asked for every block of tokens
        return array_api_compat.numpy
    return array_api_compat.array_namespace(*arrays)


def check_floating(**named: Array) -> Any:
    """Return the common namespace of floating arrays of one dtype on one device.

    Raises ``TypeError`` that names the argument which is no array, not float32 or float64, or which
    differs from the first in library, dtype or device.

    >>> check_floating(x=np.ones(3)).__name__
    'array_api_compat.numpy'
    """
    first_name, first = next(iter(named.items()))
    if all(type(x) is np.ndarray and x.dtype in HOST_FLOATING and x.dtype == first.dtype for x in named.values()):
        return array_api_compat.numpy
    for name, x in named.items():
        if not array_api_compat.is_array_api_obj(x):
            raise TypeError(f"{name}: expected an array, found {type(x).__name__}")
        if isinstance(x, np.generic):
            raise TypeError(f"{name}: expected an array, found the scalar {x!r}")
        if isinstance(x, np.ma.MaskedArray):  # sums would skip entries
            raise TypeError(f"{name}: expected a plain array, found {type(x).__name__}")
        if _dtype_name(x) not in FLOATING:
            raise TypeError(f"{name}: expected dtype float32 or float64, found {_dtype_name(x)}")
        if _library(x) is not _library(first):
            raise TypeError(
                f"{name}: expected an array of the same library as {first_name} "
                f"({type(first).__module__}), found {type(x).__module__}"
            )
        if x.dtype != first.dtype:
            raise TypeError(f"{name}: expected dtype {_dtype_name(first)} as {first_name} has, found {_dtype_name(x)}")
        if array_api_compat.device(x) != array_api_compat.device(first):
            raise TypeError(
                f"{name}: expected device {array_api_compat.device(first)} as {first_name} has, "
                f"found {array_api_compat.device(x)}"
            )
    return namespace(first)


def all_finite(*arrays: Array) -> bool:
    """Tell whether no array holds NaN or infinity."""
    return all(bool(namespace(x).all(namespace(x).isfinite(x))) for x in arrays)


def check_finite(**named: Array) -> None:
    """Raise ``ValueError`` that names the first argument with a NaN or infinite entry, and where it is."""
    for name, x in named.items():
        if not all_finite(x):
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(to_host(x)))[0])
            raise ValueError(f"{name}: expected finite entries, found {float(x[where])} at index {where}")


def matmul_into(out: Array, a: Array, b: Array) -> None:
    """Write a @ b into ``out``, a view; without a temporary in libraries whose product can do that.

    >>> out = np.empty((2, 2))
    >>> matmul_into(out, np.eye(2), np.ones((2, 2)))
    >>> out.tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if isinstance(out, np.ndarray) or array_api_compat.is_cupy_array(out):
        namespace(out).matmul(a, b, out=out)
    else:
        out[...] = a @ b


def check_mask(name: str, mask: Array, like: Array, length: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``mask`` is booleans (..., length), beside ``like``."""
    is_array = array_api_compat.is_array_api_obj(mask) and not isinstance(mask, np.generic)
    if not is_array or namespace(mask) is not namespace(like):
        raise TypeError(f"{name}: expected booleans (True = used) of {type(like).__module__}, found {mask!r:.60}")
    if mask.dtype != namespace(like).bool:
        raise TypeError(f"{name}: expected booleans (True = used), found dtype {_dtype_name(mask)}")
    if device_of(mask) != device_of(like):
        raise TypeError(f"{name}: expected device {device_of(like)}, found {device_of(mask)}")
    if mask.ndim < 1 or mask.shape[-1] != length:
        raise ValueError(f"{name}: expected (..., {length}), found {tuple(mask.shape)}")


def device_of(x: Array) -> Any:
    """Return the device of ``x``, to create arrays beside it."""
    return array_api_compat.device(x)


def placement(x: Array) -> tuple[str, str, str]:
    """Return library, dtype and device of ``x`` as texts, a key under which arrays beside it can be kept."""
    return namespace(x).__name__, _dtype_name(x), str(device_of(x))


def asarray_like(values: Any, like: Array, dtype: Any = None) -> Array:
    """Move host ``values`` to the library and device of ``like``, with its dtype unless ``dtype`` is given."""
    xp = namespace(like)
    values = np.asarray(values)
    wanted = like.dtype if dtype is None else dtype
    with np.errstate(over="ignore"):  # beyond the range of float32 is inf there
        return xp.asarray(values, dtype=wanted, device=device_of(like))


def to_host(x: Array) -> np.ndarray:
    """Return ``x`` as a NumPy array, copied from its device where it is not on the host."""
    if isinstance(x, np.ndarray):
        return x
    if array_api_compat.is_cupy_array(x):
        return x.get()
    if not array_api_compat.is_array_api_obj(x):
        return np.asarray(x)
    cpu = getattr(namespace(x), "__array_namespace_info__", None)
    host = cpu().default_device() if cpu is not None else "cpu"
    return np.asarray(array_api_compat.to_device(x, host))


def backend_asarray(name: str) -> Any:
    """Return the function that moves host arrays to the backend ``"numpy"`` or ``"cupy"``.

    Raises ``RuntimeError`` with one sentence where CuPy or a GPU is missing.

    >>> backend_asarray("numpy")([1.0, 2.0])
    array([1., 2.])
    """
    if name == "numpy":
        return np.asarray
    if name != "cupy":
        raise ValueError(f"backend: expected 'numpy' or 'cupy', found {name!r}")
    try:
        import cupy
    except ImportError:
        raise RuntimeError(
            "backend cupy: CuPy is not installed (pip install 'schoenbat_theory[cuda13]' or [cuda12])"
        ) from None
    if not cupy.cuda.is_available():
        raise RuntimeError("backend cupy: CuPy is installed but finds no usable GPU or driver")
    return cupy.asarray


def as_generator(rng: Any) -> np.random.Generator:
    """Return a NumPy generator for an int, a ``SeedSequence``, a ``Generator`` or ``None`` (fresh entropy).

    >>> as_generator(0).integers(10, size=3)
    array([8, 6, 5])
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"rng: expected a non-negative int, SeedSequence, Generator or None, found {rng!r}") from None


def as_reals(name: str, values: Any) -> np.ndarray:
    """Return ``values`` on the host as float64; ``TypeError`` with ``name`` for complex numbers, text and the like.

    >>> as_reals("margin", [1, 2])
    array([1., 2.])
    """
    try:
        found = to_host(values)
        if values is not None and found.dtype.kind not in "cSU":  # NumPy drops imaginary parts and reads texts
            return np.asarray(found, dtype=np.float64)
    except OverflowError:
        raise ValueError(f"{name}: expected numbers within float64, found {values!r:.60}") from None
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name}: expected real numbers, found {values!r:.60}")


def require_bool(name: str, value: Any) -> bool:
    """Return ``value`` as a bool, or raise ``TypeError`` with ``name``: a text or an array is no answer."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: expected True or False, found {value!r:.60}")
    return bool(value)


def require_int(name: str, value: Any, minimum: int) -> int:
    """Return ``value`` as an int, or raise ``TypeError`` or ``ValueError`` with ``name`` and what was expected.

    >>> require_int("size", np.int64(3), 1)
    3
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= minimum:
        return int(value)
    raise _kind(value)(f"{name}: expected an int >= {minimum}, found {value!r:.60}")


def require_real(name: str, value: Any, expected: str, holds: Callable[[float], bool] = math.isfinite) -> float:
    """Return ``value`` as a float that ``holds``, or raise ``TypeError`` or ``ValueError`` with ``name``.

    >>> require_real("p", 2, "a number > 1", lambda p: p > 1)
    2.0
    """
    if _is_real(value):
        try:
            found = float(value)
        except OverflowError:  # an int or a Fraction beyond float64
            found = math.inf if value > 0 else -math.inf
        if holds(found):
            return found
    raise _kind(value)(f"{name}: expected {expected}, found {value!r:.60}")


def broadcast_shapes(**named: tuple[int, ...]) -> tuple[int, ...]:
    """Return the broadcast of the named shapes, or raise ``ValueError`` that shows all of them."""
    if len(different := {shape for shape in named.values() if shape}) < 2:
        return next(iter(different), ())
    try:
        return np.broadcast_shapes(*named.values())
    except ValueError:
        shapes = ", ".join(f"{name} {shape}" for name, shape in named.items())
        raise ValueError(f"leading axes do not broadcast: {shapes}") from None


def eps(x: Array) -> float:
    """Return the unit roundoff of the dtype of ``x``: half the gap between 1 and the next number."""
    return float(namespace(x).finfo(x.dtype).eps) / 2


def _kind(value: Any) -> type[Exception]:
    """A wrong number is a ``ValueError``, anything else a ``TypeError``."""
    return ValueError if _is_real(value) else TypeError


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def _library(x: Array) -> type:
    """Return the type of an array; a file mapped into memory is an array of NumPy."""
    return np.ndarray if isinstance(x, np.memmap) else type(x)


def _dtype_name(x: Array) -> str:
    return _host_name(x.dtype) if isinstance(x.dtype, np.dtype) else str(x.dtype).rsplit(".", maxsplit=1)[-1]


@functools.cache
def _host_name(dtype: np.dtype[Any]) -> str:
    return str(dtype)
