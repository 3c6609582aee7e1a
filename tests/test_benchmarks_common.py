"""The hand-made features and the protocol that the benchmark numbers rest on."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.utils import Bunch

from skflowfm import FlowFMTransformer, _training

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load_by_path(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


common = load_by_path("_common")
protocol = load_by_path("_protocol")
tables = load_by_path("recognition_tables")


def features(X):
    """Features as a mapping from name to column, so that tests can speak of them."""
    values = common.statistics_features(X)
    names = common.statistics_feature_names(X.shape[1])
    assert len(set(names)) == len(names) == values.shape[1]
    return dict(zip(names, values.T, strict=True))


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(0.3, 1.0, size=(40, 3, 100))


# ------------------------------------------------------------------------- features
@pytest.mark.parametrize("cycles", [1, 7, 25])
def test_sine_has_its_frequency_its_moments_and_one_line_in_the_spectrum(cycles):
    t = np.arange(200)
    X = (0.5 + 3.0 * np.sin(2 * np.pi * cycles * t / 200 + 0.1))[None, None]
    f = features(X)
    assert f["ch0_dominant_frequency"] == pytest.approx(cycles / 200)
    assert f["ch0_mean"] == pytest.approx(0.5)
    assert f["ch0_std"] == pytest.approx(3.0 / np.sqrt(2))
    assert f["ch0_energy"] == pytest.approx(0.5**2 + 3.0**2 / 2)
    assert f["ch0_spectral_entropy"] == pytest.approx(0, abs=1e-6)
    # a sine of this phase crosses its mean twice a cycle, but not at the very start
    assert f["ch0_zero_crossings"] * 199 == pytest.approx(2 * cycles - 1, abs=1)


def test_a_higher_tone_moves_power_to_a_higher_band():
    t = np.arange(256)
    X = np.stack([np.sin(2 * np.pi * c * t / 256) for c in (2, 20, 100)])[:, None]
    f = features(X)
    bands = np.stack([f[f"ch0_log_band_{k}"] for k in range(common.N_BANDS)])
    assert np.all(np.diff(bands.argmax(axis=0)) > 0)


def test_white_noise_has_a_flatter_spectrum_than_a_walk(noise):
    entropy = features(noise)["ch0_spectral_entropy"]
    entropy_of_walk = features(noise.cumsum(axis=2))["ch0_spectral_entropy"]
    assert entropy.min() > entropy_of_walk.max()
    assert entropy.max() <= 1


def test_rows_are_independent_of_each_other(noise):
    order = np.random.default_rng(1).permutation(len(noise))
    whole = common.statistics_features(noise)
    np.testing.assert_allclose(common.statistics_features(noise[order]), whole[order])
    np.testing.assert_allclose(common.statistics_features(noise[7:8]), whole[7:8])


def test_blocks_of_windows_are_joined_in_order(noise, monkeypatch):
    whole = common.statistics_features(noise)
    monkeypatch.setattr(common, "CHUNK", 7)
    np.testing.assert_allclose(common.statistics_features(noise), whole)


def test_doubling_a_centred_signal_follows_the_scaling_laws(noise):
    X = noise - noise.mean(axis=2, keepdims=True)
    once, twice = features(X), features(2 * X)
    degree = {"std": 1, "min": 1, "max": 1, "p50": 1, "mean_abs_diff": 1, "energy": 2}
    unchanged = ("zero_crossings", "dominant_frequency", "spectral_entropy")
    degree |= dict.fromkeys(unchanged, 0)
    for signal in ("ch0", "ch2", "norm"):
        for name, power in degree.items():
            key = f"{signal}_{name}"
            np.testing.assert_allclose(twice[key], 2**power * once[key], rtol=1e-9)
    key = "covariance_ch0_ch2"
    np.testing.assert_allclose(twice[key], 4 * once[key])


def test_shift_moves_location_only(noise):
    here, there = features(noise), features(noise + 5)
    np.testing.assert_allclose(there["ch1_p25"], here["ch1_p25"] + 5)
    for name in ("std", "mean_abs_diff", "zero_crossings", "dominant_frequency"):
        np.testing.assert_allclose(there[f"ch1_{name}"], here[f"ch1_{name}"])


def test_norm_ignores_a_rotation(noise):
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    turned = np.einsum("ij,njt->nit", rotation, noise)
    here, there = features(noise), features(turned)
    for name in ("mean", "std", "p90", "energy", "spectral_entropy"):
        np.testing.assert_allclose(there[f"norm_{name}"], here[f"norm_{name}"])
    assert not np.allclose(there["ch0_mean"], here["ch0_mean"])


def test_correlation_is_one_for_copies_and_minus_one_for_mirror_images(noise):
    X = np.stack([noise[:, 0], 3 * noise[:, 0] + 1, -noise[:, 0]], axis=1)
    f = features(X)
    np.testing.assert_allclose(f["correlation_ch0_ch1"], 1)
    np.testing.assert_allclose(f["correlation_ch1_ch2"], -1)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e-30])
@pytest.mark.parametrize("n_timesteps", [8, 9, 301])
def test_constant_windows_are_finite_and_at_rest(value, n_timesteps):
    X = np.full((3, 2, n_timesteps), value, dtype=np.float32)
    f = features(X)
    assert all(np.isfinite(column).all() for column in f.values())
    for name in ("std", "zero_crossings", "dominant_frequency", "spectral_entropy"):
        assert not f[f"ch0_{name}"].any()
    assert not f["correlation_ch0_ch1"].any()


@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_shortest_windows_are_finite(n_channels):
    X = np.random.default_rng(3).normal(size=(5, n_channels, 8)).astype(np.float16)
    assert all(np.isfinite(column).all() for column in features(X).values())


@pytest.mark.parametrize("X", [np.zeros((4, 8)), np.zeros((4, 3, 7))])
def test_other_shapes_are_refused_by_name(X):
    with pytest.raises(ValueError, match="got shape"):
        common.statistics_features(X)


def test_missing_values_are_refused():
    X = np.zeros((2, 1, 8))
    X[1, 0, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        common.statistics_features(X)


# ------------------------------------------------------------------- files and rows
def test_windows_survive_the_file(tmp_path):
    X = np.random.default_rng(4).normal(size=(6, 2, 9)).astype(np.float16)
    path = tmp_path / "some.npz"
    np.savez(path, X=X, y=np.arange(6) % 2, groups=np.arange(6), classes=["a", "b"])
    data = common.load_windows(path)
    assert data.X.dtype == np.float32
    np.testing.assert_array_equal(data.X, X)
    assert data.name == "some"
    few = common.subsample(data, 4)
    assert set(few.groups) < set(data.groups)
    np.testing.assert_array_equal(few.X, data.X[few.groups])
    assert few.name != data.name


def test_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        common.load_windows(tmp_path / "nowhere.npz")


def test_rows_are_appended_under_one_header(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    common.write_rows(path, [{"a": 1, "b": "x,y"}])
    common.write_rows(path, [{"a": 2, "b": "z"}])
    assert path.read_text().split() == ["a,b", '1,"x,y"', "2,z"]
    with pytest.raises(ValueError, match="columns"):
        common.write_rows(path, [{"a": 3, "c": 0}])


# ------------------------------------------------------------------------- protocol
@pytest.mark.parametrize("n_folds", [0, 3, 5])
def test_no_subject_is_on_both_sides_and_each_window_is_tested_once(n_folds):
    rng = np.random.default_rng(5)
    groups = rng.integers(8, size=300)
    data = Bunch(X=np.zeros((300, 1, 8)), y=rng.integers(4, size=300), groups=groups)
    folds = protocol.subject_folds(data, n_folds, seed=0)
    assert len(folds) == (n_folds or 8)
    for train, test in folds:
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 300
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(300))


def test_labels_are_drawn_in_proportion_with_at_least_one_per_class():
    y = np.repeat([0, 1, 2], [200, 50, 3])
    rows = protocol.draw_labels(y, 0.1, seed=0)
    assert np.bincount(y[rows]).tolist() == [20, 5, 1]
    assert len(set(rows)) == len(rows)
    np.testing.assert_array_equal(rows, protocol.draw_labels(y, 0.1, seed=0))
    assert not np.array_equal(rows, protocol.draw_labels(y, 0.1, seed=1))
    np.testing.assert_array_equal(protocol.draw_labels(y, 1.0, seed=0), np.arange(253))


@pytest.fixture
def archive(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)  # it imports its neighbours by name
    return load_by_path("archive")


def test_stretching_keeps_a_straight_line_and_a_series_of_that_length(archive):
    line, same = np.linspace(2, 5, 7)[None], np.array([[0.0, 3.0, 1.0, 4.0]])
    stretched = archive.stretched([line, same], 4)
    np.testing.assert_allclose(stretched[:, 0], [[2, 3, 4, 5], [0, 3, 1, 4]], rtol=1e-6)


def test_as_many_labels_of_each_class_are_drawn_or_all_there_are():
    y = np.repeat([4, 7, 9], [30, 3, 5])
    rows = protocol.draw_per_class(y, 5, 0)
    assert dict(zip(*np.unique(y[rows], return_counts=True), strict=True)) == {
        4: 5,
        7: 3,
        9: 5,
    }
    assert not np.array_equal(rows, protocol.draw_per_class(y, 5, 1))


def test_a_subject_is_scored_on_the_classes_it_performed():
    groups = np.array(["a"] * 4 + ["b"] * 2)
    y = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([0, 0, 1, 0, 2, 0])
    scores = protocol.subject_scores(y, predicted, groups)
    # a: F1 of class 0 is 4/5, of class 1 is 2/3. b: class 2 only, recall 1/2.
    assert scores["a"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores["b"] == pytest.approx(2 / 3)


# --------------------------------------------------------------------------- tables
def subject_rows(scores, seed, fraction=1.0):
    """Rows as `recognition.py` writes them, in an order of their own per method."""
    return [
        {
            "metric": "subject_macro_f1",
            "method": method,
            "subject": subject,
            "seed": seed,
            "label_fraction": fraction,
            "value": value,
        }
        for method, of_method in scores.items()
        for subject, value in of_method.items()
    ]


def test_differences_are_paired_by_subject_after_averaging_seeds():
    first = {"ours": {"a": 0.9, "b": 0.5}, "other": {"b": 0.4, "a": 0.8}}
    second = {"ours": {"b": 0.3, "a": 0.7}, "other": {"a": 0.6, "b": 0.2}}
    rows = pd.DataFrame(subject_rows(first, 0) + subject_rows(second, 1))
    table = tables.difference_table(rows, "ours")
    # 0.1 for each subject, though subjects and seeds differ by much more
    assert table.loc["other"].item() == "+0.100 [+0.100, +0.100] 2/2"


def test_differences_are_paired_over_the_seeds_that_both_have():
    first = {"ours": {"a": 0.9, "b": 0.5}, "other": {"a": 0.8, "b": 0.4}}
    second = {"ours": {"a": 0.1, "b": 0.0}}  # a harder seed, which "other" never saw
    rows = pd.DataFrame(subject_rows(first, 0) + subject_rows(second, 1))
    table = tables.difference_table(rows, "ours")
    assert table.loc["other"].item() == "+0.100 [+0.100, +0.100] 2/2"


def test_bootstrap_interval_agrees_with_the_normal_one_for_many_subjects():
    differences = np.random.default_rng(6).normal(0.2, 1.0, size=400)
    low, high = tables.bootstrap_interval(differences)
    half = 1.96 * differences.std() / np.sqrt(400)
    assert low == pytest.approx(differences.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(differences.mean() + half, abs=0.1 * half)


def test_means_over_sets_count_sets_alike_and_only_where_both_were_run():
    scores = [
        ("a", "flowfm", 1.0, 0.8),
        ("a", "minirocket", 1.0, 0.7),
        ("a", "statistics-forest", 1.0, 0.75),
        ("b", "flowfm", 1.0, 0.5),
        ("b", "minirocket", 1.0, 0.6),
        ("b", "statistics-forest", 1.0, 0.2),
        ("c", "flowfm", 1.0, 0.9),
        ("c", "statistics-forest", 1.0, 0.1),
    ]
    columns = ["dataset", "method", "label_fraction", "value"]
    rows = pd.DataFrame(scores, columns=columns).assign(metric="subject_macro_f1")
    rows = pd.concat([rows, rows[rows["dataset"] == "a"]])  # a set with more subjects
    table = tables.over_sets(rows, "flowfm")[1.0]
    assert table.loc["minirocket"].tolist() == [0.0, 2]
    assert table.loc["statistics-forest"].tolist() == [pytest.approx(0.383), 3]
    assert table.loc["the better rival"].tolist() == [pytest.approx(-0.025), 2]


def test_one_method_on_several_sets_has_scores_and_no_differences(capsys, tmp_path):
    path = Path(tables.__file__).parent / "results" / "recognition.csv"
    rows = pd.read_csv(path)
    rows = rows[(rows["method"] == "flowfm") & (rows["seed"] == 0)]
    rows.to_csv(tmp_path / "rows.csv")
    tables.print_tables([tmp_path / "rows.csv"], "flowfm")
    shown = capsys.readouterr().out
    assert "adl_wrist, grouped-5-fold, 7 subjects" in shown
    assert "minus" not in shown


def test_markdown_has_the_differences_of_the_scores_beside_each_other(capsys):
    scores = {"flowfm": [0.9, 0.7, 0.8], "minirocket": [0.8, 0.6, 0.7]}
    rows = [
        {"dataset": name, "method": method, "label_fraction": fraction, "seed": 0}
        | {"subject": str(subject), "metric": "subject_macro_f1", "value": value}
        for method, values in scores.items()
        for name, fraction in (("a", 1.0), ("a", 0.1), ("b", 0.1))
        for subject, value in enumerate(values)
    ]
    tables.print_markdown(pd.DataFrame(rows), "flowfm")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "| flowfm | .800 / .800 | - / .800 |" in lines
    cell = "**+.100** [.100, .100]"
    assert f"| minirocket | {cell} / {cell} | {cell} |" in lines


def test_a_mean_over_sets_draws_people_within_their_sets():
    rng = np.random.default_rng(0)
    rows = []
    for name, n_subjects, mean in (("small", 5, 0.1), ("large", 40, -0.04)):
        for subject in range(n_subjects):
            base, gain = rng.uniform(), mean + 0.01 * rng.normal()
            for method, value in (("flowfm", base + gain), ("pca", base)):
                rows.append(
                    {
                        "dataset": name,
                        "method": method,
                        "subject": str(subject),
                        "seed": 0,
                        "label_fraction": 1.0,
                        "metric": "subject_macro_f1",
                        "value": value,
                    }
                )
    cell = tables.mean_difference_cell(pd.DataFrame(rows), "flowfm", "pca")
    mean, low, high = map(float, re.findall(r"[-+]?\.\d+", cell))
    assert mean == pytest.approx(0.03, abs=0.005)  # sets count alike
    expected = 1.96 * 0.01 * np.sqrt(1 / 5 + 1 / 40) / 2
    assert (high - low) / 2 == pytest.approx(expected, rel=0.4)
    assert cell.startswith("**")


def test_the_first_page_says_what_the_rows_say(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    figure = load_by_path("readme_figure")
    page = (BENCHMARKS.parent / "README.md").read_text("utf-8")
    scores = figure.recognition(tables.read_rows([figure.RESULTS / "recognition.csv"]))
    better_rival = scores[["minirocket", "statistics-forest"]].max(axis=1)
    gain = 100 * (scores.flowfm - better_rival).groupby("label_fraction").mean()
    lines = [line for line in page.splitlines() if line.startswith("|")]
    shares = {0.01: "a hundredth of", 0.1: "the same, a tenth", 1.0: "the same, all"}
    found = {
        share: float(re.search(r"\| ([+-][\d.]+)", line)[1])
        for share, words in shares.items()
        for line in lines
        if words in line
    }
    assert found == pytest.approx(gain.round(1).to_dict())
    auc = figure.told_from_real(pd.read_csv(figure.RESULTS / "generation.csv"))
    (line,) = (line for line in lines if "AUC" in line)
    cells = line.rsplit("|", 2)[0]  # the last says where it does not win
    printed = [float(f"0.{digits}") for digits in re.findall(r" \.(\d+)", cells)]
    assert printed == pytest.approx(auc.round(2).to_list())


# ------------------------------------------------------------------------- ablation
ablation = load_by_path("recognition_ablation")
SHORT = {
    name: change
    for name, change in ablation.variants().items()
    if not name.startswith(("default", "budget", "components"))
}


def test_sigreg_prefers_normal_projections_and_agreement():
    rng = np.random.default_rng(0)
    normal = torch.tensor(rng.normal(size=(500, 8)), dtype=torch.float32)
    loss = ablation.sigreg(normal, normal)
    for worse in (2 * normal, normal + 1, normal.sign() * normal.abs().sqrt()):
        assert ablation.sigreg(worse, worse) > 1.5 * loss
    assert ablation.sigreg(normal, normal.roll(1, 0)) > 10 * loss


def test_dispersive_loss_pushes_rows_apart_and_ignores_pairs():
    z = torch.tensor(np.random.default_rng(0).normal(size=(30, 4)))
    assert ablation.dispersive(2 * z, 2 * z) < ablation.dispersive(z, z)
    torch.testing.assert_close(
        ablation.dispersive(z, z.roll(1, 0)), ablation.dispersive(z, z)
    )


def features_of_variant(parameters, constants):
    X = np.random.default_rng(0).normal(size=(60, 2, 40)).cumsum(axis=2)
    settings = {"max_steps": 12, "random_state": 0, **parameters}
    transformer = FlowFMTransformer(16, **settings)
    return ablation.Changed(transformer, constants).fit_transform(X)


@pytest.fixture(scope="module")
def default_features():
    return features_of_variant({}, {})


@pytest.mark.parametrize("name", SHORT)
def test_a_variant_of_the_ablation_changes_the_features(name, default_features):
    changed = features_of_variant(*SHORT[name])
    assert changed.shape == default_features.shape
    assert not np.allclose(changed, default_features, atol=1e-4)
    assert np.array_equal(features_of_variant({}, {}), default_features)


def test_leaving_out_the_field_leaves_the_representation(monkeypatch):
    X = np.random.default_rng(0).normal(size=(400, 20)).astype(np.float32)
    model = FlowFMTransformer(6, max_steps=60, random_state=0)
    whole = model.fit(X)
    Z, n_steps = whole.transform(X), whole.n_steps_
    # setattr so that what the script replaces for good comes back here
    monkeypatch.setattr(_training, "train_jointly", _training.train_jointly)
    common.leave_out_the_field()
    np.testing.assert_array_equal(model.fit(X).transform(X), Z)
    assert model.n_steps_ < n_steps


def test_what_is_no_file_of_windows_is_named(tmp_path):
    path = tmp_path / "bad.npz"
    for content in (b"", b"no zip", b"PK" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.npz is no npz file"):
            common.load_windows(path)
    with pytest.raises(SystemExit, match=r"ends in \.csv"):
        common.new_output(SimpleNamespace(out=str(tmp_path / "rows.json")))


def test_models_of_other_settings_are_kept_elsewhere(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    finetuning = load_by_path("finetuning")
    settings = SimpleNamespace(models=tmp_path, max_steps=None, without_field=False)
    places = [
        finetuning.place_of(
            names, seed, SimpleNamespace(**{**vars(settings), **change})
        )
        for names in (["a"], ["b"], ["a", "b"])
        for seed in (0, 1)
        for change in ({}, {"max_steps": 2}, {"max_steps": 20}, {"without_field": True})
    ]
    assert len(set(places)) == len(places)
    settings.models = None
    assert finetuning.place_of(["a"], 0, settings) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"y": np.arange(1, 13)}, "y goes from 0 to 11, not from 1 to 12"),
        ({"channels": np.array(["x", "y"])}, "3 channels or none"),
        ({"sampling_rate": np.array(0.0)}, "sampling_rate above 0"),
        ({"sampling_rate": np.array(np.nan)}, "sampling_rate above 0"),
    ],
)
def test_the_quickstart_reads_a_file_s_names_before_it_trains(change, said):
    path = BENCHMARKS.parent / "examples" / "quickstart.py"
    spec = importlib.util.spec_from_file_location("quickstart", path)
    quickstart = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quickstart)
    arrays = {
        "X": np.zeros((12, 3, 9)),
        "y": np.arange(12),
        "groups": np.arange(12),
        "classes": np.array([f"class {k}" for k in range(12)]),
        "channels": np.array(["x", "y", "z"]),
        "sampling_rate": np.array(30.0),
    }
    assert quickstart.as_bunch(arrays, "some.npz").sampling_rate == 30
    with pytest.raises(SystemExit, match=said):
        quickstart.as_bunch({**arrays, **change}, "some.npz")
