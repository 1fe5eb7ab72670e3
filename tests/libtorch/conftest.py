"""The fixtures of the interoperability suite: the embedded server, and the official SDK kept to a folder of its own."""

import importlib.util
import pathlib

path = pathlib.Path(__file__).parent.parent / "interop" / "conftest.py"
spec = importlib.util.spec_from_file_location("interop_fixtures", path)
fixtures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fixtures)
server, isolated, project, api = fixtures.server, fixtures.isolated, fixtures.project, fixtures.api
