"""Models of every format that was ever released are read, and answer as they did.

python tests/test_old_models.py        adds a folder for the present format, before a release
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.model import FORMAT_VERSION

MODELS = Path(__file__).parent / "models"
FORMATS = sorted((path for path in MODELS.iterdir() if path.is_dir()), key=lambda p: int(p.name))


def tilted_waves():
    """A stack that depends on nothing of the package: what is bright is solid."""
    z, y, x = np.mgrid[:20, :32, :32]
    waves = np.sin(x / 3 + z / 5) + np.sin(y / 4 - z / 7) + np.sin((x + y) / 9)
    return fp.make_stack((waves * 40 + 128).astype(np.uint8), (10, 10, 10))


def keep():
    """Write small models, and what they answer."""
    folder = MODELS / str(FORMAT_VERSION)
    folder.mkdir(parents=True)
    stack = tilted_waves()
    labels = fp.make_labels(np.where(stack > 150, 2, 1).astype(np.uint8), stack)
    sparse = labels.where(np.random.default_rng(0).random(labels.shape) < 0.2, 0).astype(np.uint8)
    options = {"indices": (1, 7, 13)}
    fp.train_forest(stack, labels, model=folder / "forest.poreseg", trees=3, folds=0, **options)
    fp.train_forest(
        stack, sparse, model=folder / "forest-of-scribbles.poreseg", trees=24, pixels=600, **options
    )
    fp.train_resunet(
        stack, labels, model=folder / "resunet.poreseg", network="small", steps=3, **options
    )
    for path in sorted(folder.glob("*.poreseg")):
        ((_, found),) = fp.load(path).predict(stack, [4])
        np.save(path.with_suffix(".npy"), found.astype(np.float16), allow_pickle=False)


@pytest.mark.parametrize("folder", FORMATS, ids=lambda path: path.name)
def test_an_old_model_answers_as_it_did(folder):
    paths = sorted(folder.glob("*.poreseg"))
    assert len(paths) >= 3
    for path in paths:
        ((_, found),) = fp.load(path).predict(tilted_waves(), [4])
        np.testing.assert_allclose(found, np.load(path.with_suffix(".npy")), atol=2e-3)


def test_the_present_format_is_kept_too():
    assert [int(path.name) for path in FORMATS] == list(range(1, FORMAT_VERSION + 1))


def test_a_newer_one_says_what_to_do(tmp_path):
    newer = tmp_path / "newer.poreseg"
    with (
        zipfile.ZipFile(FORMATS[-1] / "forest.poreseg") as old,
        zipfile.ZipFile(newer, "w") as new,
    ):
        for name in old.namelist():
            content = old.read(name)
            if name == "model.json":
                content = json.dumps(json.loads(content) | {"format_version": FORMAT_VERSION + 1})
            new.writestr(name, content)
    with pytest.raises(fp.ParameterError, match="written by a newer fiji-poreseg"):
        fp.load(newer)


if __name__ == "__main__":
    keep()
