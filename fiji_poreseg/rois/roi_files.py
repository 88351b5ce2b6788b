"""Files of ROIs: one, or a zip of ImageJ's ROI Manager."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from roifile import ImagejRoi

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import DAMAGE_ERRORS, PathLike, existing_file, log_records, replacing

ROI_SUFFIXES = (".roi", ".zip")
# What is read must fit into memory, and what is written must be read again.
_MOST_ENTRIES = 100_000
_MOST_BYTES_EACH = 64 * 2**20
_MOST_BYTES = 256 * 2**20
_LIMITS = (
    f"may hold at most {_MOST_ENTRIES} ROIs, of {_MOST_BYTES_EACH // 2**20} MiB each and "
    f"{_MOST_BYTES // 2**20} MiB in all"
)


def read_rois(path: PathLike, *, parameter: str = "labels") -> list[ImagejRoi]:
    """Read ROIs from a ``.roi`` file or a ``.zip`` of the ROI Manager.

    Nothing of a zip is written to disk, and it may hold at most 100,000 entries, of 64 MiB each
    and 256 MiB in all.

    Parameters
    ----------
    path
        The file.
    parameter
        Name to use in an error.

    Returns
    -------
    list of roifile.ImagejRoi
        In the order of the file.

    Raises
    ------
    ParameterError
        If the file is missing, damaged, too large, or holds no ROI.
    """
    file = existing_file(path, parameter)
    try:
        with log_records("roifile") as records:
            packed = zipfile.is_zipfile(file)
            contents = _unpack(file, parameter) if packed else [_read_bounded(file, parameter)]
            rois = [ImagejRoi.frombytes(content) for content in contents]
    except ParameterError:
        raise
    except DAMAGE_ERRORS as error:
        raise _damaged(file, parameter) from error
    if records:
        raise _damaged(file, parameter)
    if not rois:
        raise ParameterError(
            parameter,
            "must hold at least one ROI",
            f"{file}, a zip without .roi entries",
            "Save with More > Save in ImageJ's ROI Manager.",
        )
    return rois


def write_rois(path: PathLike, rois: Iterable[ImagejRoi], *, parameter: str = "output") -> None:
    """Write ROIs to a ``.zip`` for ImageJ's ROI Manager, replacing an existing one only whole.

    Parameters
    ----------
    path
        The file.
    rois
        As many as `read_rois` takes.
    parameter
        Name to use in an error.

    Raises
    ------
    ParameterError
        If they are more, or the file cannot be written.
    """
    left = _MOST_BYTES
    with (
        replacing(path, parameter) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for number, roi in enumerate(rois, 1):
            content = roi.tobytes()
            left -= len(content)
            if number > _MOST_ENTRIES or len(content) > _MOST_BYTES_EACH or left < 0:
                raise ParameterError(
                    parameter,
                    _LIMITS,
                    f"{path} with more",
                    "Write the labels as .tif, .zarr or .labeling, or in several parts.",
                )
            archive.writestr(f"{number:05d}.roi", content)


def _unpack(file: Path, parameter: str) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise _too_large(file, parameter, f"{len(entries)} entries")
        left = _MOST_BYTES
        for entry in entries:
            if not entry.filename.lower().endswith(".roi"):
                continue
            # The size that the entry claims may be a lie, so count what comes out.
            with archive.open(entry) as stream:
                content = stream.read(min(left, _MOST_BYTES_EACH) + 1)
            left -= len(content)
            if left < 0 or len(content) > _MOST_BYTES_EACH:
                raise _too_large(file, parameter, "more once unpacked")
            yield content


def _read_bounded(file: Path, parameter: str) -> bytes:
    if file.stat().st_size > _MOST_BYTES_EACH:
        raise _too_large(file, parameter, "a larger file")
    return file.read_bytes()


def _too_large(file: Path, parameter: str, what: str) -> ParameterError:
    return ParameterError(
        parameter,
        _LIMITS,
        f"{file} with {what}",
        "Check that it comes from ImageJ's ROI Manager, or paint a label image instead.",
    )


def _damaged(file: Path, parameter: str) -> ParameterError:
    return ParameterError(
        parameter,
        "must be a .roi file or a .zip of ImageJ's ROI Manager",
        f"{file}, which is damaged or something else",
        "Save it again with More > Save in the ROI Manager.",
    )
