"""YAML that means no more than it says: without aliases, which make small files mean endless ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml


class PlainYamlError(ValueError):
    """The text is no YAML, or one with aliases; it says which, as words that go behind a file's name."""


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Merge keys copy what aliases name, level by level, before anybody can count it.
        if self.check_event(yaml.AliasEvent):
            raise PlainYamlError("has YAML aliases in it, which are not read")
        return super().compose_node(parent, index)


def only_document(text: bytes | str) -> Any:
    """Return what a YAML of one document holds."""
    with _named():
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader


def first_document(text: bytes | str) -> Any:
    """Return what the first document of a YAML holds, None where there is none."""
    with _named():
        return next(iter(yaml.load_all(text, _Loader)), None)


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except PlainYamlError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlainYamlError(f"is no YAML: {' '.join(str(error).split())[:160]}") from error
