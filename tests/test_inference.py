"""Prediction with the ResUNet: the same as Keras, without seams, in little memory."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fiji_poreseg as fp
from fiji_poreseg.blocks import tiles, trusted
from fiji_poreseg.resunet.backend import keras, tf
from fiji_poreseg.resunet.context import channels, existing, fill, with_reach
from fiji_poreseg.resunet.fused import fused
from fiji_poreseg.resunet.inference import Predictor
from fiji_poreseg.resunet.network import build
from fiji_poreseg.resunet.runtime import compiled
from fiji_poreseg.slices import SliceReader, voxel_offsets


def predicted(model, stack, indices, **options):
    return dict(model.predict(stack, indices, **options))


def by_keras(model, stack, index):
    """Probabilities as the network itself gives them; sides must be multiples of 8."""
    network = build(
        model.context.channel_count(model.card.detectors), len(model.card.classes), model.filters
    )
    network.set_weights(list(model.weights.values()))
    reader = SliceReader(stack)
    offsets = voxel_offsets(model.context.offsets_nm, stack, model.card.milling)
    view = with_reach(
        channels(reader, index, offsets),
        existing(index, offsets, len(reader)),
        model.context.offsets_nm,
    )
    logits = network.predict(view[np.newaxis], verbose=0)[0]
    return np.moveaxis(np.asarray(tf.nn.softmax(logits)), -1, 0)


def varied(network, seed=0):
    """Give the normalisations of a network values as after training."""
    rng = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [rng.uniform(low, high, shape) for low, high in [(0.5, 1.5), (-1, 1)] * 2]
            )
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))
    return network


@pytest.fixture(params=["openvino", "tensorflow"])
def engine(request, monkeypatch):
    """With OpenVINO, and as where it is not installed."""
    if request.param == "tensorflow":
        monkeypatch.setitem(sys.modules, "openvino", None)
    else:
        pytest.importorskip("openvino")
    return request.param


class TestExact:
    def test_equals_keras(self, resunet, phantom, engine):
        model = replace(resunet)  # nothing of it is compiled yet
        for index, made in model.predict(phantom.stack, [0, 9, 29]):
            theirs = by_keras(model, phantom.stack, index)
            np.testing.assert_allclose(made, theirs, atol=1e-5)

    @pytest.mark.parametrize("filters", [(16, 16, 32, 32), (16, 32), (16, 32, 48, 64, 80)])
    def test_of_any_depth_equals_keras(self, filters, engine):
        network = varied(build(5, 3, filters))
        planes = np.random.default_rng(1).random((2, 5, 48, 64), np.float32)
        made = compiled(network, planes.shape, "exact")(planes)
        theirs = tf.nn.softmax(network(np.moveaxis(planes, 1, -1), training=False))
        np.testing.assert_allclose(made, np.moveaxis(theirs, -1, 1), atol=1e-5)

    def test_is_the_same_every_time_and_in_any_company(self, resunet, phantom):
        # 16 slices of 64 x 64 go together: alone, in another place and after other slices.
        whole = predicted(resunet, phantom.stack, range(30))
        for asked in ([17], [29, 17, 3], range(30)):
            for index, made in predicted(replace(resunet), phantom.stack, asked).items():
                np.testing.assert_array_equal(made, whole[index])


def test_layers_that_are_not_rewritten_are_called(engine):
    layers = keras.layers
    given = keras.Input((None, None, 4))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", dilation_rate=2)(given)
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.AveragePooling2D(2)(x)])
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.UpSampling2D()(layers.UpSampling2D()(x))
    x = layers.Conv2D(6, 5, padding="same")(x)
    network = varied(keras.Model(given, layers.BatchNormalization()(x)))
    planes = np.random.default_rng(1).random((1, 4, 16, 24), np.float32)
    made = compiled(network, planes.shape, "exact")(planes)
    theirs = tf.nn.softmax(network(np.moveaxis(planes, 1, -1), training=False))
    np.testing.assert_allclose(made, np.moveaxis(theirs, -1, 1), atol=1e-5)


def test_a_fused_network_has_fewer_operations():
    network = build(14, 2, (16, 32, 64, 128))

    def operations(function):
        made = tf.function(function, autograph=False)
        graph = made.get_concrete_function(tf.TensorSpec((1, 64, 64, 14))).graph
        return [node.type for node in graph.get_operations()]

    plain = operations(lambda batch: network(batch, training=False))
    ours = operations(fused(network))
    assert "ConcatV2" in plain
    assert "ConcatV2" not in ours
    assert ours.count("Conv2DBackpropInput") == 3
    assert "FusedBatchNormV3" not in ours


class TestFast:
    def test_is_as_accurate(self, resunet, phantom):
        exact = predicted(resunet, phantom.stack, range(30))
        fast = predicted(resunet, phantom.stack, range(30), precision="fast")
        truth = phantom.truth.to_numpy()

        def accuracy(made):
            return np.mean([made[z].argmax(axis=0) + 1 == truth[z] for z in range(30)])

        assert accuracy(fast) == pytest.approx(accuracy(exact), abs=1e-3)
        assert max(np.abs(fast[z] - exact[z]).max() for z in range(30)) < 0.05

    def test_computes_in_bfloat16_where_the_cpu_has_it(self, resunet, phantom):
        openvino = pytest.importorskip("openvino")
        (fast,) = predicted(resunet, phantom.stack, [9], precision="fast").values()
        (exact,) = predicted(resunet, phantom.stack, [9]).values()
        has_it = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        assert np.array_equal(fast, exact) != has_it

    def test_without_openvino_is_exact(self, resunet, phantom, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        model = replace(resunet)
        (fast,) = predicted(model, phantom.stack, [9], precision="fast").values()
        np.testing.assert_allclose(fast, by_keras(model, phantom.stack, 9), atol=1e-5)


@pytest.fixture(scope="module")
def large():
    values = np.random.default_rng(0).normal(100, 20, (1, 1024, 1024))
    return fp.make_stack(gaussian_filter(values, (0, 3, 3)).astype(np.float32), (10, 10, 10))


class TestTiles:
    def test_leave_no_seam(self, resunet, large, monkeypatch):
        (whole,) = predicted(resunet, large, [0]).values()
        asked = []

        def noted(network, shape, precision):
            asked.append(shape[2:])
            return compiled(network, shape, precision)

        monkeypatch.setattr("fiji_poreseg.resunet.inference.compiled", noted)
        monkeypatch.setattr("fiji_poreseg.resunet.inference.LARGEST_TILE", 256)
        (tiled,) = predicted(replace(resunet), large, [0]).values()
        assert asked == [(240, 240)]
        np.testing.assert_allclose(tiled, whole, atol=1e-5)

    def test_of_the_augmented_leave_no_seam(self, resunet, large, monkeypatch):
        part = large[:, :200, :340]
        (whole,) = predicted(resunet, part, [0], augment=True).values()
        monkeypatch.setattr("fiji_poreseg.resunet.inference.LARGEST_TILE", 256)
        (tiled,) = predicted(replace(resunet), part, [0], augment=True).values()
        np.testing.assert_allclose(tiled, whole, atol=1e-5)

    def test_are_smaller_where_memory_is_short(self, resunet, large, monkeypatch):
        (whole,) = predicted(resunet, large, [0]).values()
        asked = []

        def short_of_memory(network, shape, precision):
            asked.append(max(shape[2:]))
            if asked[-1] > 450:
                raise RuntimeError("Exception from allocator.cpp:79:\nstd::bad_alloc")
            return compiled(network, shape, precision)

        monkeypatch.setattr("fiji_poreseg.resunet.inference.compiled", short_of_memory)
        with pytest.warns(fp.PoreSegWarning, match=r"memory is short: .* tiles of 512 x 512"):
            (tiled,) = predicted(replace(resunet), large, [0]).values()
        assert asked == [1024, 400]
        np.testing.assert_allclose(tiled, whole, atol=1e-5)

    def test_of_the_smallest_size_say_that_memory_is_short(self, resunet, large, monkeypatch):
        def no_memory(*_):
            raise RuntimeError("Failed to allocate 312016896 bytes of memory")

        monkeypatch.setattr("fiji_poreseg.resunet.inference.compiled", no_memory)
        with pytest.raises(MemoryError), pytest.warns(fp.PoreSegWarning):
            predicted(replace(resunet), large, [0])

    @pytest.mark.parametrize("shape", [(1, 1), (7, 200), (37, 51), (333, 9), (300, 410)])
    def test_fit_slices_of_any_size(self, resunet, large, shape, monkeypatch):
        monkeypatch.setattr("fiji_poreseg.resunet.inference.LARGEST_TILE", 128)
        part = large[:, : shape[0], : shape[1]]
        (made,) = predicted(replace(resunet), part, [0]).values()
        assert made.shape == (2, *shape)
        np.testing.assert_allclose(made.sum(axis=0), 1, atol=1e-5)

    @pytest.mark.parametrize("length", [128, 136, 1016, 1024, 2048, 4096])
    def test_begin_at_multiples_and_overlap(self, length):
        cuts = [columns for _, columns in tiles((8, length), 128, 96, 8)]
        assert cuts[0].start == 0
        assert cuts[-1].stop == length
        assert len({cut.stop - cut.start for cut in cuts}) == 1
        assert all(cut.start % 8 == 0 and cut.stop % 8 == 0 for cut in cuts)
        assert all(a.stop - b.start >= 96 for a, b in pairwise(cuts))

    def test_are_no_larger_than_needed(self):
        assert list(tiles((8, 2048), 1152, 96, 8)) == [
            (slice(0, 8), slice(0, 1072)),
            (slice(0, 8), slice(976, 2048)),
        ]

    @pytest.mark.parametrize("shape", [(128, 128), (136, 1016), (2048, 400)])
    def test_of_which_the_margin_does_not_count_cover_the_slice(self, shape):
        numbers = np.arange(np.prod(shape)).reshape(shape)
        found = np.full(shape, -1)
        for place in tiles(shape, 128, 80, 8):
            inside, of_tile = trusted(place, shape, 40)
            found[inside] = numbers[place][of_tile]
            for cut, part, length in zip(place, inside, shape, strict=True):
                assert part.start - cut.start == (40 if cut.start else 0)
                assert cut.stop - part.stop == (40 if cut.stop < length else 0)
        np.testing.assert_array_equal(found, numbers)


class TestAugmented:
    def test_is_the_mean_of_flips_and_turns(self, resunet, phantom):
        stack = phantom.stack[:, :40]
        (made,) = predicted(resunet, stack, [9], augment=True).values()
        total = np.zeros_like(made)
        for turns in range(4):
            for flip in (1, -1):
                values = np.rot90(stack.to_numpy(), turns, (1, 2))[..., ::flip]
                turned = fp.make_stack(np.ascontiguousarray(values), (10, 10, 10))
                (one,) = predicted(resunet, turned, [9]).values()
                total += np.rot90(one[..., ::flip], -turns, (1, 2))
        np.testing.assert_allclose(made, total / 8, atol=1e-5)

    def test_turns_with_the_slice(self, resunet, phantom):
        turned = fp.make_stack(np.rot90(phantom.stack.to_numpy(), 1, (1, 2)), (10, 10, 10))
        (made,) = predicted(resunet, phantom.stack, [9], augment=True).values()
        (other,) = predicted(resunet, turned, [9], augment=True).values()
        np.testing.assert_allclose(other, np.rot90(made, 1, (1, 2)), atol=1e-5)


def test_planes_are_filled_as_for_training():
    values = np.random.default_rng(0).integers(1, 255, (2, 6, 16, 24), np.uint8)
    stack = fp.make_stack(values, (10, 10, 10))
    reader, offsets = SliceReader(stack), [-3, -1, 1, 4]
    planes = np.empty((2 * 5 + 2, 16, 24), np.float32)
    for index in range(6):
        fill(planes, reader, index, offsets, offsets)
        view = channels(reader, index, offsets)
        theirs = with_reach(view, existing(index, offsets, 6), offsets)
        np.testing.assert_array_equal(planes, np.moveaxis(theirs, -1, 0))


def test_each_slice_is_read_once(resunet, monkeypatch):
    monkeypatch.setattr("fiji_poreseg.resunet.inference.BATCH_PIXELS", 1)
    values = np.random.default_rng(0).integers(1, 255, (60, 16, 16), np.uint8)
    read = []

    def plane(block, block_info):
        read.append(block_info[0]["chunk-location"][0])
        return block

    lazy = da.from_array(values, chunks=(1, 16, 16)).map_blocks(plane, dtype=values.dtype)
    stack = fp.make_stack(values, (10, 10, 10)).copy(data=lazy)
    made = dict(Predictor(resunet).predict(stack, range(60), precision="exact", augment=False))
    assert sorted(read) == list(range(60))
    assert len(made) == 60


def test_the_number_of_threads_hardly_matters(tmp_path):
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        # macOS and Windows have no such call, and one core has no other number of threads.
        pytest.skip("needs a system that can keep a process to one of several cores")
    code = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import numpy as np
from fiji_poreseg.resunet.network import build
from fiji_poreseg.resunet.runtime import compiled
rng = np.random.default_rng(0)
network = build(14, 2, (16, 32, 64, 128))
network.set_weights([
    rng.uniform(0.5, 2, weight.shape) if "variance" in weight.name
    else rng.uniform(-0.1, 0.1, weight.shape) for weight in network.weights
])
planes = rng.random((1, 14, 200, 264), np.float32)
np.save(sys.argv[2], compiled(network, planes.shape, "exact")(planes))
"""

    def with_cores(cores):
        path = tmp_path / f"{cores}.npy"
        subprocess.run([sys.executable, "-c", code, str(cores), path], check=True)
        return np.load(path)

    np.testing.assert_allclose(with_cores(1), with_cores(2), atol=1e-6)


def test_openvino_is_imported_without_its_telemetry():
    pytest.importorskip("openvino")
    code = (
        "import sys\n"
        "from fiji_poreseg.resunet.network import build\n"
        "from fiji_poreseg.resunet.runtime import compiled\n"
        "compiled(build(3, 2, (16, 16)), (1, 3, 16, 16), 'exact')\n"
        "print('openvino' in sys.modules, 'openvino_telemetry' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["True", "False"]
