"""The study: files, scores, what must never be in them, and that it goes on after a kill."""

import csv
import json
import random
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.cli import main
from fiji_poreseg.progress import reporting
from fiji_poreseg.studies.summary import Enough, Spread

ROOT = Path(__file__).parent.parent
SLICES = 32
FIGURES = {f"figure{n}{suffix}" for n in (1, 2, 3, 4) for suffix in (".png", ".svg")}
TABLES = {"table1.csv", "table1.md", "table1.tex", "scores.csv"}
# A forest only: small enough to be trained often.
QUICK = {"models": "forest", "trees": 5}


@pytest.fixture(scope="module")
def small():
    return fp.phantom(slices=SLICES, size=48, feature_size_nm=150, attenuation_nm=150)


@pytest.fixture(scope="module")
def inputs(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("in put")
    fp.write(folder / "stack.tif", small.stack)
    fp.write(folder / "truth.tif", small.truth)
    return folder


def line(inputs, output, **options):
    """A study's command line."""
    words = [str(inputs / "stack.tif"), str(inputs / "truth.tif"), "--output", str(output)]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return ["study", *words]


PAPERS = {
    **QUICK,
    "strategies": "initial,distributed,diverse,blocks",
    "counts": "5,20",
    "repeats": 2,
    "compare": "paper",
    "folds": 3,
    "gap": 2,
}
BRIEF = {**QUICK, "strategies": "distributed", "counts": "2,4", "repeats": 2}


@pytest.fixture(scope="module")
def papers(inputs, tmp_path_factory):
    """The paper's trials and more, by the command line."""
    output = tmp_path_factory.mktemp("papers")
    assert main(line(inputs, output, **PAPERS)) == 0
    return output


@pytest.fixture(scope="module")
def brief(inputs, tmp_path_factory):
    """Four trials, by the command line."""
    output = tmp_path_factory.mktemp("brief")
    assert main(line(inputs, output, **BRIEF)) == 0
    return output


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_files_are_there(papers):
    assert {path.name for path in papers.iterdir()} == TABLES | FIGURES | {
        "report.html",
        "run.json",
        "trials",
    }
    for name in FIGURES:
        head = (papers / name).read_bytes()[:100]
        assert head.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml"), name


def test_each_trial_is_scored_on_every_slice_that_it_was_not_trained_on(papers):
    rows = rows_of(papers / "scores.csv")
    bundle = json.loads((papers / "run.json").read_text())
    assert len(bundle["trials"]) == 2 * (2 * 3 + 3)
    for trial in bundle["trials"]:
        keys = {name: str(trial[name] or "") for name in ("strategy", "count", "block", "repeat")}
        scored = [int(row["index"]) for row in rows if keys.items() <= row.items()]
        seen = set(trial["training_indices"])
        if trial["block"]:
            assert not seen & {z + d for z in scored for d in (-2, -1, 0, 1, 2)}
        else:
            assert len(seen) == trial["count"]
            assert scored == sorted(set(range(SLICES)) - seen)
    blocks = [row for row in rows if row["strategy"] == "blocks" and row["repeat"] == "1"]
    assert sorted(int(row["index"]) for row in blocks) == list(range(SLICES))


def test_the_scores_are_those_of_evaluate(papers, small):
    rows = [
        row
        for row in rows_of(papers / "scores.csv")
        if (row["strategy"], row["count"], row["repeat"]) == ("distributed", "5", "2")
    ]
    unseen = [int(row["index"]) for row in rows]
    made = fp.segment(
        small.stack,
        model=papers / "trials" / "distributed-5-forest-2.poreseg",
        indices=unseen,
    )
    truth = small.truth.copy()
    truth[[z for z in range(SLICES) if z not in unseen]] = 0
    scored = fp.evaluate(made.segmentation, truth, probability=made.probability, stack=small.stack)
    for row, score in zip(rows, scored.slices, strict=True):
        for name in ("accuracy", "loss", "majority_accuracy", "dice_solid", "iou_solid"):
            assert float(row[name]) == getattr(score, name)
    assert set(scored.pore_back) == {"pore_back", "open_pore", "solid", "edge"}
    for kind, entry in scored.pore_back.items():
        assert sum(int(row[f"{kind}_pixels"]) for row in rows) == entry["pixels"] > 0
        wrong = sum(int(row[f"{kind}_wrong"]) for row in rows)
        assert wrong / entry["pixels"] == entry["error"]
    wrong = (made.segmentation != small.truth).to_numpy()
    for before, row in pairwise(rows):
        z = int(row["index"])
        if int(before["index"]) == z - 1:
            alike = wrong[z] & wrong[z - 1] & (small.truth[z] == small.truth[z - 1]).to_numpy()
            assert int(row["persistent_wrong"]) == np.count_nonzero(alike)
        else:
            assert row["persistent_wrong"] == ""


def test_the_table_is_the_mean_of_the_scores(papers):
    table, scores = (rows_of(papers / f"{name}.csv") for name in ("table1", "scores"))
    bundle = json.loads((papers / "run.json").read_text())
    seen = {z for one in bundle["trials"] if not one["block"] for z in one["training_indices"]}
    unseen = set(range(SLICES)) - seen
    assert bundle["unseen_slices"] == len(unseen)
    for row in table:
        if row["slice_scored"]:
            at = {int(row["slice_scored"])}
            distance = {z: abs(z - int(row["index"])) for z in unseen}
            assert distance[min(at)] == min(distance.values())
        else:
            at = unseen
        for strategy, count in (("initial", "20"), ("diverse", "5"), ("blocks", "3")):
            found = [
                np.mean(
                    [
                        float(one[row["score"]])
                        for one in scores
                        if (one["strategy"], one["count"], one["repeat"]) == (strategy, count, r)
                        and int(one["index"]) in at
                    ]
                )
                for r in "12"
            ]
            name = f"{count} {strategy}"
            assert float(row[name]) == pytest.approx(np.mean(found), abs=1e-6)
            assert float(row[f"{name} lowest"]) == pytest.approx(min(found), abs=1e-6)
            assert float(row[f"{name} highest"]) == pytest.approx(max(found), abs=1e-6)
        assert bool(row["majority"]) == (row["score"] == "accuracy")
        assert bool(row["best_threshold"]) == (row["score"] != "loss")


def test_the_papers_numbers_stand_beside(papers):
    table = [row for row in rows_of(papers / "table1.csv") if row["index"] != "mean"]
    beside = [
        [row[f"{name} paper"] for name in ("20 initial", "20 distributed", "5 distributed")]
        for row in table
        if row["score"] == "loss"
    ]
    assert beside == [
        ["0.442", "0.425", "1.18"], ["0.649", "0.3", "1.038"], ["0.764", "0.613", "1.246"],
    ]  # fmt: skip
    text = (papers / "table1.md").read_text()
    assert "| the paper's ResUNet | 0.912 | 0.914 |  | 0.832 | 0.738 |" in text
    assert "| Predicted image | 20 Initial | 20 Distributed | 20 Diverse | 5 Initial |" in text
    tex = (papers / "table1.tex").read_text()
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    body = [one for one in tex.splitlines() if one.startswith(("Index", "Mean", "Predicted"))]
    assert {one.count(" & ") for one in body} == {9}


class Page(HTMLParser):
    """What matters of a page: its tags, whether they close, and what they point at."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs), tuple(name for name, _ in self.open)))
        if tag not in self.EMPTY:
            self.open.append((tag, dict(attrs)))
        if tag == "table":
            assert self.open[-2][1].get("class") == "scroll"

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.text += data


def test_the_report_needs_no_network(papers):
    page = Page((papers / "report.html").read_text(encoding="utf-8"))
    pointing = [
        (tag, value)
        for tag, attrs, _ in page.seen
        for name, value in attrs.items()
        if name in ("src", "href", "srcset")
    ]
    assert [tag for tag, _ in pointing] == ["img"] * 4
    assert all(value.startswith("data:image/png;base64,") for _, value in pointing)
    tags = {tag for tag, _, _ in page.seen}
    assert not tags & {"script", "link", "iframe"}
    assert "url(" not in page.text
    assert "@import" not in page.text
    assert all(attrs["alt"] for tag, attrs, _ in page.seen if tag == "img")
    assert ("meta", "viewport") in [(tag, attrs.get("name")) for tag, attrs, _ in page.seen]
    for words in ("Table 1", "Pore-backs", "Persistent", "Seen:", "20 slices", "--compare paper"):
        assert words in page.text, words


def test_what_the_paper_found_is_decided_only_where_the_repeats_agree(papers):
    page = Page((papers / "report.html").read_text(encoding="utf-8"))
    table = rows_of(papers / "table1.csv")
    at = [row for row in table if row["score"] == "accuracy" and row["slice_scored"]]

    def verdict(one, other, rows):
        """Of "one is better than the other", by what the table says."""
        ahead = [float(row[f"{one} lowest"]) > float(row[f"{other} highest"]) for row in rows]
        behind = [float(row[f"{one} highest"]) < float(row[f"{other} lowest"]) for row in rows]
        return "Seen" if all(ahead) else "Not seen" if any(behind) else "Undecided"

    later = verdict("20 distributed", "20 initial", at[1:])
    few = verdict("5 initial", "5 distributed", at)
    assert f"{later}: With 20 slices, distributed ones do better" in page.text
    assert f"{few}: With 5 slices, initial ones do better" in page.text


def test_the_bundle_runs_it_again(papers, inputs, small):
    bundle = json.loads((papers / "run.json").read_text())
    assert bundle["image"]["shape"] == [SLICES, 48, 48]
    assert bundle["seeds"] == [0, 1]
    assert {"fiji-poreseg", "python", "numpy", "scikit-learn"} <= set(bundle["versions"])
    stack = str((inputs / "stack.tif").resolve())
    assert f"'{stack}'" in bundle["command_line"]
    assert bundle["command_line"].endswith(
        "--strategies initial,distributed,diverse,blocks --repeats 2 --models forest "
        "--compare paper --folds 3 --gap 2 --trees 5"
    )
    assert bundle["macro_line"].startswith(f'run("PoreSeg Study", "image=[{stack}] truth=[')
    assert len(bundle["image"]["sha256"]) == len(bundle["truth"]["sha256"]) == 64
    assert bundle["image"]["sha256"] != bundle["truth"]["sha256"]


def test_a_macro_leaves_the_same_files(ij, brief, inputs, tmp_path):
    options = " ".join(f"{name}={value}" for name, value in BRIEF.items())
    titles = ij.run_macro(
        f"""
        folder = getArgument();
        open("{inputs}/stack.tif");
        run("PoreSeg Study", "truth=[{inputs}/truth.tif] output=[" + folder + "] {options}");
        value = getResult("4 distributed", 1);
        return "" + nResults + " " + getResultString("index", 3) + " " + value;
        """,
        str(tmp_path / "by macro"),
    )
    made = tmp_path / "by macro"
    assert {path.name for path in made.iterdir()} == {path.name for path in brief.iterdir()}
    for name in TABLES:
        assert (made / name).read_bytes() == (brief / name).read_bytes(), name
    lines = rows_of(brief / "table1.csv")
    count, index, value = titles.split()
    assert (int(count), index) == (len(lines), lines[3]["index"])
    assert float(value) == pytest.approx(float(lines[1]["4 distributed"]), abs=1e-3)


def test_absurd_truth_in_the_training_slices_never_enters_the_scores(small, tmp_path):
    trained_on = fp.select_slices(small.stack, strategy="distributed", count=4)
    absurd = small.truth.copy()
    absurd[list(trained_on)] = 3 - absurd[list(trained_on)]
    made = fp.study(
        small.stack,
        absurd,
        output=tmp_path / "absurd",
        strategies=["distributed"],
        counts=[4],
        repeats=1,
        indices=[0, 9, 20],
        **QUICK,
    )
    # The forest has learnt the absurd: it would be right in those slices, and only there.
    assert {row["index"] for row in made.scores} == set(range(SLICES)) - set(trained_on)
    assert max(row["accuracy"] for row in made.scores) < 0.5
    accuracy = [row["4 distributed"] for row in made.table if row["score"] == "accuracy"]
    assert len(accuracy) == 4
    assert max(accuracy) < 0.5
    # Nor is it in the baselines beside.
    assert min(row["majority"] for row in made.table if row["score"] == "accuracy") > 0.7
    assert [line.index for line in made.lines[::4]] == [1, 9, 20, None]
    assert "Index-0 (slice 1), Loss" in (tmp_path / "absurd" / "table1.md").read_text()


def test_labels_on_a_few_slices_are_enough_for_a_cross_validation(small, tmp_path):
    labelled = [2, 8, 9, 17, 24, 30]
    truth = np.zeros_like(small.truth)
    truth[labelled] = small.truth.to_numpy()[labelled]
    truth[8, :24] = 0
    truth = fp.make_labels(truth, small.stack)
    options = {"strategies": ("blocks", "distributed"), "counts": [2], "folds": 3, "gap": 2}
    output = tmp_path / "few"
    made = fp.study(small.stack, truth, output=output, repeats=1, **options, **QUICK)
    blocks = [row for row in made.scores if row["strategy"] == "blocks"]
    assert [row["index"] for row in blocks] == labelled
    assert [row["pixels"] for row in blocks] == [48 * 48, 24 * 48] + [48 * 48] * 4
    trials = json.loads((output / "run.json").read_text())["trials"]
    assert [trial["training_indices"] for trial in trials] == [
        [2, 17],
        [17, 24, 30],
        [2, 24, 30],
        [2, 8, 9, 17],
    ]
    # The slice 9 is near the first block, which ends with 8; 17 is not near the last.
    assert [row["index"] for row in made.scores if row["strategy"] == "distributed"] == [
        8,
        9,
        24,
        30,
    ]
    assert not (output / "figure3.png").exists()


class Listener:
    def __init__(self):
        self.told = []

    def update(self, description, done, total):
        self.told.append(description)


def test_it_tells_which_trial_and_how_long_and_goes_on_with_more(small, tmp_path):
    output, heard = tmp_path / "study", Listener()
    options = {"output": output, "strategies": ["distributed"], **QUICK}
    with reporting(heard):
        fp.study(small.stack, small.truth, counts=[2], repeats=2, **options)
    told = list(dict.fromkeys(heard.told))
    first = "Trial 1 of 2 (2 distributed, Random forest, repeat 1)"
    assert f"{first}: Growing trees" in told
    second = next(one for one in told if one.startswith("Trial 2 of 2") and "Scoring" in one)
    assert "repeat 2), about " in second
    assert " left: Scoring" in second

    before = stamps(output)
    made = fp.study(small.stack, small.truth, counts=[2, 4], repeats=2, resume=True, **options)
    assert before.items() <= stamps(output).items()
    assert {row["count"] for row in made.scores} == {2, 4}
    assert (output / "figure3.svg").exists()
    again = fp.study(small.stack, small.truth, counts=[4, 2], repeats=2, **options)
    assert stamps(output).keys() >= before.keys()
    assert not before.items() & stamps(output).items()
    assert again.table == made.table

    changed = small.stack.copy()
    changed[3] = 255 - changed[3]
    for images, more, parameter in (
        ((changed, small.truth), {}, "image"),
        ((small.stack, 3 - small.truth), {}, "truth"),
        ((small.stack, small.truth), {"trees": 6}, "trees"),
        ((small.stack, small.truth), {"seed": 1}, "seed"),
    ):
        kept = stamps(output)
        with pytest.raises(fp.ParameterError, match="in the study to be resumed") as caught:
            fp.study(*images, counts=[2, 4], resume=True, **(options | more))
        assert caught.value.parameter == parameter
        assert stamps(output) == kept


def stamps(output):
    """When each finished trial's files were written."""
    return {
        path.name: path.stat().st_mtime_ns
        for done in (output / "trials").glob("*-*.json")
        for path in (done, done.with_suffix(".poreseg"))
    }


def program(words):
    return subprocess.Popen(
        [sys.executable, "-m", "fiji_poreseg.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_thrice(words, output, longest_s):
    """Kill a study at three random moments, after none, one and two trials, and let it end."""
    rng = random.Random(0)
    done = {}
    for trials in range(3):
        process = program(words)
        while len(stamps(output)) < 2 * trials or not (output / "trials").exists():
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(rng.uniform(0, longest_s))
        process.kill()
        process.communicate()
        assert process.returncode != 0
        assert not (output / "report.html").exists()
        assert done.items() <= stamps(output).items()
        done = stamps(output)
    process = program(words)
    assert process.communicate()[1] == ""
    assert process.returncode == 0
    assert done.items() <= stamps(output).items()


def test_killed_at_random_it_ends_with_the_same_table(brief, inputs, tmp_path):
    output = tmp_path / "killed"
    killed_thrice(line(inputs, output, resume=True, **BRIEF), output, 0.5)
    for name in TABLES:
        assert (output / name).read_bytes() == (brief / name).read_bytes(), name


@pytest.mark.slow
def test_killed_at_random_with_a_resunet_it_ends_with_the_same_table(inputs, tmp_path):
    options = {"counts": 4, "repeats": 1, "network": "small", "steps": 120, "trees": 5}
    options["models"] = "resunet,forest"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert program(line(inputs, whole, **options)).communicate()[1] == ""
    killed_thrice(line(inputs, killed, resume=True, **options), killed, 15)
    for name in TABLES:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_disk_that_is_full_at_the_end_changes_nothing(small, tmp_path, monkeypatch):
    options = {"output": tmp_path, "strategies": ["distributed"], "repeats": 1, **QUICK}
    fp.study(small.stack, small.truth, counts=[2], **options)
    before = contents(tmp_path)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("fiji_poreseg.studies.html_report.render", refuse)
        with pytest.raises(OSError, match="No space"):
            fp.study(small.stack, small.truth, counts=[3], **options)
    now = contents(tmp_path)
    assert {path: now[path] for path in now if ".trials.begun" not in path.parts} == before
    fp.study(small.stack, small.truth, counts=[3], resume=True, **options)
    assert contents(tmp_path)[tmp_path / "table1.csv"] != before[tmp_path / "table1.csv"]


def test_what_an_earlier_study_left_stays_until_the_new_one_is_done(small, tmp_path):
    class Impatient:
        def update(self, description, done, total):
            if description.startswith("Trial 2"):
                raise KeyboardInterrupt

    options = {"output": tmp_path, "strategies": ["distributed"], "repeats": 2, **QUICK}
    fp.study(small.stack, small.truth, counts=[2], **options)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt), reporting(Impatient()):
        fp.study(small.stack, small.truth, counts=[3], **options)
    assert before.items() <= contents(tmp_path).items()
    heard = Listener()
    with reporting(heard):
        fp.study(small.stack, small.truth, counts=[3], resume=True, **options)
    assert not any(told.startswith("Trial 1") for told in heard.told)
    names = {path.name for path in (tmp_path / "trials").iterdir()}
    assert names == {"settings.json"} | {
        f"distributed-3-forest-{repeat}{suffix}"
        for repeat in (1, 2)
        for suffix in (".json", ".poreseg")
    }
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [False, True])
def test_what_no_study_made_is_left_alone(small, tmp_path, resume):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "mine.json").write_text("{}")
    with pytest.raises(fp.ParameterError, match="`output` must not hold a trials that no study"):
        fp.study(small.stack, small.truth, output=tmp_path, counts=[2], resume=resume, **QUICK)
    assert [path.name for path in tmp_path.rglob("*")] == ["trials", "mine.json"]


@pytest.mark.parametrize("name", ["settings", "distributed-2-forest-1"])
def test_a_damaged_study_is_not_gone_on_with(brief, inputs, tmp_path, name):
    output = tmp_path / "damaged"
    shutil.copytree(brief, output)
    (output / "trials" / f"{name}.json").write_bytes(b'{"cut o')
    with pytest.raises(fp.ParameterError, match=rf"`resume` needs a whole study.*{name}\.json"):
        fp.study(inputs / "stack.tif", inputs / "truth.tif", output=output, resume=True, **BRIEF)


def test_a_forest_and_a_resunet_are_trained_for_each_trial(small, tmp_path):
    made = fp.study(
        small.stack,
        small.truth,
        output=tmp_path,
        strategies=["initial"],
        counts=[3],
        repeats=1,
        network="small",
        context="slice",
        steps=2,
        trees=5,
    )
    assert [row["model"] for row in made.table] == ["forest"] * 16 + ["resunet"] * 16
    assert len(made.scores) == 2 * (SLICES - 3)
    resunet = fp.load(tmp_path / "trials" / "initial-3-resunet-1.poreseg")
    assert resunet.card.training_indices == (0, 1, 2)
    assert resunet.card.scores["steps"] == 2
    assert resunet.context.offsets_nm == ()
    assert "**ResUNet**" in (tmp_path / "table1.md").read_text()
    assert made.verdicts == []


@pytest.mark.parametrize(
    ("options", "parameter", "said"),
    [
        ({"strategies": "first"}, "strategies", "one or more of initial, distributed, diverse or"),
        ({"counts": [5, SLICES]}, "counts", f"must each be below {SLICES}, the number of labelled"),
        ({"indices": [SLICES]}, "indices", f"must lie from 0 to {SLICES - 1}"),
        ({"strategies": "blocks", "gap": 30}, "gap", "must leave labelled slices to train on"),
        ({"strategies": "blocks", "folds": 40}, "folds", f"must be at most {SLICES}"),
        ({"compare": "paper", "indices": [1, 2, 3]}, "compare", "needs the paper's three indices"),
        ({"output": "/proc/study"}, "output", "must be a folder that can be made"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(small, tmp_path, options, parameter, said):
    given = {"output": tmp_path / "new", "counts": [2], **QUICK} | options
    with pytest.raises(fp.ParameterError, match=said) as caught:
        fp.study(small.stack, small.truth, **given)
    assert caught.value.parameter == parameter
    assert not (tmp_path / "new").exists()


def test_what_all_trials_train_on_cannot_be_the_whole_truth(small, tmp_path):
    truth = small.truth.copy()
    truth[3:] = 0
    options = {"strategies": "initial,diverse", "counts": [2], **QUICK}
    with pytest.raises(fp.ParameterError, match="`counts` must leave labelled slices"):
        fp.study(small.stack, truth, output=tmp_path / "new", **options)


def test_one_class_alone_cannot_be_studied(small, tmp_path):
    truth = small.truth.copy()
    truth[:6] = 1
    with pytest.raises(fp.ParameterError, match=r"must hold pore and solid.*\(4 initial\)"):
        fp.study(small.stack, truth, output=tmp_path / "new", counts=[4], **QUICK)


@pytest.mark.parametrize(
    ("points", "count", "said"),
    [
        ({5: (0.9, 0.9), 10: (0.904, 0.904)}, 5, "5 slices are enough here: 10 gain 0.4 points."),
        ({5: (0.90, 0.92), 20: (0.91, 0.94)}, 5, "5 slices are enough here: 20 gain 1.5 points."),
        (
            {5: (0.9, 0.9), 10: (0.904, 0.904), 20: (0.93, 0.93)},
            20,
            "20 slices are not shown to be enough: they still gain 2.6 points over 10. Try more, "
            "such as counts=5,10,20,40 with resume.",
        ),
        (
            {5: (0.8, 0.8), 10: (0.92, 0.92), 20: (0.91, 0.91)},
            10,
            "10 slices are enough here: 20 gain -1.0 points.",
        ),
    ],
)
def test_the_stop_rule_says_how_many_are_enough(points, count, said):
    spreads = {n: Spread((low + high) / 2, low, high) for n, (low, high) in points.items()}
    found = Enough("forest", "initial", spreads)
    assert found.count == count
    assert found.verdict == f"Random forest, initial: {said}"


def drifting():
    """A stack whose grain changes in its last third only, and whose brightness drifts all along."""
    rng = np.random.default_rng(0)
    planes = []
    for z in range(60):
        grain = 2 if z < 40 else 2 + (z - 40) // 3
        coarse = rng.random((64 // grain + 1, 64 // grain + 1)) > 0.6
        plane = np.kron(coarse, np.ones((grain, grain)))[:64, :64]
        planes.append((60 + 80 * plane + 3 * rng.normal(size=(64, 64))) * (1 + z / 100))
    return fp.make_stack(np.array(planes).clip(0, 255).astype(np.uint8), (10, 10, 10))


def test_diverse_slices_lie_where_the_stack_changes():
    stack = drifting()
    chosen = fp.select_slices(stack, strategy="diverse", count=6)
    assert list(chosen) == sorted(set(chosen))
    assert sum(z >= 40 for z in chosen) >= 3
    even = fp.select_slices(stack[:40], strategy="diverse", count=4)
    assert np.diff(even).min() >= 7
    brighter = stack.astype(np.uint16).copy(data=2 * stack.to_numpy().astype(np.uint16) + 10)
    assert fp.select_slices(brighter, strategy="diverse", count=6) == chosen
    assert fp.select_slices(stack[:5], strategy="diverse", count=5) == (0, 1, 2, 3, 4)
    assert fp.select_slices(stack[:2], strategy="diverse", count=1) == (0,)


def test_the_example_macro_says_which_way_is_best(ij, inputs, capfd):
    options = "models=forest trees=5 counts=3 repeats=1"
    ij.run_macro(ROOT / "macros" / "study.ijm", f"{inputs}|{options}")
    printed = capfd.readouterr().out
    chosen = fp.select_slices(inputs / "stack.tif", strategy="diverse", count=5)
    assert f"Five slices that show most of the stack: {','.join(map(str, chosen))}" in printed
    table = rows_of(inputs / "study" / "table1.csv")
    means = next(r for r in table if r["index"] == "mean" and r["score"] == "accuracy")
    best = max(("3 initial", "3 distributed"), key=lambda name: float(means[name]))
    assert f"Best for forest: {best}, accuracy {float(means[best]):.4f}" in printed


class TestLabelledTwice:
    """A person's second labels are scored like a prediction, and stand beside the models."""

    @pytest.fixture(scope="class")
    @classmethod
    def second(cls, small):
        """Of three slices, in which every twentieth pixel is another class than before."""
        again = np.zeros_like(small.truth)
        again[[2, 9, 20]] = small.truth[[2, 9, 20]]
        again[:, ::5, ::4] = np.where(again[:, ::5, ::4] > 0, 3 - again[:, ::5, ::4], 0)
        return fp.make_labels(again, small.stack, name="again")

    @pytest.fixture(scope="class")
    @classmethod
    def made(cls, inputs, second, tmp_path_factory):
        folder = tmp_path_factory.mktemp("twice")
        fp.write(folder / "again.tif", second)
        options = BRIEF | {"indices": "2,7", "relabelled": folder / "again.tif"}
        assert main(line(inputs, folder / "study", **options)) == 0
        return folder / "study"

    def test_every_table_has_them(self, made, small, second):
        expected = fp.evaluate(second, small.truth)
        rows = [row for row in rows_of(made / "scores.csv") if row["model"] == "human"]
        assert [int(row["index"]) for row in rows] == [2, 9, 20]
        assert [float(row["accuracy"]) for row in rows] == [s.accuracy for s in expected.slices]
        table = {(row["index"], row["score"]): row["human"] for row in rows_of(made / "table1.csv")}
        assert float(table["2", "accuracy"]) == pytest.approx(expected.slices[0].accuracy, abs=1e-6)
        assert float(table["mean", "accuracy"]) == pytest.approx(
            expected.mean["accuracy"], abs=1e-6
        )
        assert table["7", "accuracy"] == ""
        assert "Human, labelled twice" in (made / "table1.md").read_text()
        assert "Human, labelled twice" in (made / "table1.tex").read_text()
        text = (made / "report.html").read_text()
        assert "Human, labelled twice" in text
        assert "labelled a second time" in text
        bundle = json.loads((made / "run.json").read_text())
        assert bundle["relabelled"]["slices"] == [2, 9, 20]
        assert "--relabelled" in bundle["command_line"]

    def test_without_them_no_table_speaks_of_a_person(self, brief):
        assert "Human" not in (brief / "report.html").read_text()
        assert "human" not in (brief / "table1.csv").read_text()

    def test_other_slices_are_refused(self, small, inputs, tmp_path):
        truth = small.truth.copy()
        truth[10:] = 0
        again = fp.make_labels(np.where(np.arange(SLICES)[:, None, None] < 20, 0, small.truth),
                               small.stack)  # fmt: skip
        with pytest.raises(fp.ParameterError, match="`relabelled` must label slices that the"):
            fp.study(
                small.stack,
                truth,
                relabelled=again,
                output=tmp_path / "out",
                counts=(2, 3),
                repeats=1,
                **QUICK | {"models": ("forest",)},
            )
        # Before anything is trained.
        assert not list((tmp_path / "out").iterdir())
