"""What the engine's tests share: writing a prototxt, and holding every line that is logged to Caffe's."""

import logging
import re
from pathlib import Path

import pytest

from caffe import glog

FACTS = Path(__file__).with_name("caffe_log_lines.txt")


@pytest.fixture
def write(tmp_path):
    """Write a text into the test's folder, and return its path as Caffe takes it."""

    def put(text, name="net.prototxt"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return put


@pytest.fixture(scope="session")
def caffes_lines():
    """Return what Caffe logs at each place of its source: a text's beginning, {} for values, and its pattern."""
    found = {}
    for line in FACTS.read_text().splitlines():
        if not line.startswith("#"):
            place, text = line.split("\t", 1)
            found[place] = text, re.compile(re.escape(text).replace(re.escape("{}"), ".*"), re.DOTALL)
    return found


@pytest.fixture(scope="session", autouse=True)
def every_logged_line_names_a_place_where_caffe_logs_it(caffes_lines):
    """Fail whatever test makes the engine log a text under a place of Caffe's that logs another one."""

    class Held(logging.Handler):
        def emit(self, record):
            place, said = getattr(record, "source", None), record.getMessage()
            assert place is None or caffes_lines[place][1].match(said), f"Caffe does not log {said!r} at {place}"

    held = Held()
    glog.logger.addHandler(held)
    yield
    glog.logger.removeHandler(held)
