"""Run a macro in a process of its own, as the command line does; the exit status tells the end.

    python run_macro.py MACRO_TEXT

Prints ``JAVA …`` with the Java in use and ``LAST …`` with the time of the macro's last line.
"""

# ruff: noqa: T201 - what it prints is what the tests read
import sys
import time
from typing import Annotated

import scyjava

from fiji_poreseg import bridge
from fiji_poreseg.bridge import jvm
from fiji_poreseg.commands.spec import Catalog, Param, Presentation

CATALOG = Catalog()


@CATALOG.command("Test Fail", lambda _: Presentation())
def fail(*, seed: Annotated[int, Param("a number", ge=0)] = 0) -> None:
    """Fail, as a full disk does."""
    raise OSError("no space left on device")


@CATALOG.command("Test TensorFlow", lambda _: Presentation())
def tensorflow(*, seed: Annotated[int, Param("a number", ge=0)] = 0) -> None:
    """Convolve once with TensorFlow."""
    import tensorflow as tf

    print(
        "TENSORFLOW",
        float(tf.reduce_sum(tf.nn.conv2d(tf.ones((1, 4, 4, 1)), tf.ones((1, 1, 1, 1)), 1, "SAME"))),
    )


def main() -> int:
    # Most of a short process would else go to compiling Java well.
    scyjava.config.add_option("-XX:TieredStopAtLevel=1")
    try:
        ij = bridge.start(catalog=CATALOG)
        print("JAVA", jvm.find_java().source, ij.java("java.lang.System").getProperty("java.home"))
        ij.run_macro(sys.argv[1])
    except Exception as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        print("LAST", time.time(), flush=True)
        bridge.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
