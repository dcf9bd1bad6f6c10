"""Plain functions inside tasks, and the lock that threads and tasks share."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mrl_db import tasks


def test_a_function_waits_where_its_task_waits():
    async def answer(value):
        await asyncio.sleep(0)
        return value

    def deep(levels):
        return tasks.wait_for(answer(levels)) + (deep(levels - 1) if levels else 0)

    async def main():
        return await asyncio.gather(*(tasks.run(deep, levels) for levels in range(20)))

    assert asyncio.run(main()) == [sum(range(levels + 1)) for levels in range(20)]
    assert not tasks.running()


def test_errors_go_both_ways():
    async def fails():
        raise LookupError

    def catches():
        with pytest.raises(LookupError):
            tasks.wait_for(fails())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(tasks.run(catches))


def test_a_function_sees_the_context_of_its_task():
    name = contextvars.ContextVar("name")

    async def main():
        name.set("here")
        return await tasks.run(name.get)

    assert asyncio.run(main()) == "here"


def test_cancelling_ends_a_function_where_it_waits():
    ended = []

    def waits():
        try:
            tasks.wait_for(asyncio.sleep(60))
        finally:
            ended.append(tasks.wait_for(asyncio.sleep(0, "cleaned up")))

    async def main():
        task = asyncio.create_task(tasks.run(waits))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert ended == ["cleaned up"]


def test_a_cancelled_task_waits_for_what_is_done_aside():
    order = []

    def work():
        time.sleep(0.05)
        order.append("done")

    def function():
        try:
            tasks.aside(work, threads)
        finally:
            order.append("left")

    async def main():
        task = asyncio.create_task(tasks.run(function))
        for _ in range(2):
            await asyncio.sleep(0.01)
            task.cancel()
        await task

    with ThreadPoolExecutor(1) as threads, pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert order == ["done", "left"]


def test_threads_and_tasks_share_a_lock():
    lock, inside, most, total = tasks.Lock(), [0], [0], [0]

    def enter(pause):
        for _ in range(40):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                pause()
                total[0] += 1
                inside[0] -= 1

    async def main():
        await asyncio.gather(
            *(tasks.run(enter, lambda: tasks.wait_for(asyncio.sleep(0))) for _ in range(10))
        )

    threads = [threading.Thread(target=enter, args=(lambda: time.sleep(0.0001),)) for _ in range(4)]
    loops = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(2)]
    for thread in threads + loops:
        thread.start()
    for thread in threads + loops:
        thread.join(60)

    assert (most[0], total[0]) == (1, 40 * (4 + 2 * 10))


def test_the_turn_of_a_cancelled_task_goes_to_the_next():
    lock, got = tasks.Lock(), []

    def hold(release):
        with lock:
            tasks.wait_for(release.wait())

    def take(name):
        with lock:
            got.append(name)

    async def main():
        release = asyncio.Event()
        holder = asyncio.create_task(tasks.run(hold, release))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(tasks.run(take, name)) for name in range(3)]
        await asyncio.sleep(0)
        release.set()
        await holder  # its end has called the first
        waiting[0].cancel()
        await asyncio.wait(waiting, timeout=10)

    asyncio.run(main())
    assert got[-2:] == [1, 2]
