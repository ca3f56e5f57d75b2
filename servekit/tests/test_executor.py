from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from servekit.errors import Overloaded, Unavailable
from servekit.executor import BoundedExecutor


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def executor():
    made = BoundedExecutor("test", 1, 2)
    yield made
    made.close()


async def test_a_job_gives_its_value_and_its_times(executor):
    completed = await executor.run(divmod, 7, 2)
    assert completed.value == (3, 1)
    assert completed.queued_ns >= 0
    assert completed.ran_ns > 0
    assert executor.waiting == 0


async def test_a_job_that_raises_raises_for_its_caller_and_leaves_room(executor):
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await executor.run(divmod, 1, 0)
    assert executor.waiting == 0


async def test_a_job_beyond_those_that_may_wait_is_refused_at_once(executor, gate):
    accepted = [asyncio.create_task(executor.run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    assert executor.waiting == 2
    with pytest.raises(Overloaded, match="2 requests are waiting already"):
        await executor.run(gate.wait)
    gate.set()
    assert [completed.value for completed in await asyncio.gather(*accepted)] == [True] * 3


async def test_jobs_that_run_at_once_need_no_room_to_wait(gate):
    executor = BoundedExecutor("test", 2, 0)
    running = [asyncio.create_task(executor.run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await executor.run(gate.wait)
    gate.set()
    await asyncio.gather(*running)
    executor.close()


async def test_a_caller_that_leaves_the_queue_makes_room_for_another(executor, gate):
    ran = []
    tasks = [asyncio.create_task(executor.run(gate.wait))]
    tasks += [asyncio.create_task(executor.run(ran.append, number)) for number in range(2)]
    await asyncio.sleep(0)
    for task in tasks[1:]:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert executor.waiting == 0
    gate.set()
    await executor.run(ran.append, 2)
    assert ran == [2]


async def test_a_caller_that_leaves_a_running_job_leaves_its_thread_taken_until_it_ends(executor, gate):
    begun = threading.Event()

    def job():
        begun.set()
        gate.wait()

    task = asyncio.create_task(executor.run(job))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    others = [asyncio.create_task(executor.run(int)) for _ in range(2)]
    await asyncio.sleep(0)
    assert executor.waiting == 2
    gate.set()
    await asyncio.gather(*others)


async def test_a_closed_executor_says_that_the_server_stops(executor):
    executor.close()
    with pytest.raises(Unavailable):
        await executor.run(int)
    assert executor.waiting == 0
