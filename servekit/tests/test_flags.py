from __future__ import annotations

import subprocess
import sys

import pytest

from servekit import flags
from servekit.flags import ServerOptions


@pytest.fixture
def parser():
    return flags.parser("program", "what it does", 8080, 8081)


def test_without_flags_the_options_are_the_defaults(parser):
    assert ServerOptions.from_arguments(parser.parse_args([])) == ServerOptions()


def test_each_flag_sets_its_option(parser):
    arguments = [
        "--host=::1",
        "--http_port=1",
        "--grpc_port=65535",
        "--max_body_bytes=10",
        "--max_connection_age=9",
        "--drain_delay=0.5",
        "--grace_period=7",
        "--log_level=debug",
    ]
    expected = ServerOptions("::1", 1, 65535, 10, 9.0, 0.5, 7.0, "debug")
    assert ServerOptions.from_arguments(parser.parse_args(arguments)) == expected


@pytest.mark.parametrize(
    "argument",
    [
        "--http_port=0",
        "--http_port=65536",
        "--grpc_port=http",
        "--max_body_bytes=0",
        "--max_body_bytes=1.5",
        "--drain_delay=-1",
        "--drain_delay=nan",
        "--grace_period=inf",
        "--grace_period=soon",
        "--workers=0",
        "--log_level=loud",
        "--http",
    ],
)
def test_a_wrong_flag_ends_with_a_line_that_names_it_and_nothing_of_the_code(parser, argument, capsys):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([argument])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert argument.partition("=")[0] in last
    assert "_port value" not in last
    assert "invalid _" not in last


def test_the_flags_are_read_without_the_sdk():
    code = "import sys, servekit.flags; sys.exit('kserve' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
