import subprocess
import sys

_WITHOUT_THE_REST = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    names = {"kubernetes", "pandas", "tabulate", "urllib3", "aiohttp", "cryptography", "jwt", "grpc_tools"}

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_serving_imports_with_the_rest_of_the_sdks_requirements_absent():
    done = run(_WITHOUT_THE_REST + "import servekit.server, servekit.repository, servekit.model")
    assert done.returncode == 0, done.stderr


def test_the_classes_are_the_sdks_own_when_the_whole_sdk_is_asked_for_afterwards():
    done = run(
        "import servekit.sdk, kserve; kserve.KServeClient; "
        "print(all(getattr(kserve, n) is getattr(servekit.sdk, n) for n in servekit.sdk.__all__))"
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_the_classes_are_the_sdks_own_when_the_whole_sdk_was_there_before():
    done = run(
        "import kserve, servekit.sdk; "
        "print(all(getattr(kserve, n) is getattr(servekit.sdk, n) for n in servekit.sdk.__all__))"
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_pandas_is_there_when_the_sdk_uses_it():
    done = run(
        "import servekit.sdk, numpy\n"
        "from kserve.protocol.infer_type import InferInput, InferRequest\n"
        "values = InferInput('a', [2], 'INT32', [1, 2])\n"
        "frame = InferRequest('m', [values]).as_dataframe()\n"
        "print(type(frame).__module__.split('.')[0], frame['a'].tolist())"
    )
    assert (done.returncode, done.stdout) == (0, "pandas [1, 2]\n"), done.stderr


def test_what_is_missing_is_named_each_time_that_it_is_asked_for():
    done = run(
        _WITHOUT_THE_REST + "import servekit.sdk, kserve\n"
        "for _ in range(2):\n"
        "    try: kserve.KServeClient\n"
        "    except ModuleNotFoundError as error: print(error.name in Absent.names)"
    )
    assert (done.returncode, done.stdout) == (0, "True\nTrue\n"), done.stderr
