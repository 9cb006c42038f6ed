"""Timer's rules, and that `caffe time` charges each layer with its own time."""

import re
import time

import pytest
import torch

import caffe
from caffe import device
from caffe.errors import CaffeError
from caffe.net import Net
from caffe.timer import Timer
from caffe.tools.timing import time_net

NET = """
name: "timed"
layer { name: "in" type: "DummyData" top: "x"
        dummy_data_param { shape { dim: 2 dim: 3 } data_filler { type: "constant" value: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 2 weight_filler { type: "constant" value: 1 } } }
layer { name: "slow" type: "Python" bottom: "y" top: "z"
        python_param { module: "slow_layer" layer: "Slow" } loss_weight: 1 }
"""
SLOW = """
import time
import caffe

class Slow(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(1)
    def forward(self, bottom, top):
        time.sleep(0.02)
        top[0].data[...] = bottom[0].data.sum()
    def backward(self, top, propagate_down, bottom):
        time.sleep(0.04)
        bottom[0].diff[...] = 1
"""


@pytest.fixture
def net(write, tmp_path, monkeypatch):
    (tmp_path / "slow_layer.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    return Net(write(NET), caffe.TRAIN)


def messages(capsys):
    return [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_a_timer_measures_from_start_to_stop():
    timer = Timer()
    timer.start()
    time.sleep(0.02)
    timer.stop()
    first = timer.ms
    assert 20 <= first < 2000
    time.sleep(0.02)
    timer.stop()
    assert timer.ms == first, "a stopped timer stands still"


def test_starting_a_timer_that_runs_changes_nothing():
    timer = Timer()
    timer.start()
    time.sleep(0.02)
    timer.start()
    assert timer.ms >= 20


def test_reading_stops_a_timer_and_starting_begins_anew():
    timer = Timer()
    timer.start()
    time.sleep(0.05)
    first = timer.ms
    assert timer.ms == first
    timer.start()
    assert timer.ms < first


def test_a_timer_that_never_ran_warns_and_is_0(capsys):
    assert Timer().ms == 0
    assert messages(capsys) == ["Timer has never been run before reading time."]


def test_stopping_a_timer_that_never_ran_does_nothing():
    timer = Timer()
    timer.stop()
    assert timer.ms == 0


def test_in_gpu_mode_events_are_timed_and_waited_for_only_when_read(monkeypatch):
    done = []

    class Event:
        clock = 0.0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            Event.clock += 2.5
            self.at = Event.clock
            done.append("record")

        def synchronize(self):
            done.append("wait")

        def elapsed_time(self, end):
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(device, "current", lambda: torch.device("cuda", 0))
    timer = Timer()
    timer.start()
    timer.stop()
    assert done == ["record", "record"]
    monkeypatch.setattr(device, "current", lambda: torch.device("cpu"))
    assert timer.ms == 2.5, "what counts is the mode in which it was started"
    assert done[-1] == "wait"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_timer_waits_for_the_work():
    caffe.set_mode_gpu()
    try:
        x = torch.randn(4096, 4096, device="cuda")
        timer = Timer()
        timer.start()
        for _ in range(10):
            x = x @ x / 64
        assert timer.ms > 1
    finally:
        caffe.set_mode_cpu()


def test_each_layer_is_charged_with_its_own_time(net):
    times = time_net(net, 3)
    assert [name for name, _, _ in times.layers] == ["in", "fc", "slow"]
    rows = {name: (forward, backward) for name, forward, backward in times.layers}
    assert 20 <= rows["slow"][0] <= times.forward
    assert 40 <= rows["slow"][1] <= times.backward
    assert rows["in"][0] + rows["fc"][0] <= times.forward - rows["slow"][0]
    assert times.both >= times.forward + times.backward


def test_the_lines_are_caffes(net, capsys):
    time_net(net, 2)
    ms = r"[\d.e-]+ ms\."
    wanted = [
        "Performing Forward",
        "Initial loss: 12",
        "Performing Backward",
        r"\*\*\* Benchmark begins \*\*\*",
        r"Testing for 2 iterations\.",
        f"Iteration: 1 forward-backward time: {ms}",
        f"Iteration: 2 forward-backward time: {ms}",
        "Average time per layer: ",
        *(
            f" {{{10 - len(name)}}}{name}\t{way}: {ms}"
            for name in ("in", "fc", "slow")
            for way in ("forward", "backward")
        ),
        f"Average Forward pass: {ms}",
        f"Average Backward pass: {ms}",
        f"Average Forward-Backward: {ms}",
        f"Total Time: {ms}",
        r"\*\*\* Benchmark ends \*\*\*",
    ]
    found = messages(capsys)
    assert len(found) == len(wanted)
    for line, pattern in zip(found, wanted, strict=True):
        assert re.fullmatch(pattern, line), line


def test_no_iterations_are_refused(net):
    with pytest.raises(CaffeError, match="0 iterations"):
        time_net(net, 0)
