"""Files and macro lines that are damaged or made to do harm: what comes of thousands of them.

    python benchmarks/fuzz.py                     10,000 of each kind, an hour on 2 cores
    python benchmarks/fuzz.py --count 500         5 minutes
    python benchmarks/fuzz.py --kind forest --first 1234 --count 1     one of them again

Each input is a whole one of its kind in which bytes were changed, cut off, repeated or put to
extremes, drawn by its number. It must be taken, or refused with a `ParameterError` of one line,
within 5 seconds, and without a gigabyte of memory more than at the start. They are tried in
processes of their own, so that one that dies is noticed.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import re
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import roifile
import xarray as xr
import zarr
from zarr.codecs import BloscCodec

import fiji_poreseg as fp
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.macro import parse_options
from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.rois import labels_from

RESUNET = Path(__file__).parent.parent / "tests" / "models" / "1" / "resunet.poreseg"
LONGEST_S, MOST_BYTES = 5.0, 2**30
BATCH = 250
SIDE = 24
EXTREMES = (b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\x00\x00\x00")
NUMBER = re.compile(rb"-?[0-9]+")
NO_NUMBERS = (b"-1", b"0", b"7", b"1e308", b"NaN", b"null", b'"x"', b"[]", b"9" * 30, b"2147483647")
MULTISCALES = {
    "axes": [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"],
    "datasets": [
        {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [10, 10, 10]}]}
    ],
}
LINES = {
    "train_forest": "labels=[a b.zip] indices=0,4,8 trees=4 model=m.poreseg nodata=0 seed=7",
    "segment": "model=[m n.poreseg] output=[x y.tif] probability=p.tif resume precision=fast",
    "phantom": "output=made slices=12 size=48 feature_size_nm=1.5e2 spacing_nm=10,10,10",
}


def mutated(whole: bytes, rng: np.random.Generator) -> bytes:
    """A few changes to something whole."""
    made = bytearray(whole)
    for _ in range(int(rng.integers(1, 6))):
        if not made:
            break
        place = int(rng.integers(len(made)))
        # Where a file begins and ends, it says what it is.
        if rng.random() < 0.4:
            place = int(rng.integers(min(64, len(made))))
        length = int(rng.geometric(0.1))
        match int(rng.integers(6)):
            case 0:
                made[place] = int(rng.integers(256))
            case 1:
                made[place] ^= 1 << int(rng.integers(8))
            case 2:
                extreme = EXTREMES[int(rng.integers(len(EXTREMES)))]
                made[place : place + len(extreme)] = extreme
            case 3:
                del made[place : place + length]
            case 4:
                made[place:place] = made[place : place + length] * int(rng.integers(1, 5))
            case _:
                del made[place : None if rng.random() < 0.3 else place + 1]
    return bytes(made)


def renumbered(whole: bytes, rng: np.random.Generator) -> bytes:
    """A text in which one of the numbers became something else."""
    numbers = list(NUMBER.finditer(whole))
    if not numbers:
        return mutated(whole, rng)
    chosen = numbers[int(rng.integers(len(numbers)))]
    value = NO_NUMBERS[int(rng.integers(len(NO_NUMBERS)))]
    return whole[: chosen.start()] + value + whole[chosen.end() :]


def harmed_entry(whole: bytes, rng: np.random.Generator) -> bytes:
    """A zip, one of whose files is mutated; of a JSON, as often, one of its numbers."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    named = [name for name, content in files.items() if content]
    chosen = named[int(rng.integers(len(named)))]
    is_text = files[chosen].startswith(b"{")
    harm = renumbered if is_text and rng.random() < 0.5 else mutated
    files[chosen] = harm(files[chosen], rng)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def harmed(whole: bytes, rng: np.random.Generator) -> bytes:
    """Something mutated; of a zip, as often, one of the files in it, which is then whole again."""
    if not zipfile.is_zipfile(io.BytesIO(whole)) or rng.random() < 0.5:
        return mutated(whole, rng)
    return harmed_entry(whole, rng)


class Kind(NamedTuple):
    """Something that may come from anybody: whole ones of it, what takes it, and what harms it."""

    suffix: str
    whole: tuple[bytes, ...]
    take: Callable[[Path], object]
    harm: Callable[[bytes, np.random.Generator], bytes] = harmed


def stack() -> xr.DataArray:
    """A stack small enough to be read often."""
    z, y, x = np.mgrid[:6, :SIDE, :SIDE]
    waves = 128 + 60 * np.sin(x / 3 + z) + 40 * np.sin(y / 4)
    return fp.make_stack(waves.astype(np.uint8), (10, 10, 10))


def kinds(folder: Path) -> Mapping[str, Kind]:
    """All kinds, made in a folder."""
    image = stack()
    labels = fp.make_labels(np.where(image > 150, 2, 1).astype(np.uint8), image)
    tiffs, zips, singles, zarrs = [], [], [], []
    for name, made in {"grey": image, "labels": labels, "float": image.astype(np.float32)}.items():
        fp.write(folder / f"{name}.tif", made)
        tiffs.append((folder / f"{name}.tif").read_bytes())
    fp.write(folder / "grey.zarr", image)
    fp.write(folder / "labels.zarr", labels)
    attributes = {"multiscales": [{**MULTISCALES, "version": "0.4"}]}
    old = zarr.create_group(folder / "old.zarr", zarr_format=2, attributes=attributes)
    old.create_array("0", data=image.to_numpy(), chunks=(4, SIDE, SIDE))
    attributes = {"ome": {"version": "0.5", "multiscales": [MULTISCALES]}}
    shards = zarr.create_group(folder / "shards.zarr", attributes=attributes)
    shards.create_array(
        "0",
        data=image.to_numpy(),
        chunks=(2, SIDE // 2, SIDE),
        shards=(2, SIDE, SIDE),
        compressors=BloscCodec(),
    )
    for name in ("grey", "labels", "old", "shards"):
        packed = shutil.make_archive(str(folder / name), "zip", folder / f"{name}.zarr")
        zarrs.append(Path(packed).read_bytes())
    fp.save_labels(image, labels, output=folder / "labels.zip")
    zips.append((folder / "labels.zip").read_bytes())
    fp.save_labels(image, labels, output=folder / "labels.labeling")
    labeling = (folder / "labels.labeling").read_bytes()
    for roi in roifile.ImagejRoi.fromfile(folder / "labels.zip")[:3]:
        singles.append(roi.tobytes())
    fp.train_forest(image, labels, indices=[1, 4], trees=3, folds=0, model=folder / "m.poreseg")
    models = [(folder / "m.poreseg").read_bytes()]

    def segmented(path: Path) -> object:
        return fp.segment(image, model=fp.load(path), indices=[2]).segmentation.sum()

    def told(path: Path) -> object:
        """A macro's line, as far as the command that it is for."""
        name, _, line = path.read_bytes().decode("latin-1").partition(": ")
        command = CATALOG[name] if name in CATALOG else CATALOG["train_forest"]
        first = {"image": image} if "image" in command.parameters else {}
        return command.bind({**first, **parse_options(line)})

    def read(path: Path) -> object:
        return np.asarray(fp.read(path))

    def read_unpacked(path: Path) -> object:
        """The folder of an OME-Zarr, of which a damaged one may say that it is huge."""
        place = path.with_suffix(".zarr")
        shutil.rmtree(place, ignore_errors=True)
        shutil.unpack_archive(path, place)
        return fp.read(place).isel(z=0).to_numpy()

    def drawn(path: Path) -> object:
        return labels_from(path, image).sum()

    return {
        "tiff": Kind(".tif", tuple(tiffs), read),
        "labels as TIFF": Kind(".tif", tuple(tiffs), drawn),
        "roi": Kind(".roi", tuple(singles), drawn),
        "zip of ROIs": Kind(".zip", tuple(zips), drawn),
        "labeling": Kind(".labeling", (labeling,), drawn),
        "forest": Kind(".poreseg", tuple(models), segmented),
        "ResUNet": Kind(".poreseg", (RESUNET.read_bytes(),), fp.load),
        "Zarr": Kind(".zip", (*zarrs,), read_unpacked, harmed_entry),
        "macro options": Kind(".txt", tuple(f"{n}: {t}".encode() for n, t in LINES.items()), told),
    }


def attempt(kind: Kind, number: int, folder: Path) -> tuple[bool, str]:
    """Try one: whether it was refused, and what is wrong with that, empty for nothing."""
    rng = np.random.default_rng([len(kind.suffix), number])
    whole = kind.whole[number % len(kind.whole)]
    path = folder / f"input{kind.suffix}"
    path.write_bytes(kind.harm(whole, rng))
    begun = time.monotonic()
    refused, wrong = False, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", PoreSegWarning)
            kind.take(path)
    except ParameterError as error:
        refused = True
        if "\n" in str(error):
            wrong = f"a message of several lines: {error}"
    except Exception as error:  # anything else is what is looked for
        wrong = f"{type(error).__name__}: {error}"
    if time.monotonic() - begun > LONGEST_S:
        wrong = f"took {time.monotonic() - begun:.1f} s"
    return refused, wrong


def try_batch(name: str, first: int, count: int) -> tuple[int, list[str], int]:
    """Try some of a kind: how many were refused, what went wrong, and memory beyond the start."""
    with tempfile.TemporaryDirectory() as folder:
        kind = kinds(Path(folder))[name]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcomes = [attempt(kind, number, Path(folder)) for number in range(first, first + count)]
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    faults = [
        f"{name} {first + position}: {wrong}"
        for position, (_, wrong) in enumerate(outcomes)
        if wrong
    ]
    return sum(refused for refused, _ in outcomes), faults, more * 1024


def main() -> None:
    """Print how many of each kind were taken and refused, and whatever went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--kind", help="one kind only")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        names = [asked.kind] if asked.kind else list(kinds(Path(folder)))
    context = multiprocessing.get_context("spawn")
    failed = False
    sys.stdout.write("| kind | tried | refused | faults | memory beyond the start, MB |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    for name in names:
        refused, faults, most = 0, [], 0
        for first in range(asked.first, asked.first + asked.count, BATCH):
            count = min(BATCH, asked.first + asked.count - first)
            with ProcessPoolExecutor(1, context) as pool:
                waited = pool.submit(try_batch, name, first, count)
                try:
                    some, wrong, more = waited.result(timeout=60 + LONGEST_S * count)
                except (BrokenExecutor, TimeoutError) as error:
                    some, wrong, more = 0, [f"{name} {first}…: {type(error).__name__}"], 0
                    for process in multiprocessing.active_children():
                        process.kill()
            refused, faults, most = refused + some, faults + wrong, max(most, more)
        sys.stdout.write(f"| {name} | {asked.count} | {refused} | {len(faults)} | {most >> 20} |\n")
        for fault in faults[:20]:
            sys.stderr.write(fault + "\n")
        failed |= bool(faults) or most > MOST_BYTES
    sys.exit(failed)


if __name__ == "__main__":
    main()
