"""The bridge to ImageJ: the only room that knows Java. Importing it starts no JVM."""

from __future__ import annotations

from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from fiji_poreseg.errors import EngineError, MacroError, ParameterError, warnings_told

if TYPE_CHECKING:
    import xarray as xr

    from fiji_poreseg.bridge.engines import Engine
    from fiji_poreseg.bridge.session import Session
    from fiji_poreseg.commands.spec import Catalog

__all__ = [
    "EngineError",
    "ImageJ",
    "MacroError",
    "register",
    "run_macro_file",
    "run_window",
    "shutdown",
    "start",
    "to_imageplus",
    "to_imglib2",
    "to_xarray",
]

# How long a command may take to clear up when ImageJ is quit under it.
_LONGEST_CANCEL_S = 10.0
_running: ImageJ | None = None
_starting = RLock()


class ImageJ:
    """A running ImageJ that knows the commands; made by `start` and `register`.

    Parameters
    ----------
    session
        Its commands.
    engine
        What it is: `engine.kind`, and PyImageJ's `engine.gateway` where there is one.
    """

    def __init__(self, session: Session, engine: Engine) -> None:
        self._session = session
        self.engine = engine

    def run_macro(self, text_or_path: str | Path, argument: str = "") -> str | None:
        """Run a macro.

        Parameters
        ----------
        text_or_path
            The macro's text, or the path of an ``.ijm`` or ``.txt`` file.
        argument
            What the macro's ``getArgument()`` answers.

        Returns
        -------
        str or None
            The macro's return value.

        Raises
        ------
        MacroError
            If the macro itself has a fault; it names the line.
        Exception
            Whatever a command raised.
        """
        return self._session.run_macro(_macro_text(text_or_path), argument)

    def add_commands(self, catalog: Catalog) -> None:
        """Make further commands known to macros."""
        self._session.register(catalog)

    def to_imageplus(self, stack: xr.DataArray) -> Any:
        """Copy a stack into an ImagePlus; see `to_imageplus`."""
        return _images().to_imageplus(stack)

    def to_imglib2(self, stack: xr.DataArray) -> Any:
        """Hand a stack to ImgLib2 without a copy; see `to_imglib2`."""
        return _images().to_imglib2(stack)

    def to_xarray(self, image: object) -> xr.DataArray:
        """Take an ImagePlus or an ImgLib2 image as a stack; see `to_xarray`."""
        stack: xr.DataArray = _images().to_xarray(image)
        return stack

    def java(self, name: str) -> Any:
        """Look up a Java class by its full name, such as ``ij.WindowManager``."""
        from fiji_poreseg.bridge.jvm import jclass

        return jclass(name)

    def close(self) -> None:
        """Close every image and empty the Results table; ImageJ itself goes on."""
        manager = self.java("ij.WindowManager")
        for number in manager.getIDList() or ():
            image = manager.getImage(int(number))
            image.changes = False
            image.close()
        self.java("ij.measure.ResultsTable").getResultsTable().reset()


def start(
    *,
    engine: str = "auto",
    fiji: str | Path | None = None,
    headless: bool = True,
    catalog: Catalog | None = None,
) -> ImageJ:
    """Start ImageJ with the commands in it, or add them to the one that runs.

    Parameters
    ----------
    engine
        ``embedded``: ImageJ alone; ``fiji``: a Fiji, with its plugins; ``auto``: a Fiji if
        `fiji` or the environment variable FIJI_HOME names one.
    fiji
        A Fiji's folder, or Maven coordinates such as ``sc.fiji:fiji`` or ``sc.fiji:fiji:2.17.0``.
    headless
        Whether to do without a window; a window that is open stays.
    catalog
        The commands; all of the package's by default.

    Returns
    -------
    ImageJ
        The same one each time: there is one ImageJ in a process. Where somebody else has started
        the JVM, it is the ImageJ in that one, and stays theirs to end.

    Raises
    ------
    ParameterError
        If the engine is unknown, or the folder holds no Fiji.
    EngineError
        If there is no Java, ImageJ cannot be fetched or started, or the one that runs already is
        not what was asked for.
    """
    from fiji_poreseg.bridge import engines, jvm

    jvm.check_not_ended()
    with _starting:
        if _running is None:
            return _begin(engines.start_engine(engine, fiji, headless=headless), catalog)
        _running.engine = engines.reuse(_running.engine, engine, fiji, headless=headless)
        return _with_commands(_running, catalog)


def register(gateway: Any, *, catalog: Catalog | None = None) -> ImageJ:
    """Add the commands to an ImageJ that PyImageJ has started already.

    Parameters
    ----------
    gateway
        What ``imagej.init(...)`` returned, in a notebook or in a Fiji in its Python mode.
    catalog
        The commands; all of the package's by default.

    Returns
    -------
    ImageJ
        As from `start`. The gateway's own ``ij.py.run_macro`` knows the commands, too.

    Raises
    ------
    ParameterError
        If it is no gateway.
    EngineError
        If that ImageJ cannot run macros, or its JVM was started with options that do not suffice.
    """
    from fiji_poreseg.bridge import engines, jvm

    jvm.check_not_ended()
    if gateway is None or isinstance(gateway, bool | str | Path):
        raise ParameterError(
            "gateway",
            "must be what imagej.init(...) returned",
            repr(gateway),
            'Give the ij of ij = imagej.init(...); with mode="gui" that returns None, so use '
            'mode="interactive".',
        )
    with _starting:
        if _running is None:
            return _begin(engines.join(headless=True, gateway=gateway), catalog)
        if _running.engine.kind == "joined":
            _running.engine = engines.join(headless=True, gateway=gateway)
        return _with_commands(_running, catalog)


def _begin(engine: Engine, catalog: Catalog | None) -> ImageJ:
    global _running
    from fiji_poreseg.bridge.session import Session

    _images()  # from now on as_stack() takes images of ImageJ
    _running = ImageJ(Session(), engine)
    return _with_commands(_running, catalog)


def _with_commands(running: ImageJ, catalog: Catalog | None) -> ImageJ:
    running.add_commands(_default_catalog() if catalog is None else catalog)
    return running


def _default_catalog() -> Catalog:
    from fiji_poreseg.commands.catalog import CATALOG

    return CATALOG


def _macro_text(text_or_path: str | Path) -> str:
    named = isinstance(text_or_path, Path) or (
        "\n" not in text_or_path and text_or_path.endswith((".ijm", ".txt"))
    )
    if not named:
        return str(text_or_path)
    path = Path(text_or_path).expanduser()
    if not path.is_file():
        raise ParameterError(
            "macro", "must name a file that exists", str(path), "Give its whole path."
        )
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _images() -> Any:
    from fiji_poreseg.bridge import images

    return images


def run_macro_file(path: str | Path, argument: str = "", *, fiji: str | Path | None = None) -> None:
    """Run a macro file headless, with every command registered; raises what went wrong."""
    start(fiji=fiji).run_macro(Path(path), argument)


def run_window(fiji: str | Path | None = None) -> None:
    """Open ImageJ's window with the commands in Plugins > PoreSeg; return when it was closed.

    Parameters
    ----------
    fiji
        As for `start`.

    Raises
    ------
    ParameterError
        If the folder holds no Fiji.
    EngineError
        If there is no display, or ImageJ cannot be started.
    """
    from fiji_poreseg.bridge import window

    def work() -> None:
        ij = start(fiji=fiji, headless=False)
        try:
            with warnings_told(ij.java("ij.IJ").log):
                window.wait_until_quit()
        finally:
            ij._session.cancel(_LONGEST_CANCEL_S)

    window.beside_event_loop(work)


def to_imageplus(stack: xr.DataArray) -> Any:
    """Copy a stack into an ImagePlus; starts ImageJ if needed. See `images.to_imageplus`."""
    start()
    return _images().to_imageplus(stack)


def to_imglib2(stack: xr.DataArray) -> Any:
    """Hand a stack to ImgLib2 without a copy; starts ImageJ if needed. See `images.to_imglib2`."""
    start()
    return _images().to_imglib2(stack)


def to_xarray(image: object) -> xr.DataArray:
    """Take an ImagePlus or an ImgLib2 image as a stack. See `images.to_xarray`."""
    start()
    stack: xr.DataArray = _images().to_xarray(image)
    return stack


def shutdown() -> None:
    """End ImageJ and the JVM, if we started them, so that the process can exit at once."""
    if _running is not None:
        from fiji_poreseg.bridge import jvm

        jvm.shutdown()
