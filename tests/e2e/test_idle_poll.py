# SPDX-License-Identifier: Apache-2.0
"""Idle CPUs poll during bursts of requests, in guests of few CPUs, and halt after them."""

import itertools
import os
import pathlib

import pytest

from conftest import GOLDEN
from test_mount_life import statistics, wait_for

SPLIT = GOLDEN / "files" / "split.mpxar"
DRIVER = pathlib.Path("/sys/devices/system/cpu/cpuidle/current_driver")
CPUS_MAX = 8
BATCH = 1000


def is_of_use():
    return (DRIVER.exists() and DRIVER.read_text() == "haltpoll\n" and os.cpu_count() <= CPUS_MAX
            and os.path.exists("/dev/cpu_dma_latency"))


def ask(mount, names):
    """Requests in quick succession: of names that are not there, each a new one."""
    for i in itertools.islice(names, BATCH):
        assert not os.path.lexists(mount.path / f"none{i}")


@pytest.mark.skipif(not is_of_use(), reason="CPUs of this machine do not halt, or are many")
def test_polls_during_bursts_only(pxarfs):
    names = itertools.count()
    with pxarfs.mount(SPLIT) as mount:
        assert statistics(mount)["idle_polls"] == 0

        def had_a_burst():
            ask(mount, names)
            return statistics(mount)["idle_polls"] > 0

        wait_for(had_a_burst)
        # what is counted as time has ended
        wait_for(lambda: statistics(mount)["idle_poll_us"] > 0)


def test_can_be_switched_off(pxarfs):
    with pxarfs.mount(SPLIT, options="noidle_poll") as mount:
        ask(mount, itertools.count())
        numbers = statistics(mount)
    assert numbers["idle_polls"] == numbers["idle_poll_us"] == 0
    assert numbers["lookup"] >= BATCH
