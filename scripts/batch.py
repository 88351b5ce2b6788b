"""Segment every TIFF of a folder with one model, and tabulate the porosity; needs no display.

    python scripts/batch.py STACKS --model resunet.poreseg --output SEGMENTED

leaves NAME-segmentation.tif of each NAME.tif and porosity.csv, a row for each stack. A stack that
cannot be segmented is named in its row and at the end, where the exit status is then 1; the others
are done. An older result is replaced when its new one is whole; with --skip-existing it is kept,
so that a job that a cluster has ended goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import fiji_poreseg as fp

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
        result = rows[-1].get("error") or f"porosity {rows[-1]['porosity']:.4f}"
        sys.stdout.write(f"{number} of {len(stacks)}: {path.name}: {result}\n")
        sys.stdout.flush()
    write_table(given.output / "porosity.csv", rows)
    failed = [row for row in rows if "error" in row]
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
        return {"stack": path.name, "error": str(error) or type(error).__name__}
    pixels = sum(entry.pixels for entry in measured.slices)
    return {"stack": path.name, "porosity": measured.porosity, "pixels": pixels}


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the rows as CSV, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
