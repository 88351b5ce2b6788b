"""Segment every TIFF of a folder with one model, and tabulate the porosity; needs no display.

    python scripts/batch.py STACKS --model resunet.poreseg --output SEGMENTED

leaves NAME-segmentation.tif of each NAME.tif and porosity.csv, a row for each stack. A stack that
cannot be segmented is named in its row and at the end, where the exit status is then 1; the others
are done. An older result is replaced when its new one is whole; with --skip-existing it is kept,
so that a job that a cluster has ended goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import fiji_poreseg as fp
from fiji_poreseg.files import write_csv

COLUMNS = ("stack", "porosity", "pixels", "error")


def main() -> int:
    """Segment what the command line asks for; answers with the exit status."""
    parser = argument_parser()
    given = parser.parse_args()
    stacks = sorted(
        path for path in given.folder.glob("*") if path.suffix.lower() in (".tif", ".tiff")
    )
    if not stacks:
        parser.error(f"FOLDER must hold TIFFs, but does not: {given.folder}")
    try:
        given.output.mkdir(parents=True, exist_ok=True)
        model = fp.load(given.model)
    except (fp.ParameterError, OSError) as error:
        parser.error(str(error))
    rows = []
    for number, path in enumerate(stacks, start=1):
        rows.append(row_of(path, model, given))
        result = rows[-1]["error"] or f"porosity {rows[-1]['porosity']:.4f}"
        sys.stdout.write(f"{number} of {len(stacks)}: {path.name}: {result}\n")
        sys.stdout.flush()
    try:
        write_csv(given.output / "porosity.csv", rows)
    except fp.ParameterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    failed = [row for row in rows if row["error"]]
    if failed:
        sys.stderr.write(f"{len(failed)} of {len(stacks)} stacks could not be segmented:\n")
        sys.stderr.writelines(f"  {row['stack']}: {row['error']}\n" for row in failed)
    return 1 if failed else 0


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the stacks are")
    parser.add_argument("--model", required=True, type=Path, help="a .poreseg file")
    parser.add_argument("--output", required=True, type=Path, help="folder for the results")
    parser.add_argument(
        "--nodata", type=float, help="grey value of the empty border that alignment leaves"
    )
    parser.add_argument(
        "--voxel-size-nm",
        metavar="Z,Y,X",
        type=lambda text: tuple(map(float, text.split(","))),
        help="voxel size where the images' own is missing or wrong",
    )
    parser.add_argument(
        "--skip-existing", action="store_true", help="keep the segmentations that are there"
    )
    return parser


def row_of(path: Path, model: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Segment one stack, unless that is done; answers with its row of the table."""
    output = given.output / f"{path.stem}-segmentation.tif"
    empty = dict.fromkeys(COLUMNS, "") | {"stack": path.name}
    try:
        if not (given.skip_existing and output.exists()):
            fp.segment(
                path,
                model=model,
                output=output,
                nodata=given.nodata,
                voxel_size_nm=given.voxel_size_nm,
            )
        measured = fp.measure(output)
    except (fp.ParameterError, OSError, MemoryError) as error:
        return empty | {"error": str(error) or type(error).__name__}
    pixels = sum(entry.pixels for entry in measured.slices)
    return empty | {"porosity": measured.porosity, "pixels": pixels}


if __name__ == "__main__":
    sys.exit(main())
