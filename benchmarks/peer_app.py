"""The peer: a bare FastAPI app that only calls send_task, as tutorials write it; it keeps nothing."""

import os
from typing import Any

from celery import Celery
from fastapi import FastAPI

queue = Celery("peer", broker=os.environ["PEER_BROKER"])
queue.conf.task_ignore_result = True
app = FastAPI()


@app.post("/jobs", status_code=202)
def create(spec: dict[str, Any]) -> dict[str, str]:
    """Send the whole spec to the broker."""
    return {"id": queue.send_task("compress", args=[spec], queue="peer").id}
