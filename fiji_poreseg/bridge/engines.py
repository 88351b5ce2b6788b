"""Which ImageJ is used: the embedded one, a Fiji, or the one that runs in this process already."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fiji_poreseg.bridge import fiji_folder, jvm
from fiji_poreseg.errors import EngineError, ParameterError

ENGINES = ("auto", "embedded", "fiji")
_ANEW = "A process can have one: start Python anew to use another."


@dataclass(frozen=True)
class Engine:
    """A running ImageJ: what it is, and where it is from.

    Parameters
    ----------
    kind
        ``embedded``, ``fiji``, or ``joined`` where somebody else started it.
    fiji
        The Fiji's folder or Maven coordinates.
    headless
        Whether it was started without a window.
    gateway
        PyImageJ's, where there is one.
    """

    kind: str
    fiji: Path | str | None = None
    headless: bool = True
    gateway: Any = None


def choose(engine: str, fiji: str | Path | None) -> Path | str | None:
    """Decide for the Fiji to start; None stands for the embedded engine.

    Raises
    ------
    ParameterError
        If the engine is unknown, or the Fiji is not named as it must be.
    """
    _check_name(engine)
    if engine == "embedded":
        if fiji is not None:
            raise ParameterError(
                "fiji", "must be left out with engine=embedded", str(fiji), "Or use engine=fiji."
            )
        return None
    place = fiji_folder.locate(fiji)
    if place is None and engine == "fiji":
        raise ParameterError(
            "fiji",
            "must name a Fiji's folder or Maven coordinates with engine=fiji",
            "",
            "Give it, such as sc.fiji:fiji, or set FIJI_HOME to the folder.",
        )
    return place


def _check_name(engine: str) -> None:
    if engine not in ENGINES:
        raise ParameterError(
            "engine", f"must be one of {', '.join(ENGINES)}", engine, "Leave it out for auto."
        )


def start_engine(engine: str, fiji: str | Path | None, *, headless: bool) -> Engine:
    """Start what was asked for, or join the JVM that runs; see `bridge.start`."""
    place = choose(engine, fiji)
    if jvm.is_running():
        return join(headless=headless, fiji_wanted=_names_a_fiji(engine, fiji))
    if place is not None:
        from fiji_poreseg.bridge.fiji import start_imagej as start_fiji

        return Engine(
            "fiji", place, headless, start_fiji(place, java_for(place), headless=headless)
        )
    from fiji_poreseg.bridge.embedded import start_imagej

    start_imagej(headless=headless)
    return Engine("embedded", headless=headless)


def java_for(fiji: Path | str | None) -> jvm.Java:
    """Find a Java that is new enough for what is to be started, and for a Fiji's folder its own."""
    if not isinstance(fiji, Path):
        return jvm.find_java()
    oldest = max(jvm.OLDEST_JAVA, fiji_folder.oldest_java(fiji))
    return jvm.find_java(oldest, fiji_folder.own_javas(fiji))


def join(*, headless: bool, fiji_wanted: bool = False, gateway: Any = None) -> Engine:
    """Use the ImageJ of a JVM that somebody else started."""
    from fiji_poreseg.bridge import joined

    if fiji_wanted and not joined.has_fiji():
        raise EngineError(f"A JVM runs in this process already, and it holds no Fiji. {_ANEW}")
    joined.start_imagej(headless=headless)
    return Engine("joined", headless=headless, gateway=gateway)


def reuse(running: Engine, engine: str, fiji: str | Path | None, *, headless: bool) -> Engine:
    """Take the ImageJ that runs, unless something else was asked for by name.

    Raises
    ------
    ParameterError
        If the engine is unknown, or the Fiji is not named as it must be.
    EngineError
        If it is not what is asked for.
    """
    _check_name(engine)
    wanted = choose(engine, fiji) if _names_a_fiji(engine, fiji) else None
    if running.kind == "joined":
        return join(headless=headless, fiji_wanted=wanted is not None, gateway=running.gateway)
    is_other = engine == "embedded" and running.kind != "embedded"
    if is_other or wanted not in (None, running.fiji):
        runs = f"as the Fiji in {running.fiji}" if running.fiji else "without a Fiji"
        raise EngineError(f"ImageJ runs in this process already, {runs}. {_ANEW}")
    if running.headless and not headless:
        raise EngineError(f"ImageJ runs in this process already, without a window. {_ANEW}")
    return running


def _names_a_fiji(engine: str, fiji: str | Path | None) -> bool:
    return engine == "fiji" or fiji is not None
