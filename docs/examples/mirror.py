"""Keeps a copy of a Casework desk's log in a SQLite file, and the state of every case beside it.

    CASEWORK_TOKEN=cw_… python mirror.py https://desk.example.com mirror.db

It may be killed at any moment and started again: what a page of the feed holds and how far the feed has been read are
one transaction, so that nothing is lost and nothing is there twice. What is not what it should be is not taken in.
`--once` ends when there is nothing more. It needs Python 3.11 and httpx2.
"""

import argparse
import hashlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterable
from typing import Any

import httpx2

SCHEMA = """
    CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY, chain TEXT, seq INTEGER, type TEXT, at TEXT, hash TEXT, body TEXT,
        UNIQUE (chain, seq)
    );
    CREATE TABLE IF NOT EXISTS cases (id TEXT PRIMARY KEY, number INTEGER, state TEXT, version INTEGER);
"""
ZEROS = "0" * 64
PAUSES = (0.5, 1, 2, 5, 10, 30)  # seconds, while the desk is away


class NotAsItShouldBe(Exception):
    """The feed has a gap, a chain is broken, or the desk's log is not the one that was mirrored before."""


class Mirror:
    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA synchronous = FULL")  # what was committed survives a power cut
        self.connection.executescript(SCHEMA)

    @property
    def position(self) -> int:
        """Of the last event that is here."""
        (position,) = self.connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
        return int(position)

    def take(self, items: Iterable[dict[str, Any]]) -> None:
        """A page of the feed: all of it or nothing. Raises NotAsItShouldBe."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for item in items:
                self.add(item["position"], item["event"]["hash"], item["event"]["body"])
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def add(self, position: int, digest: str, body: str) -> None:
        """The body is what was hashed; everything else follows from it."""
        event = json.loads(body)
        chain, seq = event["chain"], event["seq"]
        if position != self.position + 1:
            raise NotAsItShouldBe(f"position {self.position + 1} is missing: {position} came instead")
        if hashlib.sha256(b"\x00" + body.encode()).hexdigest() != digest:
            raise NotAsItShouldBe(f"the hash of the event at position {position} is not that of its body")
        before = self.connection.execute(
            "SELECT hash FROM events WHERE chain = ? AND seq = ?", (chain, seq - 1)
        ).fetchone()
        if event["prev"] != (before[0] if before else ZEROS) or (before is None) != (seq == 1):
            raise NotAsItShouldBe(f"{chain} event {seq} does not follow the one before it")
        self.connection.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (position, chain, seq, event["type"], event["at"], digest, body),
        )
        if chain.startswith("case:"):
            self.move_case(chain.removeprefix("case:"), event)

    def move_case(self, case_id: str, event: dict[str, Any]) -> None:
        if event["seq"] == 1:
            number = event["data"]["number"]
            self.connection.execute("INSERT INTO cases VALUES (?, ?, '', 0)", (case_id, number))
        self.connection.execute(
            "UPDATE cases SET state = ?, version = ? WHERE id = ?", (event["state_after"], event["seq"], case_id)
        )

    def check_same_log(self, items: list[dict[str, Any]]) -> None:
        """Given what the desk has at our last position. A desk that was restored from a backup may lack it."""
        last = self.connection.execute("SELECT hash FROM events WHERE position = ?", (self.position,)).fetchone()
        if last is not None and [one["event"]["hash"] for one in items] != [last[0]]:
            raise NotAsItShouldBe(f"the desk's log has another event at position {self.position}, or none")


class Feed:
    def __init__(self, url: str, token: str) -> None:
        self.client = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=30)

    def after(self, position: int, *, limit: int, wait: int = 0) -> list[dict[str, Any]]:
        """The events that follow a position, however often one has to ask."""
        tried = 0
        while True:
            try:
                response = self.client.get("/v1/events", params={"after": position, "limit": limit, "wait": wait})
                if response.status_code not in {429, 502, 503, 504}:
                    break
            except httpx2.TransportError as away:
                sys.stderr.write(f"the desk is away: {away}\n")
            time.sleep(PAUSES[min(tried, len(PAUSES) - 1)])
            tried += 1
        response.raise_for_status()  # a token that is no good any more is for a person to see to
        items: list[dict[str, Any]] = response.json()["items"]
        return items


def main() -> None:
    parser = argparse.ArgumentParser(description="Mirrors a Casework desk; the token is in CASEWORK_TOKEN.")
    parser.add_argument("url", help="of the desk")
    parser.add_argument("file", help="the SQLite file that holds the mirror")
    parser.add_argument("--once", action="store_true", help="end when there is nothing more")
    parser.add_argument("--limit", type=int, default=500, help="events in one transaction, at most 1000")
    given = parser.parse_args()
    mirror, feed = Mirror(given.file), Feed(given.url, os.environ["CASEWORK_TOKEN"])
    if mirror.position:
        mirror.check_same_log(feed.after(mirror.position - 1, limit=1))
    while True:
        items = feed.after(mirror.position, limit=given.limit, wait=0 if given.once else 10)
        if given.once and not items:
            return
        mirror.take(items)


if __name__ == "__main__":
    main()
