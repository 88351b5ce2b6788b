"""From a raw FIB-SEM stack to a segmentation and its porosity, in Python with ImageJ beside it.

    python scripts/segment_pores.py FOLDER [--fiji DIR]

FOLDER holds what macros/segment_pores.ijm asks for: stack.tif, labels.tif, corrections.tif and, for
the scores, truth.tif. Here ImageJ opens, filters, shows and saves the images, and the steps between
are Python functions that work on xarray, where numpy, scikit-image and the rest are at hand.

Who has a gateway of PyImageJ already lets it join instead of starting an ImageJ:

    ij = imagej.init("sc.fiji:fiji")
    fp.register(ij)

and goes on as below; `fp.to_xarray` takes the gateway's images too.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import xarray as xr

import fiji_poreseg as fp

PLACES = (0.08, 0.72, 0.998)  # of the stack's length, where the paper scores


def main() -> None:
    """Go the whole way for the folder that the command line names."""
    given = argument_parser().parse_args()
    folder: Path = given.folder
    ij = fp.start() if given.fiji is None else fp.start(fiji=given.fiji)
    ij1 = ij.java("ij.IJ")

    # 1. ImageJ's own corrections, on an image of ImageJ; then the same as an array.
    image = ij1.openImage(str(folder / "stack.tif"))
    if image is None:
        sys.exit(f"FOLDER must hold a stack.tif that ImageJ opens, but is: {folder}")
    raw = fp.to_xarray(image)
    ij1.run(
        image,
        "Bandpass Filter...",
        "filter_large=1000 filter_small=0 suppress=Vertical tolerance=5 process",
    )
    ij1.run(image, "Enhance Contrast...", "saturated=0.1 normalize process_all")
    stack = fp.to_xarray(image)

    # 2. The forest, from a few labelled pixels.
    forest = fp.train_forest(stack, folder / "labels.tif", seed=given.seed)
    draft = fp.segment(stack, model=forest)

    # 3. The hand: pore-backs that the forest took for solid, and what else it got wrong.
    corrected = fp.correct(draft.segmentation, folder / "corrections.tif").segmentation

    # 4. Which of the corrected slices the network is to learn from, and the network.
    indices = fp.select_slices(stack, strategy="distributed", count=given.count)
    scored = untrained(len(stack), indices)
    resunet = fp.train_resunet(
        stack,
        corrected,
        indices=indices,
        steps=given.steps,
        seed=given.seed,
        model=folder / "resunet.poreseg",
    )
    result = fp.segment(stack, model=resunet)

    # 5. Scores, on slices that the network was not trained on.
    if (folder / "truth.tif").exists():
        for name, made in (("forest", draft), ("ResUNet", result)):
            mean = fp.evaluate(
                made.segmentation,
                folder / "truth.tif",
                probability=made.probability,
                stack=raw,
                indices=scored,
            ).mean
            sys.stdout.write(
                f"{name}: accuracy {mean['accuracy']:.4f}, Dice of the solid "
                f"{mean['dice_solid']:.4f}, on slices {', '.join(map(str, scored))}\n"
            )

    # 6. The porosity, and the images back in ImageJ.
    sys.stdout.write(f"Porosity: {fp.measure(result.segmentation).porosity:.4f}\n")
    save(ij1, result.segmentation, folder / "resunet-segmentation.tif")
    save(ij1, result.probability, folder / "resunet-probability.tif")


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the images are")
    parser.add_argument("--fiji", metavar="DIR", help="a Fiji to use; ImageJ alone by default")
    parser.add_argument("--count", type=int, default=10, help="slices to train the ResUNet on")
    parser.add_argument("--steps", type=int, default=400, help="training steps of the ResUNet")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    return parser


def untrained(length: int, trained_on: tuple[int, ...]) -> tuple[int, ...]:
    """The slices nearest to the paper's places that were not trained on."""
    unseen = set(range(length)) - set(trained_on)
    if not unseen:
        sys.exit(f"count must be smaller than the {length} slices, so that some can be scored.")
    places = [place * (length - 1) for place in PLACES]
    return tuple(sorted({min(unseen, key=lambda index: abs(index - place)) for place in places}))


def save(ij1: Any, stack: xr.DataArray, path: Path) -> None:
    """Show a stack in ImageJ and let ImageJ save it."""
    image = fp.to_imageplus(stack)
    image.show()
    if not ij1.saveAsTiff(image, str(path)):
        sys.exit(f"ImageJ cannot write {path}: choose a folder where you may write.")


if __name__ == "__main__":
    main()
