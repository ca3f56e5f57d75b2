"""A package only so that pytest calls these modules `tests.…`: `servekit.tests.…` would hide the real servekit."""
