"""Grey values between the arrays of Java and of numpy: what they are called, and fast copies."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import jpype
import jpype.nio
import numpy as np
import numpy.typing as npt

from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.errors import ParameterError

T = TypeVar("T")

MOST_COPIED_BYTES = 10**9
"""Images of Java up to this are copied; what is larger stays there, and its planes are read."""

ONE_BUFFER_BYTES = 2**31 - 1
"""What a buffer of Java can lie over: it counts in 31 bits."""

_WORTH_THREADS_BYTES = 2**24
_MOST_THREADS = 4


class Kind(NamedTuple):
    """How a grey value is called in ImageJ, in Java's arrays and buffers, and in ImgLib2."""

    bits: int
    processor: str
    boxed: str
    buffer: str
    access: str
    imglib2: str
    factory: str


_PROCESS = "ij.process"
_NIO = "net.imglib2.img.basictypeaccess.nio"
_NUMERIC = "net.imglib2.type.numeric"
KINDS: dict[np.dtype[Any], Kind] = {
    np.dtype(np.uint8): Kind(
        8,
        f"{_PROCESS}.ByteProcessor",
        "java.lang.Byte",
        "",
        f"{_NIO}.ByteBufferAccess",
        f"{_NUMERIC}.integer.UnsignedByteType",
        "unsignedBytes",
    ),
    np.dtype(np.uint16): Kind(
        16,
        f"{_PROCESS}.ShortProcessor",
        "java.lang.Short",
        "asShortBuffer",
        f"{_NIO}.ShortBufferAccess",
        f"{_NUMERIC}.integer.UnsignedShortType",
        "unsignedShorts",
    ),
    np.dtype(np.float32): Kind(
        32,
        f"{_PROCESS}.FloatProcessor",
        "java.lang.Float",
        "asFloatBuffer",
        f"{_NIO}.FloatBufferAccess",
        f"{_NUMERIC}.real.FloatType",
        "floats",
    ),
}


def kind_of(dtype: np.dtype[Any], parameter: str = "image") -> Kind:
    """What a numpy type is called in Java.

    Raises
    ------
    ParameterError
        If ImageJ has no such grey values.
    """
    kind = KINDS.get(dtype.newbyteorder("="))
    if kind is None:
        raise ParameterError(
            parameter,
            "must be uint8, uint16 or float32 to become an image of ImageJ",
            f"{dtype}",
            "Use .astype() with the type that keeps your values.",
        )
    return kind


class _Shared:
    """How much memory of numpy's Java holds, in bytes.

    Java lets go of it when it next collects its garbage, and as it knows nothing of this memory,
    that may be never. So it is asked to when twice as much is held as after the last time.
    """

    least = 2 * 10**9

    def __init__(self) -> None:
        self.held = 0
        self._most = self.least

    def take(self, memory: npt.NDArray[Any]) -> None:
        """Count memory until nobody holds it."""
        weakref.finalize(memory, self._let_go, memory.nbytes).atexit = False
        self.held += memory.nbytes
        if self.held > self._most:
            self._most = 2 * self.held
            jclass("java.lang.System").gc()

    def _let_go(self, nbytes: int) -> None:
        self.held -= nbytes
        self._most = max(self.least, 2 * self.held)


_shared = _Shared()


def shared_buffer(array: npt.NDArray[Any]) -> Any:
    """Lay a direct buffer of Java over a contiguous array; it keeps the array alive."""
    memory = array.reshape(-1).view(np.uint8)
    buffer = _typed(jpype.nio.convertToDirectBuffer(memory), array.dtype)
    _shared.take(memory)
    return buffer


def borrowed_buffer(array: npt.NDArray[Any]) -> Any:
    """Lay a direct buffer of Java over a contiguous array, which the caller keeps alive.

    Java frees a buffer when it next collects its garbage, and with little in its own memory that
    may be never. A buffer for one copy must not hold the memory of a whole stack for so long.
    """
    memory = (ctypes.c_byte * array.nbytes).from_address(array.ctypes.data)
    return _typed(jpype.nio.convertToDirectBuffer(memory), array.dtype)


def _typed(raw: Any, dtype: np.dtype[Any]) -> Any:
    # Java's buffers are big-endian until told otherwise.
    raw = raw.order(jclass("java.nio.ByteOrder").nativeOrder())
    name = KINDS[dtype].buffer
    return getattr(raw, name)() if name else raw


def to_java(plane: npt.NDArray[Any]) -> Any:
    """Copy an array into a new flat array of Java."""
    native = np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("="))
    # By a method of Java, which runs without Python's lock: to have new memory takes longest.
    primitive = jclass(KINDS[native.dtype].boxed).TYPE
    pixels = jclass("java.lang.reflect.Array").newInstance(primitive, native.size)
    for start, part in _parts(native):
        borrowed_buffer(part).get(pixels, start, part.size)
    return pixels


def _parts(array: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Cut a contiguous array into parts that a buffer can lie over, each with where it starts."""
    flat, most = array.reshape(-1), ONE_BUFFER_BYTES // array.itemsize
    return ((start, flat[start : start + most]) for start in range(0, flat.size, most))


def from_java(pixels: Any, out: npt.NDArray[Any]) -> None:
    """Copy a flat array, or a buffer, of Java into a contiguous array of the same type."""
    if isinstance(pixels, jclass("java.nio.Buffer")):
        # All of it, wherever its position is: that is what ImgLib2 reads.
        borrowed_buffer(out).put(pixels.duplicate().clear().limit(out.size))
        return
    for start, part in _parts(out):
        borrowed_buffer(part).put(pixels, start, part.size)


def for_each(work: Callable[[int], T], count: int, nbytes: int) -> list[T]:
    """Do something for 0, 1, … `count` - 1, in threads where `nbytes` are worth it.

    Java and numpy copy without Python's lock, and fresh memory is what takes the time.
    """
    if nbytes < _WORTH_THREADS_BYTES:
        return [work(number) for number in range(count)]

    threads = min(_MOST_THREADS, os.cpu_count() or 1)

    # Neighbours stay together: two threads that touch one page of memory wait for each other.
    cuts = [count * number // threads for number in range(threads + 1)]

    in_java = java_threads()

    def share(start: int, stop: int) -> list[T]:
        with in_java():
            return [work(number) for number in range(start, stop)]

    with ThreadPoolExecutor(threads) as pool:
        return list(chain.from_iterable(pool.map(share, cuts[:-1], cuts[1:])))


def java_threads() -> Callable[[], AbstractContextManager[None]]:
    """A way to call Java in threads of Python, those that Java did not know being forgotten.

    Otherwise Java would keep each for good, and dask makes new ones. Ask for it in a thread that
    may stay known to Java, as one is that looks up a class.
    """
    thread = jclass("java.lang.Thread")

    @contextmanager
    def in_java() -> Iterator[None]:
        known = thread.isAttached()
        try:
            yield
        finally:
            if not known:
                thread.detach()

    return in_java
