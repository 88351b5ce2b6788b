"""Use the ImageJ in a JVM that somebody else started, as a notebook with PyImageJ has it.

    python join_jvm.py HOW...

HOW is any of: opens, headless (options of the JVM), bare (without ImageJ's patcher), patched,
loaded (ImageJ, before it is joined), window, fiji (what start() is asked for), register.
"""

# ruff: noqa: T201 - what it prints is what the tests read
import os
import sys
import time

import scyjava
from jpype import JClass

import fiji_poreseg as fp
from fiji_poreseg.bridge import jvm

MACRO = """newImage("a", "8-bit ramp", 64, 64, 2); run("Gaussian Blur...", "sigma=2 stack");
    run("PoreSeg Select Slices", "count=2"); return "" + nResults;"""


def main(how: set[str]) -> None:
    parts = ["net.imglib2:imglib2:8.0.1"] if "bare" in how else jvm.ENDPOINTS
    scyjava.config.endpoints.extend(parts)
    scyjava.config.set_java_constraints(fetch="never", version="11+")
    # A notebook has a Java of its own; here it may be the one that comes with the package.
    os.environ["JAVA_HOME"] = str(jvm.find_java().home)
    # Most of a short process would else go to compiling Java well.
    scyjava.config.add_option("-XX:TieredStopAtLevel=1")
    if "opens" in how:
        scyjava.config.add_option("--add-opens=java.base/java.lang=ALL-UNNAMED")
    if "headless" in how:
        scyjava.config.add_option("-Djava.awt.headless=true")
    scyjava.start_jvm()
    scyjava.when_jvm_stops(lambda: print("THEIR END"))
    if "patched" in how:
        JClass("net.imagej.patcher.LegacyInjector").preinit()
    if "loaded" in how:
        JClass("ij.IJ").getVersion()
    try:
        if "register" in how:
            context = JClass("org.scijava.Context")(False)
            ij = fp.register(context)
            assert ij.engine.gateway is context
        else:
            fiji = "sc.fiji:fiji" if "fiji" in how else None
            ij = fp.start(headless="window" not in how, fiji=fiji)
        print("MACRO", ij.run_macro(MACRO), ij.engine.kind)
        print("IMAGEJ", JClass("ij.IJ").runMacro(MACRO))
        window = ij.java("ij.IJ").getInstance()
        print("WINDOW", window is not None and window.isVisible())
    except (fp.EngineError, fp.ParameterError) as error:
        print("REFUSED", error)
    # Nothing of ours ends this JVM: it must not keep the process, either.
    print("LAST", time.time(), flush=True)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
