"""Arrays of Zarr that are safe to be decoded, whoever they come from."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numcodecs
import zarr
from numcodecs.compat import ensure_contiguous_ndarray
from zarr.codecs import BloscCodec
from zarr.registry import register_codec

# Others can run code (pickle), or need packages that nobody has.
_CODECS = frozenset(
    {"blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "gzip", "lz4", "lzma", "shuffle"}
    | {"sharding_indexed", "transpose", "zlib", "zstd"}
)
# The header of a blosc chunk: its third byte has flags, then come the sizes of the whole, of a
# block and of the chunk itself (https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst).
_BLOSC_HEADER = struct.Struct("<xxBxIII")
_COPIED = 2


def open_array(place: Path, metadata: Mapping[str, Any]) -> zarr.Array[Any]:
    """Open an array.

    Parameters
    ----------
    place
        Its folder.
    metadata
        What stands in it.

    Raises
    ------
    ValueError
        If it is compressed with what is not known to be safe.
    """
    strange = sorted(set(_codecs(metadata)) - _CODECS)
    if strange:
        raise ValueError(f"compressed with {', '.join(strange)}")
    with zarr.config.set({"codecs.blosc": f"{__name__}.{CheckedBloscCodec.__name__}"}):
        array = zarr.open_array(place, mode="r", zarr_format=metadata["zarr_format"])
    compressor = getattr(array.metadata, "compressor", None)
    if not isinstance(compressor, numcodecs.Blosc):
        return array
    checked = replace(array.metadata, compressor=_CheckedBlosc(**_settings(compressor)))
    return zarr.Array(zarr.AsyncArray(checked, array.store_path))


def _codecs(metadata: Mapping[str, Any]) -> Iterator[str]:
    """The names of all that an array's chunks pass through, those of shards as well."""
    if "compressor" in metadata:
        used = [metadata["compressor"], *(metadata.get("filters") or ())]
        yield from (str(codec["id"]) for codec in used if codec is not None)
        return
    for codec in metadata["codecs"]:
        name = str(codec["name"])
        yield name.removeprefix("numcodecs.")
        inner = codec.get("configuration") or {}
        for key in ("codecs", "index_codecs"):
            yield from _codecs({"codecs": inner.get(key, ())})


# numcodecs has no types, so that mypy knows nothing of the class.
class _CheckedBlosc(numcodecs.Blosc):  # type: ignore[misc]
    """Blosc, which itself trusts what a chunk says of its size, and reads beyond its end."""

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode a chunk; a ValueError if it is cut off or does not add up."""
        content = ensure_contiguous_ndarray(buf).view("u1")
        if content.nbytes < 16:
            raise ValueError("a chunk that is cut off")
        flags, whole, block, stored = _BLOSC_HEADER.unpack_from(content)
        blocks = -(-whole // block) if block else 0
        needed = 16 + (whole if flags & _COPIED else 4 * blocks)
        if stored != content.nbytes or needed > stored or (whole and not 0 < block <= whole):
            raise ValueError("a chunk that is damaged")
        return super().decode(buf, out)


def _settings(codec: numcodecs.Blosc) -> dict[str, Any]:
    return {name: value for name, value in codec.get_config().items() if name != "id"}


class CheckedBloscCodec(BloscCodec):
    """The same for Zarr 3."""

    @cached_property
    def _blosc_codec(self) -> _CheckedBlosc:
        return _CheckedBlosc(**_settings(super()._blosc_codec))


register_codec("blosc", CheckedBloscCodec)
