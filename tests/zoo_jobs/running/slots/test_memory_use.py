"""A worker that the kernel killed for memory is distinguished from one that was lost otherwise."""

from pathlib import Path

import pytest

from zooforge.zoo_jobs.running.slots.memory_use import GiB, MemoryUse, MemoryWatch, read_memory_use


def use(used: float, kills: int = 0, limit: float = 8) -> MemoryUse:
    return MemoryUse(int(used * GiB), int(limit * GiB), kills)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_cgroup_of_version_2_is_read_without_its_page_cache(tmp_path: Path) -> None:
    write(
        tmp_path,
        memory__max="8589934592\n",
        memory__stat="anon 1073741824\nfile 5368709120\nshmem 1073741824\n",
        memory__events="low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n",
    )
    memory = read_memory_use(tmp_path, tmp_path / "none")
    assert memory == use(2, kills=2)
    assert str(memory) == "2.00 GiB used, a limit of 8.00 GiB"
    (tmp_path / "memory.max").write_text("max\n")
    unlimited = read_memory_use(tmp_path, tmp_path / "none")
    assert unlimited is not None
    assert (unlimited.limit_bytes, unlimited.ratio) == (None, 0.0)


@pytest.mark.parametrize("own", ["", "kubepods/pod1/worker"])
def test_a_cgroup_of_version_1_is_read_at_its_own_path_or_at_the_mount(own: str, tmp_path: Path) -> None:
    write(
        tmp_path / "cgroup" / "memory" / own,
        memory__limit_in_bytes="9223372036854771712\n",
        memory__stat="rss 1\ntotal_rss 1073741824\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    )
    (tmp_path / "self").write_text("3:cpuset:/\n4:memory:/kubepods/pod1/worker\n0::/\n")
    memory = read_memory_use(tmp_path / "cgroup", tmp_path / "self")
    assert memory == MemoryUse(GiB, None, 3)


def test_a_system_without_cgroups_says_nothing(tmp_path: Path) -> None:
    assert read_memory_use(tmp_path, tmp_path / "none") is None


def test_each_kill_that_the_kernel_counts_explains_the_loss_of_one_worker() -> None:
    watch = MemoryWatch()
    for slot in range(3):
        watch.note(slot, "a", use(7.5, kills=4))
    now = use(1, kills=6)
    evidence = [watch.evidence(slot, lambda node: now) for slot in range(3)]
    assert (
        evidence[:2]
        == ["the kernel killed it for memory (exit 137); it was last seen at 7.50 GiB used, a limit of 8.00 GiB"] * 2
    )
    assert evidence[2] is None


def test_a_kill_that_is_counted_later_is_seen_whatever_other_workers_said_meanwhile() -> None:
    watch = MemoryWatch()
    watch.note(0, "a", use(5))
    watch.note(1, "a", use(5))
    watch.note(1, "a", use(3, kills=1))  # slot 0 was killed a moment ago
    assert watch.evidence(0, lambda node: use(3, kills=1)) is not None
    assert watch.evidence(1, lambda node: use(3, kills=1)) is None


@pytest.mark.parametrize(("used", "is_memory"), [(7.3, True), (7.0, False)])
def test_a_node_that_disappears_while_its_memory_is_full_counts_as_out_of_memory(used: float, is_memory: bool) -> None:
    watch = MemoryWatch()
    watch.note(0, "a", use(used))
    evidence_given = watch.evidence(0, lambda node: None)
    assert (evidence_given is not None) == is_memory
    if evidence_given is not None:
        assert evidence_given == "its node was lost at 7.30 GiB used, a limit of 8.00 GiB"


def test_a_worker_that_never_reported_or_was_replaced_is_not_explained() -> None:
    watch = MemoryWatch()
    assert watch.evidence(0, lambda node: use(1, kills=9)) is None
    watch.note(0, "a", use(8))
    watch.forget(0)
    assert watch.evidence(0, lambda node: None) is None
