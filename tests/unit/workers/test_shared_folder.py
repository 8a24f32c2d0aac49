"""The folder of the workers: what is refused, private, swept and kept."""

import errno
import fcntl
import os
import shutil
import stat

import pytest

from otel_coach.metrics.cardinality import Budgets
from otel_coach.settings import Settings, effective
from otel_coach.setup.serving import Serving
from otel_coach.workers.append_log import SharedLog
from otel_coach.workers.membership import Membership
from otel_coach.workers.run_dir import RunDir
from otel_coach.workers.shared_dir import SharedDirError, base_folder
from otel_coach.workers.supervisor import Supervisor, bequeathed_secrets, supervisor
from tests.support.neighbours import AS_ROOT, NEIGHBOUR, mode

# What is refused


@AS_ROOT
def test_a_folder_below_one_that_another_user_owns_is_refused(place):
    (place / "his" / "mine").mkdir(parents=True, mode=0o700)
    os.chown(place / "his", NEIGHBOUR, NEIGHBOUR)
    with pytest.raises(SharedDirError, match=f"his belongs to user {NEIGHBOUR}"):
        base_folder(str(place / "his" / "mine"), None)
    # Neither is a link of his followed, not even to a place where nobody could do harm.
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    (place / "safe").mkdir(mode=0o700)
    (place / "tmp" / "link").symlink_to(place / "safe")
    assert base_folder(str(place / "tmp" / "link" / "a"), None) == place / "safe" / "a"
    os.chown(place / "tmp" / "link", NEIGHBOUR, NEIGHBOUR, follow_symlinks=False)
    with pytest.raises(SharedDirError, match="link belongs to user"):
        base_folder(str(place / "tmp" / "link" / "b"), None)
    assert not (place / "safe" / "b").exists()


@pytest.mark.parametrize("bits", [0o770, 0o707, 0o777])
def test_a_folder_below_one_where_others_can_write_is_refused_and_not_made(tmp_path, bits):
    open_to_others = tmp_path / "open"
    open_to_others.mkdir()
    open_to_others.chmod(bits)
    with pytest.raises(SharedDirError, match=r"others can write in .*open.*chmod"):
        base_folder(str(open_to_others / "a" / "b"), None)
    assert not list(open_to_others.iterdir())
    open_to_others.chmod(bits | stat.S_ISVTX)
    assert base_folder(str(open_to_others / "a" / "b"), None).is_dir()
    with pytest.raises(SharedDirError, match="others"):  # the folder itself, by a way round
        base_folder(str(open_to_others / "a" / ".."), None)


def test_links_of_ones_own_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    found = base_folder(str(tmp_path / "link" / "." / "x" / ".." / "a"), None)
    assert found == tmp_path / "real" / "a"
    with pytest.raises(SharedDirError, match="cannot be made"):
        base_folder(str(tmp_path / "round" / "a"), None)


def test_an_unsafe_choice_is_one_line_with_its_cure(tmp_path, caplog):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    given = str(tmp_path / "open" / "shared")
    me = supervisor(os.getpid())
    assert Membership.join(lambda: base_folder(given, None), me, None, None) is None
    (line,) = (record.getMessage() for record in caplog.records)
    assert f"others can write in {tmp_path / 'open'}" in line
    assert "chmod go-w or +t" in line
    assert "Set OTEL_COACH_SHARED_DIR" in line


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277, 0o777])
def test_what_is_made_is_private_and_usable_under_any_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        base = base_folder(str(tmp_path / "a" / "b" / "c"), None)
        folder = RunDir(base, supervisor(os.getpid()))
        folder.write(folder.snapshot(folder.me), b"figures")
        folder.take_task("port")
        SharedLog(folder.file("budgets.log"))
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(made) == 8
    assert {mode(path) for path in made if path.is_dir()} == {0o700}
    assert {mode(path) for path in made if path.is_file()} == {0o600}
    folder.withdraw()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path):
    folder = RunDir(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("not yours")
    for name in ("port.task", "budgets.log", f"x.{folder.me}.new"):
        folder.file(name).symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        folder.take_task("port")
    with pytest.raises(OSError, match="symbolic links"):
        SharedLog(folder.file("budgets.log"))
    folder.write(folder.file("x"), b"figures")
    assert folder.file("x").read_bytes() == b"figures"
    assert elsewhere.read_text() == "not yours"
    folder.withdraw()


# Names that a neighbour took


@AS_ROOT
def test_what_is_left_in_a_spare_folder_is_swept_by_the_next_that_needs_one(temporary):
    spare = temporary[0] / f"otel-coach-{os.getuid()}-old"
    crashed = spare / Supervisor(2**22 + 1, "1").key
    crashed.mkdir(parents=True, mode=0o700)
    spare.chmod(0o700)
    os.utime(spare, (1, 1))
    mine = temporary[0] / f"otel-coach-{os.getuid()}-new"
    mine.mkdir(mode=0o700)
    me = supervisor(os.getpid())
    folder = RunDir(mine, me)
    assert not crashed.exists()
    folder.withdraw()
    folder.remove()
    assert not mine.exists()  # it was for this run alone


def test_a_supervisor_removes_the_spare_folder_of_its_workers(temporary, measured):
    me = supervisor(os.getpid())
    for folder in temporary:
        (folder / f"otel-coach-{os.getuid()}").write_text("taken")
    for secret in bequeathed_secrets():
        folder = RunDir(base_folder(None, None, me.key, secret), me)
        folder.release()
        assert folder.path.exists()
        installed = measured.installation
        providers, settings = installed.providers, effective(Settings(), {})
        Serving(
            installed.local_metrics,
            installed.page,
            installed.renders,
            providers.recorder,
            settings,
        ).end()
        assert not folder.path.parent.exists()


# What stays behind


def test_what_a_killed_worker_had_not_finished_goes_with_it(tmp_path):
    folder = RunDir(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    theirs = ("7-dead.lock", "7-dead.snapshot", "7-dead.snapshot.7-dead.new", "dead.7-dead.new")
    others = ("77-dead.snapshot", "7-deader.lock", "dead")
    for name in theirs + others:
        folder.file(name).write_text("")
    folder.forget("7-dead")
    assert {path.name for path in folder.path.iterdir()} == {f"{folder.me}.lock", *others}
    folder.withdraw()


def test_who_was_killed_before_its_lock_had_its_name_is_dead_too(tmp_path):
    folder = RunDir(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    dead = f"{2**22 + 1}-dead"
    for name in (f"{dead}.new", f"{os.getppid()}-beginning.new", f"dead.{dead}.new", "x.new"):
        folder.file(name).write_text("")
    assert dict(folder.workers()) == {folder.me: True, dead: False}
    folder.forget(dead)
    assert dict(folder.workers()) == {folder.me: True}
    assert not [path for path in folder.path.iterdir() if dead in path.name]
    folder.withdraw()


def test_the_log_of_budgets_is_as_long_after_five_hundred_workers_as_after_the_first(tmp_path):
    path, sizes = tmp_path / "budgets.log", []
    values = [f"model-{number}" for number in range(50)]
    for worker in range(500):
        budgets = Budgets({"model": 20})
        budgets.bounded("model", values[worker % 50])  # before it shares
        budgets.share(SharedLog(path))
        for value in values[worker % 7 :] + values:
            budgets.bounded("model", value)
            budgets.together("x", ("model",), (budgets.bounded("model", value),))
        sizes.append(path.stat().st_size)
    assert sizes[-1] == sizes[0]
    assert 0 < sizes[0] < 4000
    assert len(path.read_bytes().split()) < 1000


def test_a_log_with_a_hole_is_read_on_behind_it(tmp_path, monkeypatch):
    """As a disk leaves it that lost power."""
    monkeypatch.setattr("otel_coach.workers.append_log._MAX_AT_ONCE", 1000)
    path = tmp_path / "budgets.log"
    path.write_bytes(b"one\n" + bytes(5000))
    log = SharedLog(path)
    log.append(b"two")
    assert [line.strip(b"\x00") for line in log.new_lines()][-1] == b"two"
    path.write_bytes(path.read_bytes() + b"unfin")
    assert log.new_lines() == []
    log.append(b"three")
    assert log.new_lines() == [b"unfin", b"three"]


def test_a_folder_that_is_removed_meanwhile_is_an_error_and_no_other_folder(tmp_path):
    folder = RunDir(base_folder(str(tmp_path / "shared"), None), supervisor(os.getpid()))
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    with pytest.raises(FileNotFoundError):
        folder.write(folder.snapshot(folder.me), b"figures")
    assert not list(folder.path.iterdir())
    folder.release()


def test_a_run_dir_without_file_locks_is_refused(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    run = Supervisor(99999, "FriNov280345032025")
    base = base_folder(str(tmp_path / "shared"), None)
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    with pytest.raises(SharedDirError, match="without file locks"):
        RunDir(base, run)
    assert not [path for path in base.rglob("*") if path.is_file()]


def test_what_else_is_in_the_folder_stays(tmp_path):
    names = ["2023", "2024-photos", "1-2-3", "1-x-holidays"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("mine")
    old = tmp_path / "1-2-0123abcd"  # as a run of another machine's is called
    old.mkdir()
    for name in (*names, old.name):
        os.utime(tmp_path / name, (0, 0))
    tmp_path.chmod(0o700)
    RunDir(tmp_path, supervisor(os.getpid())).release()
    assert not old.exists()
    assert [(tmp_path / name / "a.txt").read_text() for name in names] == ["mine"] * 4
