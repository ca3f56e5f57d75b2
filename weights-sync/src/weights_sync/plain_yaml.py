"""YAML that means no more than it says: without aliases, which make small files mean endless ones."""

from typing import Any

import yaml


class AliasError(ValueError):
    """The YAML has aliases in it."""


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Merge keys copy what aliases name, level by level, before anybody can count it.
        if self.check_event(yaml.AliasEvent):
            raise AliasError("has YAML aliases in it, which are not read")
        return super().compose_node(parent, index)


def only_document(text: bytes | str) -> Any:
    """Return what a YAML of one document holds."""
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader


def first_document(text: bytes | str) -> Any:
    """Return what the first document of a YAML holds, None where there is none."""
    return next(iter(yaml.load_all(text, _Loader)), None)
