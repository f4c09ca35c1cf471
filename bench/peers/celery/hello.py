"""The Celery application that is measured: its settings and its two tasks.

Worker and client both load it. Where things are comes from the environment:
PEER_AMQP (broker), PEER_POSTGRES (result backend), PEER_QUEUE (queue name).
"""

import os
import time

from celery import Celery
from celery.signals import worker_init, worker_process_init, worker_ready
from kombu import Queue

QUEUE = os.environ.get("PEER_QUEUE", "hello")
QUEUE_TYPE = os.environ.get("PEER_QUEUE_TYPE", "quorum")
THREADS = os.environ.get("PEER_POOL", "prefork") == "threads"
CONCURRENCY = int(os.environ.get("PEER_CONCURRENCY", "2"))

app = Celery("hello", broker=os.environ["PEER_AMQP"])
app.conf.update(
    result_backend="db+" + os.environ["PEER_POSTGRES"].replace("postgres://", "postgresql://").replace(
        "postgresql://", "postgresql+psycopg://", 1
    ),
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    # Durable from end to end: confirmed publishes to a quorum queue, acknowledged after the result is stored.
    task_default_queue=QUEUE,
    task_default_queue_type=QUEUE_TYPE,
    task_queues=[Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": QUEUE_TYPE})],
    task_default_exchange=QUEUE,
    task_default_routing_key=QUEUE,
    broker_transport_options={"confirm_publish": os.environ.get("PEER_CONFIRM", "1") == "1"},
    worker_detect_quorum_queues=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=False,
    # What costs time and is not needed.
    task_track_started=False,
    task_send_sent_event=False,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
    worker_disable_rate_limits=True,
    task_compression=None,
    broker_heartbeat=0,
    broker_connection_retry_on_startup=True,
    broker_pool_limit=int(os.environ.get("PEER_PRODUCERS", "64")),
    # One backend a process rather than one a thread: each looks at the tables over new connections first.
    result_backend_thread_safe=True,
    # Connections to the result backend are kept, and not asked for their health before each use.
    database_short_lived_sessions=False,
    database_engine_options={
        "pool_size": CONCURRENCY if THREADS else 2,
        "max_overflow": 4,
        "pool_pre_ping": False,
    },
)


def render(name):
    return f"Hello, {name}! How can I help you today?"


@app.task(name="hello")
def hello(name):
    return render(name)


@app.task(name="hello_stamped")
def hello_stamped(name, sent):
    """The same, with the times that only the task and its submitter know."""
    started = time.time()
    return [render(name), sent, started]


@worker_init.connect
def keep_connections(**_):
    # Celery opens a connection for every result unless its process was forked, which the threads pool's is
    # not. Say that it was: the engine then keeps a pool, which SQLAlchemy shares safely between threads.
    if THREADS:
        app.backend.session_manager.forked = True
        app.backend.ResultSession().close()


@worker_process_init.connect
def connect_early(**_):
    # Not on the clock of the first task.
    app.backend.ResultSession().close()


@worker_ready.connect
def say_ready(**_):
    print("ready", flush=True)
