"""The fetchers: files in the published formats become windows of activities."""

import io
import os
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest

from skflowfm.datasets import (
    _adl,
    _opportunity,
    _pamap2,
    _realworld,
    _wisdm,
    fetch_adl,
    fetch_opportunity,
    fetch_pamap2,
    fetch_realworld,
    fetch_wisdm,
)

# A fetcher warns of people that are absent, as nearly all are from the files here.
pytestmark = pytest.mark.filterwarnings("ignore:.*no window of:UserWarning")


# ------------------------------------------------------------------ files to read
def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def lines(table, sep=" ", end="\n"):
    return "".join(sep.join(map(str, row)) + end for row in table).encode()


def wave(time):
    """1 g upwards and half a Hz on the other axes, of half a g."""
    angle = 2 * np.pi * 0.5 * time
    return np.column_stack([0.5 * np.sin(angle), 0.5 * np.cos(angle), 0 * time + 1])


def seconds(rate, duration):
    return np.arange(round(rate * duration)) / rate


def adl_file(time):
    counts = np.rint((wave(time) + 1.5) / 3 * 63).astype(int)
    return "".join("{:02d} {:02d} {:02d}\r\n".format(*row) for row in counts).encode()


def adl(duration=21):
    name = "Accelerometer-2011-03-24-09-51-07-walk-f1.txt"
    return {f"HMP_Dataset/Walk/{name}": adl_file(seconds(32, duration))}


def opportunity_table(duration=21, label=2):
    time = seconds(30, duration)
    table = np.full((len(time), 250), "NaN", dtype=object)
    table[:, 0] = np.rint(1000 * time).astype(int)
    table[:, 22:25] = np.rint(1000 * wave(time)).astype(int)
    table[:, 243:] = 0
    table[:, 243] = label
    return table


def opportunity(**options):
    table = opportunity_table(**options)
    return {"OpportunityUCIDataset/dataset/S1-ADL1.dat": lines(table)}


def pamap2_table(duration=21, label=4):
    time = seconds(100, duration)
    table = np.full((len(time), 54), "1.5", dtype=object)
    table[:, 0] = [f"{8.38 + t:.2f}" for t in time]
    table[:, 1] = label
    table[:, 2] = "NaN"  # the heart rate, nearly always
    table[:, 4:7] = np.round(9.80665 * wave(time), 5)
    return table


def pamap2(**options):
    return {"PAMAP2_Dataset/Protocol/subject101.dat": lines(pamap2_table(**options))}


def realworld_csv(duration=21):
    time = seconds(50, duration)
    stamps = np.rint(1.4e12 + 1000 * time).astype(np.int64)
    rows = zip(range(len(time)), stamps, *(9.81 * wave(time)).T, strict=True)
    return b"id,attr_time,attr_x,attr_y,attr_z\n" + lines(rows, ",")


def realworld(duration=21):
    """Zip in zip for the first activity, and for the second once more in a zip."""
    csv = realworld_csv(duration)
    parts = {  # of the first part only the archive has a number
        "acc_climbingup_1_csv.zip": zipped({"acc_climbingup_forearm.csv": csv}),
        "acc_climbingup_2_csv.zip": zipped({"acc_climbingup_2_forearm.csv": csv}),
    }
    walking = {"acc_walking_forearm.csv": csv, "acc_walking_chest.csv": b"no"}
    return {
        "realworld2016_dataset/proband1/data/acc_walking_csv.zip": zipped(walking),
        "realworld2016_dataset/proband1/data/gyr_walking_csv.zip": b"not looked at",
        "realworld2016_dataset/proband3/data/acc_climbingup_csv.zip": zipped(parts),
    }


def wisdm_lines(code="A", person=1600, duration=21, begin=90_426_708_196_641):
    time = seconds(20, duration)
    stamps = begin + np.rint(1e9 * time).astype(np.int64)
    rows = zip(stamps, *(9.81 * wave(time)).T, strict=True)
    return lines(([person, code, *row] for row in rows), ",", ";\n")


def wisdm(**options):
    name = "wisdm-dataset/raw/watch/accel/data_1600_accel_watch.txt"
    return {name: wisdm_lines(**options)}


# Fetcher, module, files, tolerance of the values in g, activity and person there.
ALL = {
    "adl": (fetch_adl, _adl, adl, 0.03, "walk", 0),
    "opportunity": (fetch_opportunity, _opportunity, opportunity, 6e-3, "walk", 1),
    "pamap2": (fetch_pamap2, _pamap2, pamap2, 5e-3, "walking", 101),
    "realworld": (fetch_realworld, _realworld, realworld, 5e-3, "walking", 1),
    "wisdm": (fetch_wisdm, _wisdm, wisdm, 5e-3, "walking", 1600),
}
each = pytest.mark.parametrize("name", list(ALL))
WITH_GAPS = pytest.mark.parametrize("name", [name for name in ALL if name != "adl"])


def fetched(name, folder, **options):
    return ALL[name][0](data_home=folder, download_if_missing=False, **options)


# ------------------------------------------------------------------ what all do
@each
def test_a_known_wave_comes_out_in_g_at_30_hz(name, tmp_path):
    _, _, files, tolerance, activity, person = ALL[name]
    write(tmp_path / name, files())
    data = fetched(name, tmp_path)
    of_one = data.classes[data.y] == activity
    start = data.start - data.start[0]
    np.testing.assert_allclose(start[of_one], [0, 5, 10], atol=0.02)
    assert data.X.dtype == np.float32
    for x, begin in zip(data.X, start, strict=True):
        # At the very ends of a recording the filter has less to go on.
        expected = wave(begin + seconds(30, 10)).T
        np.testing.assert_allclose(x[:, 15:-15], expected[:, 15:-15], atol=tolerance)
    assert set(data.groups[of_one].tolist()) == {person}
    assert len(set(data.recording[of_one].tolist())) == 1
    assert data.y.dtype == data.groups.dtype == np.int64
    assert data.channels.tolist() == ["acc_x_g", "acc_y_g", "acc_z_g"]
    assert data.sampling_rate == 30
    assert data.target_names.tolist() == data.classes.tolist()
    for part in ("Source: http", "Licence: ", "Reference: ", f"{len(data.y)} windows"):
        assert part in data.DESCR


@each
def test_a_folder_an_archive_and_an_archive_in_it_are_the_same(name, tmp_path):
    files = ALL[name][2]()
    unpacked = ALL[name][1].SOURCE.unpacked
    archive = zipped({**files, "__MACOSX/._more.zip": b"", "readme.zip.txt": b""})
    write(tmp_path / "1" / name, files)
    write(tmp_path / "2", files)
    write(tmp_path / "3" / name, {"whatever.zip": archive})
    write(tmp_path / "4" / name, {"both.zip": archive, **files})
    n_ways = 4
    if name != "realworld":  # where only certain archives are looked into
        nested = zipped({f"{unpacked}.zip": archive})
        write(tmp_path / "5" / name, {"published.zip": nested})
        n_ways = 5
    expected = fetched(name, tmp_path / "1")
    assert len(expected.y) >= 3
    for way in range(2, n_ways + 1):
        data = fetched(name, tmp_path / str(way))
        for key in ("X", "y", "groups", "recording", "start"):
            np.testing.assert_array_equal(data[key], expected[key])


@each
def test_the_tuple_and_the_step(name, tmp_path):
    write(tmp_path / name, ALL[name][2]())
    data = fetched(name, tmp_path, step=300)
    X, y, groups = fetched(name, tmp_path, step=300, return_X_y=True)
    np.testing.assert_array_equal(X, data.X)
    np.testing.assert_array_equal(y, data.y)
    np.testing.assert_array_equal(groups, data.groups)
    first = data.recording == data.recording[0]
    np.testing.assert_allclose(np.diff(data.start[first]), 10, atol=1e-6)
    data = fetched(name, tmp_path, step=30)
    start = data.start[data.recording == data.recording[0]]
    np.testing.assert_allclose(start - start[0], np.arange(len(start)), atol=1e-6)
    assert len(start) in (11, 12)  # as the last sample lies just before 21 s


@each
def test_what_is_missing_is_named_with_its_place_and_source(name, tmp_path):
    source = ALL[name][1].SOURCE
    with pytest.raises(FileNotFoundError, match="download_if_missing is False") as info:
        fetched(name, tmp_path)
    for part in (source.archive, source.url, source.page, str(tmp_path / name)):
        assert part in str(info.value)
    assert list(tmp_path.iterdir()) == []


@each
def test_without_network_the_error_says_what_to_do(name, tmp_path, monkeypatch):
    fetch, module, *_ = ALL[name]
    nowhere = module.SOURCE._replace(url="http://127.0.0.1:9/data.zip")
    monkeypatch.setattr(module, "SOURCE", nowhere)
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(OSError, match="Could not download") as info:
        fetch(data_home=tmp_path, verbose=False)
    assert f"put it into {tmp_path / name}" in str(info.value)
    assert list((tmp_path / name).iterdir()) == []


@each
def test_what_is_downloaded_once_is_kept(name, tmp_path, monkeypatch):
    fetch, module, files, *_ = ALL[name]
    write(tmp_path / "server", {"published.zip": zipped(files())})
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "server")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SKFLOWFM_DATA", str(tmp_path / "home"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/published.zip"
        monkeypatch.setattr(module, "SOURCE", module.SOURCE._replace(url=url))
        first = fetch(verbose=False)
        server.shutdown()
    again = fetch(download_if_missing=False)
    np.testing.assert_array_equal(again.X, first.X)
    assert len(first.y) >= 3
    archive = module.SOURCE.archive
    kept = sorted(p.name for p in (tmp_path / "home" / name).iterdir())
    assert kept == [archive, archive + ".sha256"]


@each
def test_a_folder_without_the_files_is_named(name, tmp_path):
    write(tmp_path / name, {"other.zip": zipped({"something/else.txt": b"1"})})
    with pytest.raises(FileNotFoundError, match="No file like") as info:
        fetched(name, tmp_path)
    assert str(tmp_path / name) in str(info.value)


@each
@pytest.mark.parametrize("damage", ["truncated", "one byte"])
def test_a_damaged_archive_is_named(name, damage, tmp_path):
    files = ALL[name][2]()
    if name == "realworld":  # else the directory is all there is to damage
        files = {k: v for k, v in files.items() if "acc_walking" in k}
    content = bytearray(zipped(files))
    if damage == "truncated":
        content = content[:-200]
    else:
        content[len(content) // 2] ^= 255
    write(tmp_path / name, {"data.zip": bytes(content)})
    with pytest.raises(OSError, match=r"data\.zip.*cannot be unpacked") as info:
        fetched(name, tmp_path)
    assert "fetch again" in str(info.value)


@each
def test_an_archive_is_held_against_its_checksum(name, tmp_path):
    archive = ALL[name][1].SOURCE.archive
    write(tmp_path / name, {archive: zipped(ALL[name][2]())})
    fetched(name, tmp_path)
    write(tmp_path / name, {archive: zipped(ALL[name][2](duration=12))})
    with pytest.raises(OSError, match="recorded SHA-256"):
        fetched(name, tmp_path)
    (tmp_path / name / f"{archive}.sha256").unlink()
    fetched(name, tmp_path)


@each
@pytest.mark.parametrize("duration", [0, 9])
def test_recordings_that_are_too_short_are_an_error_if_there_are_no_others(
    name, duration, tmp_path
):
    write(tmp_path / name, ALL[name][2](duration=duration))
    with pytest.raises(ValueError, match="No window of 10 s"):
        fetched(name, tmp_path)


@each
def test_a_step_must_be_a_positive_integer(name, tmp_path):
    with pytest.raises(ValueError, match="step"):
        fetched(name, tmp_path, step=0)
    with pytest.raises(TypeError, match="step"):
        fetched(name, tmp_path, step=1.5)


@WITH_GAPS
def test_without_gaps_a_whole_recording_is_not_cut(name, tmp_path):
    """Neighbouring samples are no gap, though there is time between them."""
    write(tmp_path / name, ALL[name][2]())
    whole, without = (fetched(name, tmp_path, max_gap=gap) for gap in (0.5, 0))
    assert len(without.y) == len(whole.y)


@WITH_GAPS
@pytest.mark.parametrize("max_gap", [-1, np.inf, np.nan])
def test_a_gap_must_be_a_time(name, max_gap, tmp_path):
    with pytest.raises(ValueError, match="max_gap"):
        fetched(name, tmp_path, max_gap=max_gap)


@pytest.mark.parametrize("name", [name for name in ALL if name != "opportunity"])
def test_a_subset_must_be_known(name, tmp_path):
    with pytest.raises(ValueError, match=r"'benchmark', 'all'.*got 'none'"):
        fetched(name, tmp_path, subset="none")


# ------------------------------------------------------------------ ADL
def adl_path(activity="walk", person="f1", folder=None, minute=0):
    folder = folder or activity.capitalize()
    time = f"2011-03-24-09-{minute:02d}-07"
    return f"{folder}/Accelerometer-{time}-{activity}-{person}.txt"


def test_adl_counts_are_g(tmp_path):
    content = b"00 63 42\r\n" * 320
    write(tmp_path / "adl", {adl_path(): content})
    data = fetched("adl", tmp_path)
    np.testing.assert_allclose(data.X[0], [[-1.5] * 300, [1.5] * 300, [0.5] * 300])


def test_adl_takes_an_exact_copy_once_and_f1_1_for_f1(tmp_path):
    content = adl_file(seconds(32, 21))
    other = content[400:] + content[:400]
    write(
        tmp_path / "adl",
        {
            adl_path(): content,
            adl_path(folder="Walk_MODEL"): content,
            adl_path(folder="Walk_MODEL", person="f1_1", minute=1): other,
        },
    )
    data = fetched("adl", tmp_path)
    names = [adl_path().split("/")[1], adl_path(person="f1_1", minute=1).split("/")[1]]
    assert data.recording.tolist() == [names[0]] * 3 + [names[1]] * 3
    assert set(data.group_names[data.groups].tolist()) == {"f1"}


def test_adl_subsets(tmp_path):
    people = ["f1", "f4", "m4", "m11"]
    activities = ["walk", "eat_soup", "getup_bed"]
    files = {}
    for i, (a, p) in enumerate((a, p) for a in activities for p in people):
        files[adl_path(a, p, minute=i)] = adl_file(i + seconds(32, 11))
    write(tmp_path / "adl", files)
    few, every = (fetched("adl", tmp_path, subset=s) for s in ("benchmark", "all"))
    assert set(zip(few.classes[few.y], few.group_names[few.groups], strict=True)) == {
        (a, p) for a in ("walk", "getup_bed") for p in ("f1", "m4")
    }
    assert set(
        zip(every.classes[every.y], every.group_names[every.groups], strict=True)
    ) == {(a, p) for a in activities for p in people}
    assert few.classes.tolist() == [
        "climb_stairs",
        "drink_glass",
        "getup_bed",
        "pour_water",
        "walk",
    ]
    assert len(every.classes) == 14
    assert every.groups.tolist() == sorted(every.groups.tolist())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"22 49\r\n" * 400, "must have 3 columns of numbers, its first line has 2"),
        (b"22 49 35\r\n" * 400 + b"22 4", r"three counts.*nan\] in line 401"),
        (b"22 49 35\r\n22 64 35\r\n", r"0 to 63.*64.* in line 2"),
        (b"22 49 35\r\n22 xx 35\r\n", "cannot be read.*xx"),
        (b"22 49 35\r\n22 49 35 1\r\n", "cannot be read"),
    ],
)
def test_adl_files_that_do_not_have_the_format(content, message, tmp_path):
    write(tmp_path / "adl", {adl_path(): content})
    with pytest.raises(ValueError, match=message) as info:
        fetched("adl", tmp_path)
    assert adl_path() in str(info.value)
    assert "get it again" in str(info.value)


def test_adl_activities_that_do_not_exist(tmp_path):
    write(tmp_path / "adl", {adl_path("fly"): adl_file(seconds(32, 11))})
    with pytest.raises(ValueError, match="got 'fly'"):
        fetched("adl", tmp_path)


def test_people_without_a_window_are_named(tmp_path):
    short, long = adl_file(seconds(32, 9)), adl_file(seconds(32, 11))
    write(tmp_path / "adl", {adl_path(): long, adl_path(person="f2"): short})
    with pytest.warns(UserWarning, match=r"no window of f2, f3, m1, m2, m3, m4\.") as w:
        data = fetched("adl", tmp_path)
    assert set(data.groups.tolist()) == {0}
    assert w[0].filename == __file__


# ------------------------------------------------------------------ Opportunity
def test_opportunity_labels_and_people(tmp_path):
    files = {}
    for person, label in [(1, 1), (2, 2), (3, 4), (4, 5)]:
        table = opportunity_table(11, label)
        files[f"dataset/S{person}-Drill.dat"] = lines(table)
    write(tmp_path / "opportunity", files)
    data = fetched("opportunity", tmp_path)
    assert data.groups.tolist() == [1, 2, 3, 4]
    assert data.classes[data.y].tolist() == ["stand", "walk", "sit", "lie"]
    assert data.recording.tolist() == [f"S{i}-Drill.dat" for i in (1, 2, 3, 4)]


def test_opportunity_time_without_an_activity_gives_no_window(tmp_path):
    table = opportunity_table(40)
    table[320:, 243] = 0
    write(tmp_path / "opportunity", {"S1-ADL1.dat": lines(table)})
    data = fetched("opportunity", tmp_path)
    assert data.start.tolist() == [0, 5]  # of which it fills 10 and 5.7 s
    table[300:, 243] = 0
    write(tmp_path / "opportunity", {"S1-ADL1.dat": lines(table)})
    assert fetched("opportunity", tmp_path).start.tolist() == [0, 5]  # half is enough


def test_opportunity_lost_samples(tmp_path):
    table = opportunity_table(31)
    table[30:40, 22:25] = "NaN"  # 0.37 s: interpolated
    table[450:480, 22:25] = "NaN"  # 15 to 16 s: cut
    write(tmp_path / "opportunity", {"S1-ADL1.dat": lines(table)})
    data = fetched("opportunity", tmp_path)
    np.testing.assert_allclose(data.start, [0, 5, 16, 21], atol=2e-3)
    np.testing.assert_allclose(data.X[2], wave(16 + seconds(30, 10)).T, atol=6e-3)
    assert len(fetched("opportunity", tmp_path, max_gap=1.1).y) == 5


def test_opportunity_needs_its_columns(tmp_path):
    write(tmp_path / "opportunity", {"S1-ADL1.dat": b"0 1 2 3\n" * 9})
    with pytest.raises(ValueError, match=r"must have 250 columns.*has 4"):
        fetched("opportunity", tmp_path)


# ------------------------------------------------------------------ PAMAP2
def test_pamap2_subsets_and_optional_recordings(tmp_path):
    files = {}
    for person, label in [(101, 1), (108, 17), (109, 4), (105, 24)]:
        files[f"Protocol/subject{person}.dat"] = lines(pamap2_table(11, label))
    files["Optional/subject101.dat"] = lines(pamap2_table(11, 20))
    write(tmp_path / "pamap2", files)
    few, every = (fetched("pamap2", tmp_path, subset=s) for s in ("benchmark", "all"))
    assert few.groups.tolist() == [101, 108]
    assert few.classes[few.y].tolist() == ["lying", "ironing"]
    assert len(few.classes) == 8
    assert every.groups.tolist() == [101, 101, 105, 108, 109]
    assert every.classes[every.y].tolist() == [
        "playing_soccer",
        "lying",
        "rope_jumping",
        "ironing",
        "walking",
    ]
    assert every.recording[0] == "Optional/subject101.dat"
    assert len(every.classes) == 18


def test_pamap2_missing_values_short_and_long(tmp_path):
    table = pamap2_table(32)
    table[300:340, 4:7] = "NaN"  # 0.41 s: interpolated
    table[1300:1400, 5] = "NaN"  # 13 to 14 s: cut
    write(tmp_path / "pamap2", {"Protocol/subject101.dat": lines(table)})
    data = fetched("pamap2", tmp_path)
    np.testing.assert_allclose(data.start, 8.38 + np.array([0, 14, 19]), atol=1e-6)
    expected = wave(19 + seconds(30, 10)).T
    np.testing.assert_allclose(data.X[2], expected, atol=5e-3)
    # A straight line over 0.41 s of a wave of 0.5 Hz and 0.5 g.
    assert abs(data.X[0] - wave(seconds(30, 10)).T).max() < 0.11


def test_pamap2_activity_changes_in_the_middle(tmp_path):
    table = pamap2_table(31)
    table[:1400, 1] = 3  # standing for 14 s
    table[1400:1500, 1] = 0
    write(tmp_path / "pamap2", {"Protocol/subject101.dat": lines(table)})
    data = fetched("pamap2", tmp_path)
    names = data.classes[data.y].tolist()
    assert names == ["standing", "standing", "walking", "walking", "walking"]
    table[500:, 1] = 0  # half of the first window
    write(tmp_path / "pamap2", {"Protocol/subject101.dat": lines(table)})
    data = fetched("pamap2", tmp_path)
    assert data.classes[data.y].tolist() == ["standing"]


def test_pamap2_reads_a_line_that_ends_early_as_missing(tmp_path):
    content = pamap2(duration=11)
    ((path, text),) = content.items()
    write(tmp_path / "pamap2", {path: text[: -len(text.splitlines()[-1]) + 10]})
    assert len(fetched("pamap2", tmp_path).y) == 1


def test_pamap2_needs_its_columns(tmp_path):
    table = pamap2_table(11)[:, :53]
    write(tmp_path / "pamap2", {"Protocol/subject101.dat": lines(table)})
    with pytest.raises(ValueError, match=r"must have 54 columns.*has 53"):
        fetched("pamap2", tmp_path)


# ------------------------------------------------------------------ RealWorld
def test_realworld_parts_and_subsets(tmp_path):
    files = realworld(11)
    files["realworld2016_dataset/proband2/data/acc_lying_csv.zip"] = zipped(
        {"acc_lying_forearm.csv": realworld_csv(11)}
    )
    write(tmp_path / "realworld", files)
    few, every = (
        fetched("realworld", tmp_path, subset=s) for s in ("benchmark", "all")
    )
    assert few.groups.tolist() == [1, 3, 3]
    assert few.classes[few.y].tolist() == ["walking", "climbingup", "climbingup"]
    assert few.recording.tolist() == [
        "proband1/acc_walking_forearm.csv",
        "proband3/acc_climbingup_2_forearm.csv",
        "proband3/acc_climbingup_forearm.csv",
    ]
    assert every.groups.tolist() == [1, 2, 3, 3]
    assert len(every.classes) == 8


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_folders_may_be_links(tmp_path):
    """To another disk, and one back up, which must not be followed for ever."""
    path = "proband5/data/acc_jumping_csv/acc_jumping_forearm.csv"
    write(tmp_path / "disk", {path: realworld_csv(11)})
    (tmp_path / "disk" / "up").symlink_to(tmp_path / "disk")
    for one, other in (("a", "b"), ("b", "a")):  # each leads to the other
        (tmp_path / one).mkdir()
        (tmp_path / one / "on").symlink_to(tmp_path / other)
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "a")
    (tmp_path / "realworld").mkdir()
    (tmp_path / "realworld" / "realworld2016_dataset").symlink_to(tmp_path / "disk")
    data = fetched("realworld", tmp_path)
    assert data.groups.tolist() == [5]


def test_realworld_archives_may_be_unpacked_all_the_way(tmp_path):
    folder = "proband5/data/acc_jumping_csv/"
    write(
        tmp_path / "realworld", {folder + "acc_jumping_forearm.csv": realworld_csv(11)}
    )
    data = fetched("realworld", tmp_path)
    assert (data.groups.tolist(), data.classes[data.y].tolist()) == ([5], ["jumping"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,attr_time,attr_x,attr_y\n1,2,3,4\n", "must have the columns.*attr_z"),
        (b"id,attr_time,attr_x,attr_y,attr_z\n1,2,x,4,5\n", "cannot be read"),
    ],
)
def test_realworld_files_that_do_not_have_the_format(content, message, tmp_path):
    path = "proband5/data/acc_jumping_csv/acc_jumping_forearm.csv"
    write(tmp_path / "realworld", {path: content})
    with pytest.raises(ValueError, match=message) as info:
        fetched("realworld", tmp_path)
    assert path in str(info.value)


# ------------------------------------------------------------------ WISDM
def wisdm_path(person):
    return f"raw/watch/accel/data_{person}_accel_watch.txt"


def test_wisdm_activities_and_subsets(tmp_path):
    codes = "ABCDEFGHIJKLMOPQRS"
    both = b"".join(
        wisdm_lines(code, 1650, 11, begin=10**12 * (i + 1))
        for i, code in enumerate(codes)
    )
    files = {wisdm_path(1650): both, wisdm_path(1616): wisdm_lines("A", 1616)}
    # Other sensors stand beside it.
    files["raw/phone/accel/data_1600_accel_phone.txt"] = b"no"
    files["raw/watch/gyro/data_1600_gyro_watch.txt"] = b"no"
    write(tmp_path / "wisdm", files)
    few, every = (fetched("wisdm", tmp_path, subset=s) for s in ("benchmark", "all"))
    assert few.y.tolist() == list(range(18))
    assert few.classes[[0, 7, 13, 17]].tolist() == [
        "walking",
        "soup",
        "catch",
        "folding",
    ]
    assert set(few.groups.tolist()) == {1650}
    np.testing.assert_allclose(few.start, 1000 * np.arange(18))
    assert set(every.groups.tolist()) == {1616, 1650}


def test_wisdm_lines_in_any_order_and_repeated(tmp_path):
    tidy = wisdm_lines()
    rows = tidy.splitlines(keepends=True)
    mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    write(tmp_path / "a" / "wisdm", {wisdm_path(1600): tidy})
    write(tmp_path / "b" / "wisdm", {wisdm_path(1600): b"".join(mixed + rows[50:90])})
    expected, data = (fetched("wisdm", tmp_path / home) for home in "ab")
    np.testing.assert_array_equal(data.X, expected.X)


def test_wisdm_1649_has_catch_once(tmp_path):
    catch = wisdm_lines("O", 1649, begin=5 * 10**12)
    again = catch.replace(b",O,", b",M,")
    kicking = wisdm_lines("M", 1649, begin=10**12)
    other = kicking.replace(b"1649", b"1648") + again.replace(b"1649", b"1648")
    files = {wisdm_path(1649): kicking + again + catch, wisdm_path(1648): other}
    write(tmp_path / "wisdm", files)
    data = fetched("wisdm", tmp_path)
    names = data.classes[data.y]
    assert (names[data.groups == 1649] == "kicking").sum() == 3
    assert (names[data.groups == 1649] == "catch").sum() == 3
    assert (names[data.groups == 1648] == "kicking").sum() == 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (b"1600,A,904267", "line 241 holds"),
        (b"1600,N,90426708196641,1,2,3;\n", "line 241 holds"),
        (b"1600,A,90426708196641,1,2,x;\n", "cannot be read.*'x'"),
        (b"1600,A,90426708196641,1,2,3,4;\n", "cannot be read"),
        (None, "must have 6 fields a line, got 5"),
    ],
)
def test_wisdm_files_that_do_not_have_the_format(more, message, tmp_path):
    content = wisdm_lines(duration=12) + (more or b"")
    content = content.replace(b"1600,", b"") if more is None else content
    write(tmp_path / "wisdm", {wisdm_path(1600): content})
    with pytest.raises(ValueError, match=message) as info:
        fetched("wisdm", tmp_path)
    assert wisdm_path(1600) in str(info.value)


# ------------------------------------------------------------------ real recordings
@pytest.fixture(scope="module")
def raw_samples(shared_data):
    folder = shared_data("adl_wrist_14class").parent / "raw_samples"
    if not folder.exists():
        pytest.skip(f"pieces of the published files not found in {folder}")
    return folder


def test_real_adl_recordings_give_the_windows_known(raw_samples, shared_data):
    data = fetched("adl", raw_samples, subset="all")
    with np.load(shared_data("adl_wrist_14class")) as stored:
        known = {name: stored[name] for name in stored.files}
    assert len(data.y) == 41
    assert len(set(data.recording.tolist())) == 6
    for recording in set(data.recording.tolist()):
        ours, theirs = data.recording == recording, known["recording"] == recording
        np.testing.assert_allclose(data.X[ours], known["X"][theirs], atol=1e-6)
        np.testing.assert_array_equal(
            data.classes[data.y[ours]], known["classes"][known["y"][theirs]]
        )
        np.testing.assert_array_equal(
            data.group_names[data.groups[ours]],
            known["group_names"][known["groups"][theirs] - 1],
        )


def test_real_wisdm_recordings_give_the_windows_known(raw_samples, shared_data):
    data = fetched("wisdm", raw_samples, step=300)
    with np.load(shared_data("wisdm_watch")) as stored:
        known = {name: stored[name] for name in ("X", "y", "groups", "classes")}
    # Only these two pieces begin where the activity does.
    for person, activity, n_windows in [(1600, "walking", 9), (1605, "jogging", 4)]:
        ours = (data.groups == person) & (data.classes[data.y] == activity)
        theirs = known["groups"] == person
        theirs &= known["classes"][known["y"]] == activity
        expected = known["X"][theirs][:n_windows]
        assert ours.sum() == n_windows
        np.testing.assert_array_equal(data.X[ours].astype(np.float16), expected)


def test_the_real_line_of_pamap2_is_read(raw_samples):
    with pytest.raises(ValueError, match="No window of 10 s"):
        fetched("pamap2", raw_samples)
