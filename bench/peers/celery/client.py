"""Submits work to the Celery worker, waits for its results and prints one line of JSON.

    python client.py throughput --mode batch --runs 20000
    python client.py throughput --mode single --concurrency 64 --runs 20000
    python client.py latency --rate 10 --seconds 60

A worker on the same PEER_AMQP, PEER_POSTGRES and PEER_QUEUE must run:

    python -m celery -A hello worker --pool prefork --concurrency 2

The client says "ready" once it is connected and begins when it reads a line from its standard input, or
at the end of that. When the JSON is out it waits for standard input to close, so that whoever started
it can read what it used.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from hello import app, hello, hello_stamped

# The end of a run by the result store's clock: Celery's own `date_done` is taken before it stores.
STAMP = "ALTER TABLE celery_taskmeta ADD COLUMN IF NOT EXISTS stored_at timestamptz DEFAULT clock_timestamp()"
DEADLINE_S = 600


def results():
    app.backend.ResultSession().close()  # creates the tables
    store = psycopg.connect(os.environ["PEER_POSTGRES"], autocommit=True)
    store.execute(STAMP)
    store.execute("TRUNCATE celery_taskmeta")
    return store


def wait(store, runs, begun):
    """Until all results are visible; asks more rarely the more an answer costs."""
    while True:
        asked = time.time()
        count, last = store.execute(
            "SELECT count(*), extract(epoch FROM max(stored_at)) FROM celery_taskmeta WHERE status = 'SUCCESS'"
        ).fetchone()
        now = time.time()
        if count == runs:
            return float(last), now
        if count > runs or now > begun + DEADLINE_S:
            raise SystemExit(f"celery: {count} of {runs} results after {now - begun:.0f} s")
        time.sleep(min(0.5, max(0.05, 20 * (now - asked))))


def submit(runs, threads):
    """From so many threads, each with a broker connection of its own, each message confirmed."""
    share, rest = divmod(runs, threads)
    sizes = [share + (at < rest) for at in range(threads)]
    gate = threading.Barrier(threads + 1)

    def send(size):
        with app.producer_pool.acquire(block=True) as producer:
            # Connects and declares now, not on the clock.
            producer.connection.ensure_connection()
            producer.channel  # noqa: B018
            app.amqp.queues[app.conf.task_default_queue](producer.channel).declare()
            gate.wait()
            for _ in range(size):
                hello.apply_async(("Ada",), producer=producer)

    with ThreadPoolExecutor(threads) as pool:
        sent = [pool.submit(send, size) for size in sizes]
        ready()
        begun = time.time()
        gate.wait()
        for one in sent:
            one.result()
        return begun, time.time()


def throughput(args):
    store = results()
    begun, submitted = submit(args.runs, args.producers if args.mode == "batch" else args.concurrency)
    last, seen = wait(store, args.runs, begun)
    return {
        "runs": args.runs,
        "submit_s": submitted - begun,
        "total_s": max(last, submitted) - begun,
        "seen_s": seen - begun,
    }


def latency(args):
    store = results()
    runs = int(args.rate * args.seconds)
    with app.producer_pool.acquire(block=True) as producer:
        app.amqp.queues[app.conf.task_default_queue](producer.channel).declare()
        ready()
        begun = time.time()
        for run in range(runs):
            time.sleep(max(0, begun + run / args.rate - time.time()))
            hello_stamped.apply_async(("Ada", time.time()), producer=producer)
    wait(store, runs, begun)
    started, finished = [], []
    for result, stored in store.execute("SELECT result, extract(epoch FROM stored_at) FROM celery_taskmeta"):
        _, sent, at = app.backend.decode(result)
        started.append(at - sent)
        finished.append(float(stored) - sent)
    return {"started": started, "finished": finished}


def ready():
    print("ready", flush=True)
    sys.stdin.readline()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("throughput", help="submits runs and waits for the last result")
    part.add_argument("--mode", choices=["batch", "single"], default="batch")
    part.add_argument("--runs", type=int, default=20_000)
    part.add_argument("--concurrency", type=int, default=64, help="of single submits [%(default)s]")
    part.add_argument("--producers", type=int, default=8, help="connections of a batch [%(default)s]")
    part = parts.add_parser("latency", help="submits runs evenly and says how long each took")
    part.add_argument("--rate", type=float, default=10, help="runs a second [%(default)s]")
    part.add_argument("--seconds", type=int, default=60)
    part.add_argument("--summary", action="store_true", help="medians only")
    args = parser.parse_args()
    figures = throughput(args) if args.part == "throughput" else latency(args)
    if getattr(args, "summary", False):
        figures = {key: statistics.median(values) for key, values in figures.items()}
    print(json.dumps(figures), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
