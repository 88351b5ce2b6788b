"""The program that a plugin starts: `python -m fiji_poreseg.remote FOLDER`."""

import os
import sys
from pathlib import Path

from fiji_poreseg.remote.folder import Folder, encode


def main() -> None:
    """Answer the request in the folder, and end the process."""
    folder = Folder(Path(sys.argv[1]))
    folder.publish("pid.txt", str(os.getpid()))
    folder.watch()
    try:
        folder.publish("answer.txt", _answer(folder))
    finally:
        folder.leave()


def _answer(folder: Folder) -> str:
    try:
        # What takes long to import comes after the plugin knows that Python runs.
        from fiji_poreseg.remote.answer import answer

        return answer(folder)
    except Exception as error:  # such as a package that is missing: the user must hear of it
        message = f"{type(error).__name__}: {error}. Run `fiji-poreseg doctor`."
        return f"error\n{encode(message)}\n"


if __name__ == "__main__":
    main()
