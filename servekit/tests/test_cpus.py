from __future__ import annotations

import os

import pytest

from servekit.cpus import available_cpus


@pytest.fixture
def many_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [("200000 100000", 2), ("150000 100000\n", 2), ("1000 100000", 1), ("max 100000", 64), ("9900000 100000", 64)],
)
def test_the_quota_of_a_v2_cgroup_bounds_the_cpus(tmp_path, many_cores, cpu_max, cpus):
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("200000", 2), ("250000\n", 3), ("-1", 64), ("50000", 1)])
def test_the_quota_of_a_v1_cgroup_bounds_the_cpus(tmp_path, many_cores, quota, cpus):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize("cpu_max", ["", "nonsense", "1 0", "1 2 3"])
def test_without_a_readable_quota_the_affinity_counts(tmp_path, many_cores, cpu_max):
    assert available_cpus(tmp_path) == 64
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert available_cpus(tmp_path) == 64


def test_this_process_has_a_cpu():
    assert 1 <= available_cpus() <= os.cpu_count()
