"""The claims that `benchmarks/paper.py` prints, from rows whose answer is known."""

import json
import re
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import Bunch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scripts():
    """Import the scripts as they import one another."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import paper
        import paper_claims
        import paper_generation
        import paper_recognition

        yield Bunch(
            paper=paper,
            claims=paper_claims,
            generation=paper_generation,
            recognition=paper_recognition,
        )
    finally:
        sys.path.remove(str(BENCHMARKS))


def rows_of(scripts, method, seconds=1.0, protocol=None, seed=0, **metrics):
    protocol = protocol or scripts.generation.PROTOCOL
    return [
        {
            "dataset": "people",
            "method": method,
            "protocol": protocol,
            "seed": seed,
            "metric": metric,
            "value": value,
            "seconds": seconds,
        }
        for metric, value in metrics.items()
    ]


def a_budget(scripts, method, seconds, c2st, tstr=0.8, probe=0.9):
    return rows_of(
        scripts,
        method,
        seconds,
        c2st_auc=c2st,
        tstr_forest=tstr,
        probe_f1_all=probe,
        train_cpu_seconds=seconds / 2,
    )


def test_training_time_is_when_a_curve_first_is_as_good_as_the_best_diffusion(scripts):
    rows = pd.DataFrame(
        a_budget(scripts, "diffusion, 200 steps", 40, 0.80)
        + a_budget(scripts, "diffusion, 400 steps", 80, 0.72)  # within .02 of the best
        + a_budget(scripts, "diffusion, 800 steps", 160, 0.70)
        + a_budget(scripts, "flow, 50 steps", 10, 0.75)
        + a_budget(scripts, "flow, 100 steps", 20, 0.69, probe=0.8)  # probe too low
        + a_budget(scripts, "flow, 200 steps", 40, 0.69, probe=0.89)
    )
    (text,) = scripts.claims.training_claim(rows)
    assert text == "people -50% (wall -50%; 200 against 400 steps, to C2ST 0.700)"


def test_between_budgets_quality_is_linear_in_the_logarithm_of_time(scripts):
    rows = pd.DataFrame(
        a_budget(scripts, "diffusion, 800 steps", 160, 0.70)
        + a_budget(scripts, "flow, 100 steps", 20, 0.82)
        + a_budget(scripts, "flow, 400 steps", 80, 0.62)  # .72 is half of the way
    )
    (text,) = scripts.claims.training_claim(rows)
    assert text == "people -75% (wall -75%; 200 against 800 steps, to C2ST 0.700)"


def test_a_claim_that_fails_says_so(scripts):
    rows = pd.DataFrame(
        a_budget(scripts, "diffusion, 200 steps", 40, 0.60)
        + a_budget(scripts, "flow, 800 steps", 10, 0.90)
    )
    (text,) = scripts.claims.training_claim(rows)
    assert text == "people not reached, c2st_auc 0.900 for 0.600"


def test_a_claim_that_fails_in_one_measure_says_which(scripts):
    rows = pd.DataFrame(
        a_budget(scripts, "diffusion, 200 steps", 40, 0.60, tstr=0.83)
        + a_budget(scripts, "flow, 400 steps", 10, 0.58, tstr=0.79)
        + a_budget(scripts, "flow, 800 steps", 20, 0.55, tstr=0.81)
    )
    (text,) = scripts.claims.training_claim(rows)
    missed = "tstr_forest 0.810 for 0.830, -75% to equal c2st_auc alone"
    assert text == f"people not reached, {missed}"


def test_an_auc_below_chance_is_no_better_than_chance(scripts):
    rows = pd.DataFrame(
        a_budget(scripts, "diffusion, 200 steps", 40, 0.51)
        + a_budget(scripts, "diffusion, 400 steps", 80, 0.44, tstr=0.81)
        + a_budget(scripts, "diffusion, 800 steps", 160, 0.40, tstr=0.79)
        + a_budget(scripts, "flow, 100 steps", 20, 0.52, tstr=0.80)
    )
    (text,) = scripts.claims.training_claim(rows)
    assert text == "people -50% (wall -50%; 100 against 200 steps, to C2ST 0.500)"


def a_speed(scripts, method, rate, c2st, tstr=0.8):
    return rows_of(
        scripts, method, windows_per_second=rate, c2st_auc=c2st, tstr_forest=tstr
    )


def test_speed_is_that_of_the_quickest_flow_that_is_as_good(scripts):
    rows = pd.DataFrame(
        a_speed(scripts, "diffusion, ancestral 1000", 2, 0.70)
        + a_speed(scripts, "diffusion, DDIM 5", 400, 0.90)
        + a_speed(scripts, "diffusion, DDIM 10", 200, 0.66)
        + a_speed(scripts, "diffusion, DDIM 50", 40, 0.65)
        + a_speed(scripts, "flow, 1 evaluations", 2000, 0.95)
        + a_speed(scripts, "flow, 4 evaluations", 500, 0.71)
        + a_speed(scripts, "flow, 8 evaluations", 250, 0.66)
    )
    (text,) = scripts.claims.speed_claim(rows)
    assert text == (
        "people 250.0x ancestral 1000 (4 against 1000 evaluations), "
        "1.2x DDIM (8 against 10 evaluations)"
    )


def test_recognition_is_compared_person_by_person(scripts):
    flow, pretext = scripts.recognition.FLOW[0], scripts.recognition.PRETEXT[0]
    people = {f"macro_f1[person {i}]": i / 10 for i in range(5)}
    better = {name: value + 0.05 for name, value in people.items()}
    better["macro_f1[person 9]"] = 0.0  # known to one method only: left out
    where = {"protocol": "subject-wise"}
    rows = pd.DataFrame(
        rows_of(scripts, pretext, **where, **people)
        + rows_of(scripts, flow, **where, **better)
    )
    (text,) = scripts.claims.recognition_claim(rows)
    assert text == "frozen +5.0 points, ahead on 1 of 1 (people +5.0)"
    gap = scripts.claims.differences(rows, flow, pretext)["people"]
    np.testing.assert_allclose(gap, 0.05, atol=1e-9)


def test_three_seeds_test_everybody_once_and_never_those_who_train(scripts):
    groups = np.repeat(np.arange(9), 6)
    data = Bunch(X=np.zeros((54, 1, 8)), y=np.tile(np.arange(6), 9), groups=groups)
    tested = []
    for seed in range(3):
        train, test = scripts.recognition.split_of(data, "subject-wise", seed)
        assert not set(groups[train]) & set(groups[test])
        tested += sorted(set(groups[test]))
        fixed = scripts.recognition.split_of(data, "fixed split", seed)[1]
        np.testing.assert_array_equal(
            fixed, scripts.recognition.split_of(data, "fixed split", 0)[1]
        )
    assert sorted(tested) == list(range(9))


def test_leaving_one_out_pools_what_was_said_about_each(scripts):
    groups = np.repeat(np.arange(4), 5)
    data = Bunch(X=np.arange(20.0).reshape(20, 1, 1), y=np.tile(np.arange(5), 4))
    data.groups = groups

    def fit(data, train, test, seed, options):
        (person,) = set(groups[test])
        assert person not in groups[train]
        right = data.y[test]
        yield "a", right if person else (right + 1) % 5, 1.0

    function = scripts.recognition.one_out(data, fit, ("a",), 0, None)
    ((method, found, seconds),) = function()
    assert (method, seconds) == ("a", 4.0)
    assert [found[f"macro_f1[person {i}]"] for i in range(4)] == [0, 1, 1, 1]
    assert found["subject_macro_f1"] == 0.75


def test_a_run_goes_on_where_it_was_cut_off(scripts, tmp_path, capsys):
    options = Bunch(out=tmp_path / "paper.csv")
    data, calls = Bunch(name="people"), []

    def job(method, fails=False):
        def function():
            calls.append(method)
            yield method, {"pooled_macro_f1": 0.5}, 1.0
            if fails:
                raise KeyboardInterrupt
            yield f"{method}, tuned", {"pooled_macro_f1": 0.6}, 2.0

        return data, 0, (method, f"{method}, tuned"), "subject-wise", function

    with pytest.raises(KeyboardInterrupt):
        scripts.paper.run([job("a"), job("b", fails=True)], options)
    scripts.paper.run([job("a"), job("b"), job("c")], options)
    assert calls == ["a", "b", "b", "c"]
    rows = pd.read_csv(options.out)
    assert not rows.duplicated(["method", "seed", "metric"]).any()
    assert len(rows) == 6
    assert list(rows) == re.split(
        ",", "dataset,method,protocol,seed,metric,value,seconds"
    )
    assert "100" not in capsys.readouterr().err


def test_each_run_is_recorded_beside_the_rows(scripts, tmp_path):
    for seed in (0, 1):
        scripts.paper.record(Namespace(out=tmp_path / "rows.csv", seeds=[seed]))
    runs = json.loads((tmp_path / "rows.json").read_text())
    assert [run["arguments"]["seeds"] for run in runs] == ["[0]", "[1]"]
    assert all(run["environment"]["numpy"] == np.__version__ for run in runs)


def test_a_run_with_other_settings_is_refused_and_one_of_other_parts_is_not(
    scripts, tmp_path
):
    out = tmp_path / "rows.csv"

    def asked(parts, **changed):
        settings = {"max_steps": 2, "rotation": False, "draws": 9, "repeats": 1}
        return Namespace(out=out, parts=parts, **{**settings, **changed})

    scripts.paper.record(asked(["recognition"]))
    out.write_text("rows")
    scripts.paper.record(asked(["recognition"], draws=10))  # draws nothing
    scripts.paper.record(asked(["generation"], max_steps=60))
    for parts, changed in (
        (["recognition"], {"max_steps": 60}),
        (["generation"], {"draws": 10, "max_steps": 60}),
        (["fidelity", "generation"], {"repeats": 2, "max_steps": 60}),
    ):
        with pytest.raises(SystemExit, match=r"rows\.csv has rows of .* another --out"):
            scripts.paper.record(asked(parts, **changed))
    assert len(json.loads(out.with_suffix(".json").read_text())) == 3
    out.with_suffix(".json").write_text("[{")
    with pytest.raises(SystemExit, match="cut off"):
        scripts.paper.record(asked(["recognition"]))


def test_without_rows_any_settings_will_do(scripts, tmp_path):
    settings = {
        "rotation": False,
        "out": tmp_path / "rows.csv",
        "parts": ["recognition"],
    }
    for steps in (2, 60):
        scripts.paper.record(Namespace(max_steps=steps, **settings))
