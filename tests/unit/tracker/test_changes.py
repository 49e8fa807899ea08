"""The numbers of changes: what is told after a cursor, and when there is a gap."""

from deployments.tracker.changes import ChangeLog


def test_each_changed_job_is_told_once_in_the_order_of_its_newest_change():
    log = ChangeLog()
    cursor = log.since(None).cursor
    for job_id in ("a", "b", "a", "c"):
        log.note(job_id)

    changes = log.since(cursor)
    assert (changes.job_ids, changes.is_gap) == (["b", "a", "c"], False)
    assert not log.since(changes.cursor).is_news


def test_only_what_came_after_the_cursor_is_told():
    log = ChangeLog()
    log.note("a")
    cursor = log.since(None).cursor
    log.note("b")

    assert log.since(cursor).job_ids == ["b"]
    assert log.since(cursor).job_ids == ["b"]  # asking again is harmless


def test_whoever_comes_without_a_cursor_has_a_gap():
    assert ChangeLog().since(None).is_gap


def test_another_life_is_a_gap():
    first, second = ChangeLog(), ChangeLog()
    second.note("a")
    assert second.since(first.since(None).cursor).is_gap


def test_a_cursor_from_before_what_is_remembered_is_a_gap():
    log = ChangeLog(most_jobs=2)
    cursor = log.since(None).cursor
    for job_id in ("a", "b"):
        log.note(job_id)
    assert log.since(cursor).job_ids == ["a", "b"]

    log.note("c")
    assert log.since(cursor).is_gap


def test_a_job_that_changes_often_displaces_no_others():
    log = ChangeLog(most_jobs=2)
    cursor = log.since(None).cursor
    log.note("a")
    for _ in range(100):
        log.note("b")
    assert log.since(cursor).job_ids == ["a", "b"]
