from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from servekit import logs
logs.configure({level!r})
structlog.get_logger("a").info("of ours", path="\\udcff", huge=1 << 70, what=object)
logging.getLogger("uvicorn.access").info("each request")
logging.getLogger("some.library").warning("of a %s", "library")
try:
    secret = "a request's body"
    1 / 0
except ZeroDivisionError:
    logging.getLogger("some.library").exception("failed")
"""


def lines(level):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(level=level)], check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_every_logger_writes_lines_of_json_and_a_trace_without_its_variables():
    ours, library, failed = lines("info")
    assert (ours["event"], ours["level"], ours["huge"]) == ("of ours", "info", 1 << 70)
    assert (library["event"], library["level"], library["logger"]) == ("of a library", "warning", "some.library")
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert "a request's body" not in json.dumps(failed)


@pytest.mark.parametrize(("level", "count"), [("warning", 2), ("error", 1)])
def test_what_is_less_severe_than_the_level_is_left_out(level, count):
    assert len(lines(level)) == count
