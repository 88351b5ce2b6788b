"""Forest and ResUNet: trained, saved, loaded and applied."""

import csv
import json
import shutil
import zipfile

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.features import FeatureBank, FeatureReader
from fiji_poreseg.progress import reporting
from fiji_poreseg.slices import voxel_offsets

INDICES = (0, 6, 12, 18, 24)
UNSEEN = [index for index in range(30) if index not in INDICES]


def train_resunet(stack, labels, **options):
    return fp.train_resunet(
        stack, labels, indices=INDICES, network="small", **{"steps": 60, **options}
    )


@pytest.fixture(scope="session")
def forest(phantom):
    return fp.train_forest(phantom.stack, phantom.truth, indices=INDICES, trees=20)


@pytest.fixture(params=["forest", "resunet"])
def model(request):
    return request.getfixturevalue(request.param)


def test_it_beats_the_best_threshold_on_unseen_slices(model, phantom):
    made = fp.segment(phantom.stack, model=model)
    scored = fp.evaluate(
        made.segmentation, phantom.truth, probability=made.probability,
        stack=phantom.stack, indices=UNSEEN,
    )  # fmt: skip
    assert scored.mean["accuracy"] > scored.baseline.mean["accuracy"] + 0.02
    assert scored.mean["accuracy"] > scored.mean["majority_accuracy"] + 0.02
    assert scored.mean["loss"] < 0.4


def test_a_saved_model_segments_the_same(model, phantom, tmp_path):
    path = tmp_path / "größe.poreseg"
    model.save(path)
    loaded = fp.load(path)
    assert loaded.card == model.card
    ours, theirs = (fp.segment(phantom.stack, model=m, indices=[3, 29]) for m in (model, loaded))
    np.testing.assert_array_equal(ours.segmentation, theirs.segmentation)
    np.testing.assert_array_equal(ours.probability, theirs.probability)


def test_the_card_says_what_it_was_trained_on(model, phantom):
    card = model.card
    assert card.classes == ("pore", "solid")
    assert card.spacing_nm == (10, 10, 10)
    assert card.training_indices == INDICES
    assert set(card.hashes) == {"image", "labels"}
    assert "numpy" in card.versions


@pytest.mark.parametrize("kind", ["forest", "resunet"])
def test_one_seed_gives_one_file(kind, phantom, tmp_path, untraced):
    for name in ("a", "b"):
        path = tmp_path / f"{name}.poreseg"
        if kind == "forest":
            fp.train_forest(phantom.stack, phantom.truth, indices=INDICES, trees=5, model=path)
        else:
            train_resunet(phantom.stack, phantom.truth, steps=3, model=path)
    assert (tmp_path / "a.poreseg").read_bytes() == (tmp_path / "b.poreseg").read_bytes()


def test_only_the_slices_asked_for_are_segmented(model, phantom):
    made = fp.segment(phantom.stack, model=model, indices=[2, 7])
    segmented = made.segmentation.any(dim=("y", "x")).to_numpy()
    assert np.flatnonzero(segmented).tolist() == [2, 7]
    assert np.isnan(made.probability[0]).all()
    whole = fp.segment(phantom.stack, model=model)
    np.testing.assert_array_equal(whole.segmentation[7], made.segmentation[7])


def test_a_black_border_is_no_data(model, phantom):
    stack = phantom.stack.copy()
    stack[:, :8] = 0
    made = fp.segment(stack, model=model, nodata=0, indices=[5])
    assert (made.segmentation[5, :8] == 0).all()
    assert (made.segmentation[5, 8:] > 0).all()
    assert np.isnan(made.probability[5, :8]).all()


def test_brightness_and_contrast_of_a_slice_do_not_matter(model, phantom):
    made = fp.segment(phantom.stack, model=model, indices=[10])
    changed = (phantom.stack.astype(np.float32) * 3 + 100).assign_attrs(phantom.stack.attrs)
    again = fp.segment(changed, model=model, indices=[10])
    assert (made.segmentation[10] == again.segmentation[10]).mean() > 0.999


def test_odd_sizes_and_a_single_slice_work(model, phantom):
    part = phantom.stack[:1, :37, :51]
    made = fp.segment(part, model=model)
    assert made.segmentation.shape == (1, 37, 51)
    assert (made.segmentation > 0).all()


def test_another_number_of_detectors_is_refused(model, phantom):
    two = np.stack([phantom.stack, phantom.stack])
    with pytest.raises(fp.ParameterError, match=r"must have 1 detector\(s\)"):
        fp.segment(fp.make_stack(two, (10, 10, 10)), model=model)


def test_voxels_in_another_unit_are_refused(model, phantom):
    with pytest.raises(fp.ParameterError, match=r"about 10 x 10 x 10 nm .* 0\.01 x 0\.01 x 0\.01"):
        fp.segment(phantom.stack, model=model, voxel_size_nm=(0.01, 0.01, 0.01))


def test_far_other_voxels_and_the_other_milling_are_warned_of(model, phantom):
    with pytest.warns(fp.PoreSegWarning, match=r"trained on voxels of 10 x 10 x 10 nm"):
        fp.segment(phantom.stack, model=model, voxel_size_nm=(20, 10, 10), indices=[5])
    turned = phantom.stack[::-1].assign_coords(z=phantom.stack.z)
    with pytest.warns(fp.PoreSegWarning, match="turn the stack round"):
        fp.segment(turned, model=model, indices=[5])
    with pytest.warns(fp.PoreSegWarning, match="milling=reverse"):
        fp.train_forest(turned, phantom.truth, indices=[5], trees=1)


def test_a_turned_stack_trained_in_reverse_does_as_well(phantom):
    turned = phantom.stack[::-1].assign_coords(z=phantom.stack.z)
    truth = phantom.truth[::-1].assign_coords(z=phantom.stack.z)
    indices = [29 - index for index in INDICES]
    forest = fp.train_forest(turned, truth, indices=indices, trees=20, milling="reverse")
    made = fp.segment(turned, model=forest)
    scored = fp.evaluate(made.segmentation, truth, indices=[29 - index for index in UNSEEN])
    straight = fp.train_forest(phantom.stack, phantom.truth, indices=INDICES, trees=20)
    made = fp.segment(phantom.stack, model=straight)
    expected = fp.evaluate(made.segmentation, phantom.truth, indices=UNSEEN)
    assert scored.mean["accuracy"] == pytest.approx(expected.mean["accuracy"], abs=0.01)


def test_sparse_labels_three_classes_and_two_detectors(phantom, tmp_path):
    rng = np.random.default_rng(0)
    labels = phantom.truth.to_numpy().copy()
    labels[:, :, :10] = 3
    labels[rng.random(labels.shape) > 0.05] = 0
    stack = fp.make_stack(np.stack([phantom.stack, 255 - phantom.stack.data]), (10, 10, 10))
    stack[:, :, :, :10] = stack[:, :, :, :10] // 4 + 190
    classes = ("pore", "solid", "glue")
    options = {"indices": INDICES, "classes": classes}
    for model in (
        fp.train_forest(stack, labels, trees=20, **options),
        fp.train_resunet(stack, labels, network="small", steps=40, **options),
    ):
        made = fp.segment(stack, model=model, indices=[9], probability=tmp_path / "p.tif")
        assert made.probability.dims == ("class", "z", "y", "x")
        assert 0.5 < fp.measure(made.segmentation).porosity < 0.8
        for probability in (made.probability, tmp_path / "p.tif"):
            scored = fp.evaluate(made.segmentation, labels, probability=probability, indices=[9])
            assert 0 < scored.mean["loss"] < 1
        np.testing.assert_allclose(made.probability.sum("class")[9], 1, atol=1e-5)
        assert made.segmentation.attrs["classes"] == classes
        assert (made.segmentation[9, :, :10] == 3).mean() > 0.8


def test_slices_that_lack_a_class_are_not_held_out(phantom, untraced):
    """Solid is painted in one slice only, the one that would be held out: it is trained on."""
    labels = np.where(phantom.truth == 1, 1, 0).astype(np.uint8)
    labels[6] = phantom.truth[6]
    trained = fp.train_resunet(phantom.stack, labels, indices=[0, 6, 12], network="small", steps=2)
    assert trained.card.scores["validation_loss"] is None


def test_labels_where_there_is_no_data_are_none(phantom):
    stack = phantom.stack.copy()
    stack[:, :8] = 0
    labels = phantom.truth.to_numpy().copy()
    labels[:, 8:] = 0
    for train in (fp.train_forest, fp.train_resunet):
        with pytest.raises(fp.ParameterError, match="at least two classes"):
            train(stack, labels, indices=INDICES, nodata=0)


def test_features_mean_the_same_on_finer_voxels():
    bank = FeatureBank.for_spacing((10, 10, 10))
    seen = []
    for voxel, size in ((10, 64), (5, 128)):
        stack = fp.make_stack(np.zeros((1, size, size), np.float32), (10, voxel, voxel))
        wave = np.sin(stack.x.to_numpy() / 90).astype(np.float32)
        stack = stack.copy(data=np.broadcast_to(wave, stack.shape))
        step = 10 // voxel
        seen.append(FeatureReader(stack, bank, "forward").plane(0)[:, ::step, ::step])
    ours, theirs = seen
    there = ~np.isnan(ours[:, 32, 32])
    assert there.sum() == 18
    np.testing.assert_allclose(ours[there, 32, 20:44], theirs[there, 32, 20:44], atol=0.02)


def test_on_coarser_slices_a_neighbour_is_never_the_slice_itself():
    stack = fp.make_stack(np.zeros((9, 2, 2), np.uint8), (40, 10, 10))
    offsets = (-40, -20, -10, 10, 20, 60, 120)
    assert voxel_offsets(offsets, stack, "forward") == [-1, -1, -1, 1, 1, 2, 3]
    assert voxel_offsets(offsets, stack, "reverse") == [1, 1, 1, -1, -1, -2, -3]


def test_the_safety_stop_is_recorded(phantom, untraced):
    stopped = train_resunet(phantom.stack, phantom.truth, steps=10_000, max_minutes=0.02)
    assert stopped.card.scores["stopped_by_max_minutes"] == 1
    assert stopped.card.scores["steps"] < 10_000


def test_the_best_weights_are_kept(resunet):
    losses = [row["val_loss"] for row in resunet.history]
    assert resunet.card.scores["validation_loss"] == min(losses)


def test_the_forest_is_scikit_learns(forest):
    assert forest.classifier.n_features_in_ == len(forest.bank.names())
    assert forest.card.scores["out_of_bag_accuracy"] > 0.8


def test_the_importances_are_a_table(forest, phantom, tmp_path):
    assert list(forest.importances.values()) == sorted(forest.importances.values(), reverse=True)
    assert sum(forest.importances.values()) == pytest.approx(1)
    path = tmp_path / "importances.csv"
    fp.train_forest(phantom.stack, phantom.truth, indices=INDICES, trees=20, importances=path)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["feature"]: float(row["importance"]) for row in rows} == forest.importances


def test_the_held_out_score_is_taken_on_slices_out_of_reach(phantom):
    def scores(indices, **options):
        trained = fp.train_forest(phantom.stack, phantom.truth, indices=indices, **options)
        return trained.card.scores

    far = scores([0, 14, 28], trees=20)
    assert 0.8 < far["held_out_accuracy"] < far["out_of_bag_accuracy"]
    assert scores([0, 6, 12], trees=1)["held_out_accuracy"] is None
    assert scores([0, 14, 28], trees=1, folds=0)["held_out_accuracy"] is None


def test_scoring_held_out_slices_can_be_stopped_between_a_few_trees(phantom):
    class StoppedError(Exception):
        pass

    class Impatient:
        def update(self, step, done, total):
            if "to score" in step and 0 < done < total:
                raise StoppedError

    with pytest.raises(StoppedError), reporting(Impatient()):
        fp.train_forest(phantom.stack, phantom.truth, indices=[0, 14, 28], trees=20)


def test_classes_count_the_same_where_labels_are_scribbles(phantom):
    kept = np.random.default_rng(0).random(phantom.truth.shape)
    truth = phantom.truth.to_numpy()
    scribbled = np.where(kept < np.where(truth == 2, 0.003, 0.1), truth, 0).astype(np.uint8)

    def porosity(labels, weights):
        model = fp.train_forest(
            phantom.stack, labels, indices=INDICES, trees=20, class_weights=weights
        )
        return float((fp.segment(phantom.stack, model=model).segmentation == 1).mean())

    sparse = {weights: porosity(scribbled, weights) for weights in ("auto", "balanced", "none")}
    # There is too little solid to tell how sure the forest may be.
    assert sparse["auto"] == sparse["balanced"] < sparse["none"] - 0.02
    assert porosity(truth, "auto") == porosity(truth, "none")


def test_scribbles_of_either_class_do_not_make_half_of_the_stack_solid(phantom, tmp_path):
    truth, rng = phantom.truth.to_numpy(), np.random.default_rng(0)
    kept = rng.random(truth.shape) < np.where(truth == 2, 0.08, 0.02)
    labels = fp.make_labels(np.where(kept, truth, 0).astype(np.uint8), phantom.stack)
    options = {"indices": INDICES, "trees": 60}
    balanced = fp.train_forest(phantom.stack, labels, class_weights="balanced", **options)
    adapted = fp.train_forest(phantom.stack, labels, model=tmp_path / "adapted.poreseg", **options)
    assert balanced.class_factors is None

    def error(model):
        found = fp.segment(phantom.stack, model=model).segmentation
        return float((found != phantom.truth).mean())

    assert error(adapted) < 0.9 * error(balanced)
    # What is asked for in two ways, and from the file, is the same.
    loaded = fp.load(tmp_path / "adapted.poreseg")
    ((_, planes),) = loaded.predict(phantom.stack, [5])
    ((_, labelled),) = loaded.predict_labels(phantom.stack, [5])
    ((_, again),) = adapted.predict(phantom.stack, [5])
    np.testing.assert_array_equal(planes, again)
    np.testing.assert_array_equal(labelled, planes.argmax(axis=0) + 1)
    np.testing.assert_allclose(planes.sum(axis=0), 1, atol=1e-5)


def planted(phantom):
    """Labels that call a square of one slice solid, and corrections of a part of them."""
    labels = phantom.truth.to_numpy().copy()
    labels[14, 8:40, 8:40] = 2
    by_hand = np.zeros_like(labels)
    by_hand[14, 8:40, 8:40] = phantom.truth.to_numpy()[14, 8:40, 8:40]
    by_hand[14, 8:40, 8:12] = 0
    by_hand[20, :4] = phantom.truth.to_numpy()[20, :4]
    return labels, by_hand


def test_a_forest_follows_corrections_and_the_more_the_more_they_weigh(phantom):
    labels, by_hand = planted(phantom)
    # What is corrected is labelled wrong in another slice, too: which of them is believed?
    labels[15, 8:40, 8:40] = 2

    def error(**options):
        model = fp.train_forest(
            phantom.stack, labels, indices=[14, 15], trees=20, folds=0, **options
        )
        found = fp.segment(phantom.stack, model=model, indices=[14]).segmentation[14]
        return float((found != phantom.truth[14])[8:40, 12:40].mean()), model.card

    uncorrected, card = error()
    assert card.scores["corrected_pixels"] is None
    once, card = error(corrections=by_hand, correction_weight=1)
    assert card.training_indices == (14, 15, 20)
    assert card.scores["corrected_pixels"] == np.count_nonzero(by_hand)
    often, card = error(corrections=by_hand, correction_weight=20)
    assert card.scores["corrected_pixels"] == np.count_nonzero(by_hand)
    assert often < once < uncorrected


def test_corrections_are_drawn_first(phantom):
    by_hand = np.zeros(phantom.truth.shape, np.uint8)
    by_hand[4, 30, 10:60] = phantom.truth[4, 30, 10:60]
    trained = fp.train_forest(
        phantom.stack, phantom.truth, indices=[4, 8], pixels=200, corrections=by_hand, trees=4
    )
    assert trained.card.scores["corrected_pixels"] == 50
    assert trained.card.scores["pixels"] == 200


class TestTrainingRefuses:
    @pytest.fixture(params=[fp.train_forest, fp.train_resunet], ids=lambda c: c.name)
    def train(self, request):
        return request.param

    def test_one_class_only(self, train, phantom):
        labels = np.where(phantom.truth == 1, 1, 0).astype(np.uint8)
        labels[-1] = 0  # in every slice, it would be told that they may be a mask
        with pytest.raises(fp.ParameterError, match=r"at least two classes.*only pore"):
            train(phantom.stack, labels, indices=INDICES)

    def test_slices_without_labels(self, train, phantom):
        labels = phantom.truth.to_numpy().copy()
        labels[3:] = 0
        with pytest.raises(fp.ParameterError, match=r"must name slices that hold labels.*6,12"):
            train(phantom.stack, labels, indices=[0, 6, 12])

    def test_slices_outside_the_stack(self, train, phantom):
        with pytest.raises(fp.ParameterError, match="`indices` must lie from 0 to 29"):
            train(phantom.stack, phantom.truth, indices=[30])

    def test_a_mask_without_indices(self, train, phantom):
        mask = np.where(phantom.truth == 2, 255, 0).astype(np.uint8)
        with pytest.raises(fp.ParameterError, match="`indices` is needed where the labels are a"):
            train(phantom.stack, mask)

    def test_a_model_file_that_cannot_be_written_before_it_trains(self, train, phantom, tmp_path):
        with pytest.raises(fp.ParameterError, match="`model`"):
            train(phantom.stack, phantom.truth, model=tmp_path / "none" / "m.poreseg")


def test_indices_and_a_strategy_exclude_each_other(phantom):
    with pytest.raises(fp.ParameterError, match="together with strategy"):
        train_resunet(phantom.stack, phantom.truth, strategy="initial", count=5)


class TestModelFile:
    @pytest.fixture
    def path(self, forest, tmp_path):
        forest.save(tmp_path / "m.poreseg")
        return tmp_path / "m.poreseg"

    def rewritten(self, path, change):
        """The file with some entries changed by `change`, which gets and gives a dict."""
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in change(entries).items():
                archive.writestr(name, content)

    def test_holds_nothing_but_json_and_arrays(self, path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            assert names[0] == "model.json"
            assert all(name.endswith(".npy") for name in names[1:])
            described = json.loads(archive.read("model.json"))
        assert described["format_version"] == 1
        assert described["kind"] == "forest"

    def test_of_a_newer_format_is_refused(self, path, phantom):
        def newer(entries):
            described = json.loads(entries["model.json"]) | {"format_version": 99}
            return entries | {"model.json": json.dumps(described)}

        self.rewritten(path, newer)
        with pytest.raises(fp.ParameterError, match=r"of format 99.*a newer fiji-poreseg"):
            fp.segment(phantom.stack, model=path)

    @pytest.mark.parametrize("content", [b"", b"no model", b"PK\x03\x04 cut off"])
    def test_that_is_none_is_refused(self, content, tmp_path, phantom):
        path = tmp_path / "m.poreseg"
        path.write_bytes(content)
        with pytest.raises(fp.ParameterError, match=r"must be a whole \.poreseg file"):
            fp.segment(phantom.stack, model=path)

    def test_that_is_missing_is_named(self, tmp_path, phantom):
        with pytest.raises(fp.ParameterError, match=r"exists, but is: .*none\.poreseg"):
            fp.segment(phantom.stack, model=tmp_path / "none.poreseg")

    def test_with_a_pickle_in_it_is_refused_unread(self, path, tmp_path):
        import pickle

        class Trap:
            def __reduce__(self):
                return (open, (str(tmp_path / "sprung"), "w"))

        def trapped(entries):
            body = entries["threshold.npy"][:10] + entries["threshold.npy"][10:].split(b"\n")[0]
            header = body.replace(b"<f8", b"|O ") + b"\n"
            return entries | {"threshold.npy": header + pickle.dumps(Trap())}

        self.rewritten(path, trapped)
        with pytest.raises(fp.ParameterError, match="must be a whole"):
            fp.load(path)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("hidden", [False, True])
    def test_with_a_lambda_layer_in_it_runs_none_of_it(self, path, tmp_path, hidden):
        from fiji_poreseg.resunet.backend import keras

        sprung, trap = tmp_path / "sprung", tmp_path / "trap.keras"
        code = f"lambda x: (open({str(sprung)!r}, 'w').close(), x)[1]"
        layer = keras.layers.Lambda(eval(code), output_shape=(4,))
        keras.Sequential([keras.Input((4,)), layer]).save(trap)
        if hidden:
            with zipfile.ZipFile(trap) as archive:
                entries = {name: archive.read(name) for name in archive.namelist()}
            self.rewritten(path, lambda own: own | entries)
            fp.load(path)
        else:
            with pytest.raises(fp.ParameterError, match="must be a whole"):
                fp.load(shutil.copy(trap, tmp_path / "trap.poreseg"))
        assert not sprung.exists()
        # What Keras does where it is told to trust the file.
        keras.saving.load_model(trap, safe_mode=False)(np.ones((1, 4)))
        assert sprung.exists()

    def test_with_the_weights_of_another_network_is_refused(self, resunet, tmp_path, phantom):
        path = tmp_path / "r.poreseg"
        resunet.save(path)

        def other(entries):
            described = json.loads(entries["model.json"])
            described["settings"]["filters"] = [32, 32, 32, 32]
            return entries | {"model.json": json.dumps(described)}

        self.rewritten(path, other)
        with pytest.raises(fp.ParameterError, match="must hold the weights of the network"):
            fp.segment(phantom.stack, model=path)

    def test_whose_classes_have_no_name_is_refused(self, path):
        def unnamed(entries):
            described = json.loads(entries["model.json"])
            described["settings"]["classes_found"] = [1, 9]
            return entries | {"model.json": json.dumps(described)}

        self.rewritten(path, unnamed)
        with pytest.raises(fp.ParameterError, match="a class that the model does not name"):
            fp.load(path)

    @pytest.mark.parametrize(
        ("part", "name", "value", "reason"),
        [
            ("card", "spacing_nm", [0, 10, 10], "impossible spacing_nm"),
            ("card", "spacing_nm", [10, 10], "impossible spacing_nm"),
            ("card", "detectors", 2**31 - 1, "impossible detectors"),
            ("card", "milling", "sideways", "impossible milling"),
            ("card", "normalisation", [1, 410], "impossible normalisation"),
            ("card", "normalisation", [99, 1], "impossible normalisation"),
            ("card", "classes", [], "impossible classes"),
            ("card", "training_indices", [-1], "impossible training_indices"),
            ("card", "appearance", {"contrast": [1, 2], "glow": [0, 1]}, "impossible appearance"),
            ("card", "appearance", {"brightness": [1, 2]}, "impossible appearance"),
            ("card", "appearance", {"contrast": [2, 1]}, "impossible appearance"),
            ("bank", "sigmas_nm", [1e12], "looks farther than any model"),
            ("bank", "offsets_nm", [float("nan")], "looks farther than any model"),
            ("bank", "laplacian_sigmas_nm", [0.0], "a sigma is not positive"),
        ],
    )
    def test_with_impossible_numbers_is_refused(self, path, part, name, value, reason):
        def impossible(entries):
            described = json.loads(entries["model.json"])
            (described["card"] if part == "card" else described["settings"]["bank"])[name] = value
            return entries | {"model.json": json.dumps(described)}

        self.rewritten(path, impossible)
        with pytest.raises(fp.ParameterError, match=reason):
            fp.load(path)

    def test_with_a_long_header_is_refused_in_one_line(self, path):
        def lengthened(entries):
            start, rest = entries["threshold.npy"][:8], entries["threshold.npy"][10:]
            return entries | {"threshold.npy": start + b"\xff\x7f" + rest + b" " * 40_000}

        self.rewritten(path, lengthened)
        with pytest.raises(fp.ParameterError, match="Header info length") as caught:
            fp.load(path)
        assert "\n" not in str(caught.value)

    def test_whose_trees_lead_nowhere_is_refused(self, path):
        import io

        def astray(entries):
            children = np.load(io.BytesIO(entries["left_child.npy"]))
            children[0] = 10**6
            buffer = io.BytesIO()
            np.save(buffer, children)
            return entries | {"left_child.npy": buffer.getvalue()}

        self.rewritten(path, astray)
        with pytest.raises(fp.ParameterError, match="leads nowhere"):
            fp.load(path)
