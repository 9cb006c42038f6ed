"""What the engine's tests share: writing a prototxt."""

import pytest


@pytest.fixture
def write(tmp_path):
    """Write a text into the test's folder, and return its path as Caffe takes it."""

    def put(text, name="net.prototxt"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return put
