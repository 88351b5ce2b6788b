"""How long it takes to paint 10,000 ROIs of one zip, beside ImageJ itself.

    python benchmarks/labels.py        1 minute

Freehand areas and lines, ovals, rectangles and composites with holes, drawn at random on 200 slices
of 512 x 512. ImageJ reads the same zip's entries and fills each into its slice, through its Java
methods. Areas cover the same pixels; a pixel of a thin line may be its neighbour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

import fiji_poreseg as fp
from fiji_poreseg.rois import labels_from, labels_to_rois, write_rois

SHAPE = (200, 512, 512)


def drawn(count: int, seed: int) -> list[ImagejRoi]:
    """ROIs of five kinds in turn."""
    rng = np.random.default_rng(seed)
    return [_one(number % 5, rng) for number in range(count)]


def _one(kind: int, rng: np.random.Generator) -> ImagejRoi:
    z = int(rng.integers(SHAPE[0]))
    x, y = (int(rng.integers(20, side - 60)) for side in SHAPE[1:])
    width, height = (int(side) for side in rng.integers(5, 40, 2))
    common = {"position": z + 1, "group": int(rng.integers(1, 3))}
    box = {"left": x, "top": y, "right": x + width, "bottom": y + height}
    if kind == 0:
        return ImagejRoi(roitype=ROI_TYPE.RECT, **box, **common)
    if kind == 1:
        return ImagejRoi(roitype=ROI_TYPE.OVAL, **box, **common)
    if kind == 2:
        mask = np.zeros(SHAPE[1:], np.uint8)
        mask[y : y + height, x : x + width] = common["group"]
        mask[y + 1 : y + 3, x + 1 : x + 3] = 0
        like = fp.make_stack(mask[np.newaxis], (10, 10, 10), name="s")
        (made,) = labels_to_rois(fp.make_labels(mask[np.newaxis], like))
    else:
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=kind == 4)
        radius = 20 + rng.normal(0, 1.5, 60)
        points = np.stack([x + 20 + radius * np.cos(angles), y + 20 + radius * np.sin(angles)], 1)
        made = ImagejRoi.frompoints(points.astype(np.float32))
        made.roitype = ROI_TYPE.FREEHAND if kind == 3 else ROI_TYPE.FREELINE
        made.stroke_width = 1
    made.position, made.group = common["position"], common["group"]
    return made


def filled_by_imagej(path: Path) -> tuple[Any, float]:
    """What ImageJ makes of the zip, and the seconds that it takes."""
    ij = fp.start()
    decode = ij.java("ij.io.RoiDecoder").openFromByteArray
    empty = fp.make_stack(np.zeros(SHAPE, np.uint8), (10, 10, 10), name="s")
    image = ij.to_imageplus(empty)
    start = time.perf_counter()
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            roi = decode(archive.read(name))
            processor = image.getStack().getProcessor(roi.getPosition())
            processor.setValue(roi.getGroup())
            if roi.isLine():
                roi.drawPixels(processor)
            else:
                processor.setRoi(roi)
                mask = processor.getMask()
                processor.fill() if mask is None else processor.fill(mask)
    seconds = time.perf_counter() - start
    return ij.to_xarray(image).to_numpy(), seconds


def main() -> None:
    """Print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    stack = fp.make_stack(np.zeros(SHAPE, np.uint8), (10, 10, 10), name="s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.zip"
        write_rois(path, drawn(asked.count, asked.seed))
        start = time.perf_counter()
        labels = labels_from(path, stack).to_numpy()
        ours = time.perf_counter() - start
        theirs, seconds = filled_by_imagej(path)
    labelled = (labels > 0) | (theirs > 0)
    same = np.mean(labels[labelled] == theirs[labelled])
    sys.stdout.write(
        f"{asked.count} ROIs on {SHAPE[0]} x {SHAPE[1]} x {SHAPE[2]}: {ours:.1f} s; ImageJ "
        f"{seconds:.1f} s ({ours / seconds:.2f} of it); "
        f"{same:.4f} of the labelled pixels are the same\n"
    )


if __name__ == "__main__":
    main()
