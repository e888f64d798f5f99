"""A short simulated month with the real driver, account, commits and supervisor on a fake clock."""

from tests.chaos.month import BEGIN, DAY, HOUR, Faults, faults_of, simulate
from zooforge.storage.keys import parts_prefix
from zooforge.zoo_jobs.catalogue import entries

ZOOS = [(entries.load("mnist-cnn-s-hyp-fixed"), "0:256", 40), (entries.load("cifar10-resnet18-seed"), "0:64", 20)]


def test_two_runs_survive_every_loss_with_all_parts_done_once_and_an_exact_account() -> None:
    world, wrong = simulate(ZOOS, 1.5, Faults(head=6 * HOUR, away_every=DAY))
    counts = world.counts
    assert wrong == []
    records = [stat for zoo, _, _ in ZOOS for stat in world.store.list(parts_prefix(zoo.run_id))]
    assert counts.parts == len(records) > 700
    assert counts.workers_lost > 100
    assert counts.heads_lost >= 3
    assert counts.stores_away >= 1
    assert counts.lives > counts.heads_lost
    assert world.clock.now - BEGIN > DAY


def test_missing_parts_and_a_wrong_account_are_reported() -> None:
    zoos = [(ZOOS[0][0], "0:64", 2)]
    world, wrong = simulate(zoos, 0.05, Faults(away_every=30 * DAY))
    assert wrong == []
    record = next(iter(world.store.list(parts_prefix(zoos[0][0].run_id)))).key
    data, _ = world.store.get(record)
    world.store.delete(record)
    assert any("are missing" in fault for fault in faults_of(world, zoos))
    world.store.put(record, data)
    world.counts.pod_seconds += 60
    assert any("pod_seconds" in fault for fault in faults_of(world, zoos))
