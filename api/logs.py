"""One structlog pipeline for all records, the libraries' too: columns on a terminal, JSON lines otherwise."""

import logging
import logging.config
import sys
from typing import Any

import msgspec
import structlog

SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def as_json(record: Any, **_: Any) -> str:
    return msgspec.json.encode(record, enc_hook=repr).decode()


def configure_logs(level: str) -> None:
    """Everything to standard error; standard output belongs to what a command prints."""
    terminal = sys.stderr.isatty()
    # Both would show the local variables of a traceback's frames: names, letters, tokens.
    plain, bare = structlog.dev.plain_traceback, structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    last: list[Any] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=plain)]
        if terminal
        else [structlog.processors.ExceptionRenderer(bare), structlog.processors.JSONRenderer(serializer=as_json)]
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*SHARED, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*SHARED, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name, least in (
        ("transitions", logging.WARNING),
        ("uvicorn.access", logging.CRITICAL),
        ("asyncio", logging.WARNING),
        ("alembic", logging.WARNING),
        ("mail.log", logging.CRITICAL),  # aiosmtpd's, of all that is said, addresses too
    ):
        logging.getLogger(name).setLevel(max(least, threshold))
