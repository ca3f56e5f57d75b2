"""What is said while bytes arrive."""

import io
import json

from weights_sync.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_log_gets_a_json_line_every_few_seconds():
    stream, clock = io.StringIO(), Clock()
    progress = Progress("https://host/net.onnx", stream=stream, clock=clock)
    for second in range(12):
        clock.now = float(second)
        progress.at(second * 1000, 20_000)
    progress.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["bytes"] for line in lines] == [5000, 10000]
    assert lines[1] == {
        "event": "progress",
        "bytes": 10000,
        "total_bytes": 20_000,
        "bytes_per_s": 1000,
        "source": "https://host/net.onnx",
    }


def test_a_terminal_gets_a_bar_that_goes_away():
    stream, clock = Terminal(), Clock()
    progress = Progress("https://host/net.onnx", stream=stream, clock=clock)
    for second, total in ((0, 4_000_000), (1, 4_000_000), (2, None)):
        clock.now = float(second)
        progress.at(second * 1_000_000, total)
    assert " 25 %  4.0 MB  1.0 MB/s" in stream.getvalue()
    assert "\r2.0 MB  1.0 MB/s" in stream.getvalue()
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_the_rate_starts_anew_with_the_file():
    stream, clock = io.StringIO(), Clock()
    progress = Progress("x", stream=stream, clock=clock)
    for now, done in ((0.0, 9000), (1.0, 0), (11.0, 1000)):
        clock.now = now
        progress.at(done, None)
    assert json.loads(stream.getvalue())["bytes_per_s"] == 100
