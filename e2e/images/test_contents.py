"""What is in the images, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from container import Image

_INSTALLERS = ("pip", "pip3", "uv", "uvx", "wheel", "easy_install")
_COMPILERS = ("cc", "gcc", "g++", "clang", "ld", "as", "make", "cmake", "ninja", "strip", "f2py", "cython", "protoc")
_MEMBERS = {
    "predictor": {"servekit", "weights_sync", "yolo_predictor"},
    "transformer": {"servekit", "yolo_transformer"},
    "weights-sync": {"weights_sync"},
}
WEIGHTS_SYNC_BYTES = 250_000_000


@pytest.fixture(params=_MEMBERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def image(images: dict[str, Image], name: str) -> Image:
    return images[name]


def test_it_runs_as_a_user_that_the_kubelet_can_tell_from_root(image):
    assert image.config["User"] == "65532:65532"
    assert image.python("import os; print(os.getuid(), os.getgid(), os.getgroups())").stdout == "65532 65532 []\n"


def test_only_tmp_can_be_written(image):
    probe = (
        "import os\n"
        "print(*sorted(f for f, _, _ in os.walk('/') if os.access(f, os.W_OK)"
        " and not f.startswith(('/proc', '/dev'))))"
    )
    assert image.python(probe).stdout.split() == ["/tmp"]  # noqa: S108 (the container's own)


def test_nothing_of_it_belongs_to_its_user(image):
    owned = [path for path in image.files() if path.lstat().st_uid == 65532 or path.lstat().st_gid == 65532]
    assert owned == []


def test_nothing_that_installs_or_builds_is_inside(image):
    folders = [
        image.root / f.lstrip("/") for f in ("app/bin", "usr/local/bin", "usr/bin", "usr/local/sbin", "usr/sbin")
    ]
    programs = {path.name for folder in folders for path in folder.iterdir()}
    assert programs.isdisjoint({*_INSTALLERS, *_COMPILERS})
    modules = ("pip", "ensurepip", "setuptools", "uv")
    probe = f"from importlib.util import find_spec\nprint([name for name in {modules} if find_spec(name)])"
    assert image.python(probe).stdout == "[]\n"


def test_neither_a_registry_nor_a_certificate_of_the_build_is_left_inside(image):
    for left in ("etc/pip.conf", "etc/uv", "root/.cache", "root/.config", "src"):
        path = image.root / left
        assert not path.exists() or (path.is_file() and not path.stat().st_size), left


def test_it_holds_its_own_part_and_what_that_needs_and_no_other(image, name):
    packages = _packages(image)
    ours = {path.name for path in packages.iterdir()} & set().union(*_MEMBERS.values(), {"yolo_client"})
    assert ours == _MEMBERS[name]
    assert not (packages / "pandas").exists()
    assert not (packages / "kubernetes").exists()


def test_every_module_of_ours_is_compiled(image, name):
    sources = [file for member in _MEMBERS[name] for file in (_packages(image) / member).rglob("*.py")]
    assert sources
    assert [file for file in sources if not list(file.parent.glob(f"__pycache__/{file.stem}.cpython-*.pyc"))] == []


def test_it_says_what_it_is(image, name):
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"yolo-kserve {name}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert {f"org.opencontainers.image.{key}" for key in ("description", "version", "revision")} <= labels.keys()


def test_opencv_works_in_the_transformers_image(images):
    assert images["transformer"].python("import cv2; print(cv2.__version__.split('.')[0])").stdout == "5\n"


def test_the_init_containers_image_is_small_enough_to_pull_before_every_cold_start(images):
    assert images["weights-sync"].bytes() < WEIGHTS_SYNC_BYTES


def _packages(image: Image) -> Path:
    (packages,) = image.root.glob("app/lib/python3*/site-packages")
    return packages
