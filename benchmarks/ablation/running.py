"""Runs tasks, several at a time; each begins only after the tasks that it needs."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ablation.tasks import Task


def run_tasks(tasks: Sequence[Task], num_workers: int) -> list[Path]:
    """Runs the missing tasks, reports how each ended, and continues after failures.

    Args:
      tasks: none needs a later one; those of one folder run one after the other.
      num_workers: commands at a time, each on its own share of the processors.

    Returns:
      The folders of tasks that failed, or that were skipped because a task they need had failed.
    """
    queue = _Queue(tasks)
    processors = _list_processors()
    workers = [
        threading.Thread(target=_work, args=(queue, processors[number::num_workers]), daemon=True)
        for number in range(num_workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return queue.failed


def count_processors() -> int:
    """Number of processors that this process may use."""
    return len(_list_processors())


def run_task(task: Task) -> tuple[bool, float]:
    """Runs a task with its output in log.txt; returns whether it succeeded, and its seconds."""
    started = time.monotonic()
    task.place.mkdir(parents=True, exist_ok=True)
    with (task.place / "log.txt").open("a") as log:
        log.write(f"+ {' '.join(task.command)}\n")
        log.flush()
        code = subprocess.run([sys.executable, *task.command], stdout=log, stderr=log).returncode
    return code == 0, time.monotonic() - started


class _Queue:
    """Queue of the remaining tasks; its methods may be called by any thread."""

    def __init__(self, tasks: Sequence[Task]):
        self._numbered = {task: number for number, task in enumerate(tasks, 1)}
        self._waiting = [task for task in tasks if not task.done.exists()]
        self._running: list[Task] = []
        self._changed = threading.Condition()
        self.failed: list[Path] = []

    def take(self) -> Task | None:
        """Waits for and returns the first task that may begin; None if none is left."""
        with self._changed:
            while True:
                self._leave_out()
                for task in self._waiting:
                    if self._may_begin(task):
                        self._waiting.remove(task)
                        self._running.append(task)
                        return task
                if not self._waiting:
                    return None
                self._changed.wait()

    def end(self, task: Task, ok: bool, seconds: float) -> None:
        """Marks a task that was taken as ended."""
        with self._changed:
            self._running.remove(task)
            self._log(task, f"{seconds:.0f} s{'' if ok else ' FAILED'}", ok)
            self._changed.notify_all()

    def _may_begin(self, task: Task) -> bool:
        before = self._running + self._waiting[: self._waiting.index(task)]
        return not {other.place for other in before} & {task.place, *task.needs}

    def _leave_out(self) -> None:
        for task in list(self._waiting):
            if lost := {task.place, *task.needs} & set(self.failed):
                self._waiting.remove(task)
                self._log(task, f"left out for {lost.pop()}", ok=False)

    def _log(self, task: Task, what: str, ok: bool) -> None:
        self.failed += [] if ok else [task.place]
        print(f"{self._numbered[task]}/{len(self._numbered)} {task.title}: {what}", flush=True)


def _work(queue: _Queue, processors: Sequence[int]) -> None:
    if hasattr(os, "sched_setaffinity"):  # Linux: for this thread and the processes it starts
        os.sched_setaffinity(0, processors)
    while task := queue.take():
        ok, seconds = False, 0.0
        try:
            ok, seconds = run_task(task)
        finally:  # other workers must not wait for the task of a crashed worker
            queue.end(task, ok, seconds)


def _list_processors() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
