"""How long each layer of a net takes: `caffe time` (tools/caffe.cpp)."""

from __future__ import annotations

from dataclasses import dataclass

from .. import glog
from ..errors import CaffeError
from ..glog import number
from ..net import Net
from ..timer import Timer


@dataclass
class Times:
    """The mean milliseconds of an iteration: a pair (forward, backward) a layer, both passes, and both together."""

    layers: list[tuple[str, float, float]]
    forward: float
    backward: float
    both: float


def time_net(net: Net, iterations: int) -> Times:
    """Run a net forward and backward `iterations` times after one pass that is not counted; log and return the means.

    The lines are those of Caffe's `caffe time`. A layer's time is that between its two hooks, so that layers which
    a backward pass leaves out take next to none. Raises CaffeError for less than one iteration.
    """
    if iterations < 1:
        raise CaffeError(f"{iterations} iterations were asked for; to time a net takes 1 or more.")
    glog.info("Performing Forward", "caffe.cpp:351")
    glog.info(f"Initial loss: {number(net.forward_pass())}", "caffe.cpp:356")
    glog.info("Performing Backward", "caffe.cpp:357")
    net.backward_pass()
    names = net._layer_names
    forwards, backwards = [Timer() for _ in net.layers], [Timer() for _ in net.layers]
    net.before_forward(lambda i: forwards[i].start())
    net.after_forward(lambda i: forwards[i].stop())
    net.before_backward(lambda i: backwards[i].start())
    net.after_backward(lambda i: backwards[i].stop())
    glog.info("*** Benchmark begins ***", "caffe.cpp:365")
    glog.info(f"Testing for {iterations} iterations.", "caffe.cpp:366")
    sums = [[0.0, 0.0] for _ in net.layers]
    forward_sum = backward_sum = 0.0
    total, forward, backward, both = Timer(), Timer(), Timer(), Timer()
    total.start()
    for iteration in range(1, iterations + 1):
        both.start()
        forward.start()
        net.forward_pass()
        forward.stop()
        backward.start()
        net.backward_pass()
        backward.stop()
        both.stop()
        # Read only now: to read a timer waits for the GPU, and nothing above does.
        forward_sum, backward_sum = forward_sum + forward.ms, backward_sum + backward.ms
        for pair, down, up in zip(sums, forwards, backwards, strict=True):
            pair[0] += down.ms
            pair[1] += up.ms
        glog.info(f"Iteration: {iteration} forward-backward time: {number(both.ms)} ms.", "caffe.cpp:394")
    total.stop()
    layers = [(name, f / iterations, b / iterations) for name, (f, b) in zip(names, sums, strict=True)]
    times = Times(layers, forward_sum / iterations, backward_sum / iterations, total.ms / iterations)
    _log(times, total.ms)
    return times


def _log(times: Times, total: float) -> None:
    glog.info("Average time per layer: ", "caffe.cpp:397")
    for name, forward, backward in times.layers:
        glog.info(f"{name:>10}\tforward: {number(forward)} ms.", "caffe.cpp:400")
        glog.info(f"{name:>10}\tbackward: {number(backward)} ms.", "caffe.cpp:403")
    glog.info(f"Average Forward pass: {number(times.forward)} ms.", "caffe.cpp:408")
    glog.info(f"Average Backward pass: {number(times.backward)} ms.", "caffe.cpp:410")
    glog.info(f"Average Forward-Backward: {number(times.both)} ms.", "caffe.cpp:412")
    glog.info(f"Total Time: {number(total)} ms.", "caffe.cpp:414")
    glog.info("*** Benchmark ends ***", "caffe.cpp:415")
