"""The program that a plugin starts: `python -m fiji_poreseg.remote FOLDER`."""

import os
import sys
from pathlib import Path

from fiji_poreseg.remote.folder import Folder


def main() -> None:
    """Answer the request in the folder, and end the process."""
    folder = Folder(Path(sys.argv[1]))
    folder.publish("pid.txt", str(os.getpid()))
    folder.watch()
    # What takes long to import comes after the plugin knows that Python runs.
    from fiji_poreseg.remote.answer import answer

    try:
        folder.publish("answer.txt", answer(folder))
    finally:
        # As in fiji_poreseg.cli: Python's own way out would take TensorFlow seconds.
        os._exit(0)


if __name__ == "__main__":
    main()
