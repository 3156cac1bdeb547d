"""``python -m tests.benchmarks.postgres_host SYSTEM URL NAME CONCURRENCY``: one host of a system on PostgreSQL.

It prints "ready", and "held" when it starts a body that is to be held; it ends when its input does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from tests.benchmarks.postgres_bodies import Task, handle


def said(text: str) -> None:
    print(text, flush=True)


async def until_stopped() -> None:
    """Return when there is no more input."""
    said("ready")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def agentq(url: str, name: str, concurrency: int) -> None:
    """Actors with one handler, which takes their messages one by one; they are as many as the sender addresses."""
    from agentq_nb import Actor, Queue, setup

    class Runner(Actor):
        tasks = Queue(Task, reply=str, max_size=10_000_000)

        @tasks.handler
        async def work(self, body: Task) -> str:
            return await handle(body, said)

    async with setup(use={"runner": Runner}, store=url):
        await until_stopped()


async def procrastinate(url: str, name: str, concurrency: int) -> None:
    """The asynchronous worker, which is notified of new jobs; what a dead one ran is retried as its documentation says."""
    from procrastinate import App, JobContext, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, max_size=10))

    @app.task(name="handle", queue="tasks")
    async def work(**body: Any) -> str:
        return await handle(Task(**body), said)

    @app.periodic(cron="* * * * * */5")  # as often as it looks for work itself
    @app.task(queueing_lock="stalled", pass_context=True, queue="tasks")
    async def retry_stalled(context: JobContext, timestamp: int) -> None:
        for job in await app.job_manager.get_stalled_jobs():
            await app.job_manager.retry_job(job)

    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(queues=["tasks"], concurrency=concurrency, install_signal_handlers=False)
        )
        await until_stopped()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


async def dbos(url: str, name: str, concurrency: int) -> None:
    """Asynchronous workflows from one queue, looked for every 10 ms instead of every second."""
    from dbos import DBOS

    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": url,
            "executor_id": name,
            "application_version": "1",
            "log_level": "ERROR",
        }
    )

    @DBOS.workflow(name="handle")
    async def work(prompt: str, wait: float, hold: bool) -> str:
        return await handle(Task(prompt=prompt, wait=wait, hold=hold), said)

    DBOS.listen_queues(["tasks"])
    DBOS.launch()
    await DBOS.register_queue_async("tasks", worker_concurrency=concurrency, polling_interval_sec=0.01)
    await until_stopped()
    DBOS.destroy()


SYSTEMS: dict[str, Callable[[str, str, int], Coroutine[Any, Any, None]]] = {
    "agentq": agentq,
    "procrastinate": procrastinate,
    "DBOS": dbos,
}


if __name__ == "__main__":
    asyncio.run(SYSTEMS[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4])))
