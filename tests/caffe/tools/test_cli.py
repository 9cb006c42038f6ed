"""The actions of the `caffe` command: what they do, log and refuse."""

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image

import caffe
from caffe import device, glog, parallel, world
from caffe.formats.prototxt import read_net
from caffe.formats.snapshot import read_state, read_weights
from caffe.proto import caffe_pb2
from caffe.tools import cli
from caffe.tools.commands import gpus

GOLDEN = Path(__file__).parents[2] / "golden" / "upgrade"
DATA = """
layer { name: "data" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 }
                           data_filler { type: "constant" value: 1 } data_filler { type: "constant" value: 1 } } }
"""
IP = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" loss_weight: 2 }
"""
ACCURACY = """
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "top2" type: "Accuracy" bottom: "ip" bottom: "label" top: "top2" accuracy_param { top_k: 2 }
        include { phase: TEST stage: "deep" min_level: 1 } }
"""
NET = f'name: "net" {DATA} {IP} {ACCURACY}'
SOLVER = 'net: "net.prototxt" base_lr: 0.5 lr_policy: "fixed" max_iter: 3 snapshot_prefix: "at" random_seed: 1\n'
LINE = re.compile(r"^[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+:\d+\] (.*)$")


@pytest.fixture(autouse=True)
def a_folder_and_a_log_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GLOG_minloglevel", raising=False)
    for name in ("RANK", "WORLD_SIZE", "CAFFE_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER + "solver_mode: CPU")
    yield
    glog._level.chosen = None
    device.set_mode_cpu()


@pytest.fixture
def call(capsys):
    """Run the command; return its exit code and the texts that it logged."""

    def run(*arguments):
        code = cli.main(arguments)
        lines = capsys.readouterr().err.splitlines()
        return code, [found[1] if (found := LINE.match(line)) else line for line in lines]

    return run


def refused(outcome):
    """Return the error line of a command that was refused."""
    code, lines = outcome
    assert code == 1
    return lines[-1]


def save_weights(path="net.caffemodel", value=0.0):
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.params["ip"][0].data[0] = value
    net.save(path)
    return path


# The command itself


@pytest.mark.parametrize("arguments", [[], ["help"], ["-help"], ["-h"]])
def test_without_an_action_it_explains_itself(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("command line brew\nusage: caffe <command> <args>\n")
    for action in ("train", "test", "time", "device_query", "upgrade", "draw", "convert", "mean", "summary", "export"):
        assert re.search(rf"^  {action} +\w", out, re.MULTILINE)


@pytest.mark.parametrize("arguments", [["help", "train"], ["train", "-help"], ["-helpshort", "train"]])
def test_an_action_is_explained(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: caffe train [flags]\n")
    assert re.search(r"^  -solver +\w", out, re.MULTILINE) and "-shuffle" not in out


def test_every_action_has_a_help_that_names_its_words_and_flags():
    for name, action in cli.ACTIONS.items():
        text = cli.usage(name)
        assert text.startswith(" ".join(["usage: caffe", name, *action.words, "[flags]"]) + "\n")
        assert all(f"  -{flag}" in text for flag in (*action.flags, "import"))


def test_the_version_is_caffes_and_its_own(capsys):
    assert cli.main(["-version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"caffe version {caffe.__version__}"
    assert torch.__version__ in lines[1] and "pycaffe-on-torch" in lines[1]


def test_the_version_without_an_installed_distribution(monkeypatch, capsys):
    monkeypatch.setattr(cli, "DISTRIBUTION", "is-not-installed")
    assert cli.main(["--version"]) == 0
    assert "(not installed)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "Unknown action: trian; did you mean train? The actions are train, test, "),
        (["help", "xyz"], "Unknown action: xyz. The actions are"),
        (["train", "-solvr", "x"], "did you mean -solver?"),
        (["train", "more"], "caffe train takes no words, only flags, not more; see caffe help train."),
        (["upgrade", "one"], "caffe upgrade takes OLD NEW, not one;"),
        (["mean"], "caffe mean takes DATABASE [MEAN], not nothing;"),
        (["mean", "a", "b", "c"], "not a b c;"),
        (["draw", "-model", "net.prototxt"], "caffe draw takes NET PICTURE, not nothing;"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_1(arguments, says, call):
    code, lines = call(*arguments)
    assert code == 1 and len(lines) == 1 and says in lines[0]


def test_an_error_line_is_logged_whatever_the_level(call):
    assert "Could not open file none" in refused(call("test", "-model", "none", "-weights", "w", "-minloglevel=3"))


@pytest.mark.parametrize(("flag", "variable"), [("-traceback", None), ("-notraceback", "1")])
def test_a_traceback_is_shown_if_asked_for(flag, variable, call, monkeypatch):
    if variable:
        monkeypatch.setenv("CAFFE_TRACEBACK", variable)
    code, lines = call("test", "-model", "none", "-weights", "w", flag)
    assert code == 1 and "Traceback (most recent call last):" in lines and lines[-1] == "Could not open file none"


def test_a_flag_of_another_action_is_passed_over_with_a_warning(call):
    code, lines = call("time", "-model", "net.prototxt", "-iterations=1", "-rankdir=LR")
    assert code == 0 and lines[0] == "-rankdir has no effect on caffe time."


def test_ctrl_c_outside_of_training_ends_it(monkeypatch, call):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(glog, "info", interrupted)
    assert call("device_query") == (130, ["Interrupted."])


def test_minloglevel_hides_what_is_below(call):
    assert call("time", "-model", "net.prototxt", "-iterations=1", "-minloglevel=1") == (0, [])


def test_log_dir_gets_the_log_too(call):
    code, lines = call("time", "-model", "net.prototxt", "-iterations=1", "-log_dir", "logs/here", "-alsologtostderr")
    assert code == 0
    link = Path("logs/here/caffe.INFO")
    assert [LINE.match(line)[1] for line in link.read_text().splitlines()] == lines
    files = [path.name for path in Path("logs/here").iterdir() if not path.is_symlink()]
    assert len(files) == 1 and re.fullmatch(r"caffe\..+\.log\.INFO\.\d{8}-\d{6}\.\d+", files[0])
    call("device_query", "-log_dir", "logs/here")
    assert "Querying GPUs" in link.read_text()
    call("device_query")
    assert link.read_text().count("Querying GPUs") == 1, "the file ended with the command that it was for"


def test_a_file_of_the_logs_name_is_left_alone(call):
    Path("caffe.INFO").write_text("mine")
    call("device_query", "-log_dir=.")
    assert Path("caffe.INFO").read_text() == "mine"
    assert len(list(Path().glob("caffe.*.log.INFO.*"))) == 1


def test_a_log_dir_that_cannot_be_written_is_told(call):
    assert "-log_dir: could not write a log in net.prototxt" in refused(call("device_query", "-log_dir=net.prototxt"))


def test_imported_modules_come_first_from_the_working_folder_too(call, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    Path("my_types.py").write_text("import caffe\ncaffe.log('types are here')\n")
    code, lines = call("time", "-model", "net.prototxt", "-iterations=1", "-import", "my_types, json")
    assert (code, lines[0]) == (0, "types are here")
    sys.modules.pop("my_types")


def test_a_module_that_cannot_be_imported_is_told(call):
    said = refused(call("device_query", "-import", "no_such_module"))
    assert "-import names the module 'no_such_module'" in said and "PYTHONPATH" in said
    Path("half_there.py").write_text("import no_such_module\n")
    assert refused(call("device_query", "-import", "half_there")) == "No module named 'no_such_module'"


# train


def test_train_trains_to_max_iter_and_snapshots(call):
    code, lines = call("train", "-solver", "solver.prototxt")
    assert code == 0
    assert lines[0] == "Use CPU." and lines[-1] == "Optimization Done."
    assert lines.index("Starting Optimization") < lines.index("Solving net")
    weights = {layer.name: layer.blobs for layer in read_weights("at_iter_3.caffemodel")}
    # Softmax over two equal scores: the first step moves label 1's row by 0.5 * 2 / 2, times an input of 1.
    row = weights["ip"][0].data[1]
    assert np.all(row > 0.5) and np.all(row < 1.5)


def test_iterations_stand_for_max_iter(call):
    assert call("train", "-solver", "solver.prototxt", "-iterations", "2")[0] == 0
    assert read_state("at_iter_2.solverstate").iter == 2


def test_train_goes_on_from_a_snapshot(call):
    call("train", "-solver", "solver.prototxt", "-iterations", "2")
    code, lines = call("train", "-solver", "solver.prototxt", "-snapshot", "at_iter_2.solverstate")
    assert code == 0 and "Resuming from at_iter_2.solverstate" in lines
    resumed = Path("at_iter_3.caffemodel").read_bytes()
    call("train", "-solver", "solver.prototxt")
    assert Path("at_iter_3.caffemodel").read_bytes() == resumed


def test_train_starts_from_weights_the_last_file_having_the_last_word(call):
    first, second = save_weights("a.caffemodel", 1), save_weights("b.caffemodel", 7)
    Path("solver.prototxt").write_text(SOLVER.replace("0.5", "0") + 'solver_mode: CPU weights: "missing.caffemodel"')
    assert call("train", "-solver", "solver.prototxt", "-weights", f"{first},{second}")[0] == 0
    [ip] = [layer for layer in read_weights("at_iter_3.caffemodel") if layer.name == "ip"]
    assert np.all(ip.blobs[0].data[0] == 7)


def test_level_and_stage_reach_the_train_net(call):
    Path("net.prototxt").write_text(
        NET + 'layer { name: "extra" type: "Silence" bottom: "ip" include { phase: TRAIN stage: "deep" min_level: 2 } }'
    )
    call("train", "-solver", "solver.prototxt", "-level", "2", "-stage", "wide,deep")
    assert "extra" in [layer.name for layer in read_weights("at_iter_3.caffemodel")]
    call("train", "-solver", "solver.prototxt", "-stage", "deep")
    assert "extra" not in [layer.name for layer in read_weights("at_iter_3.caffemodel")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_without_a_gpu_a_solver_of_gpu_mode_trains_on_the_cpu_and_says_so(call):
    Path("solver.prototxt").write_text(SOLVER)
    code, lines = call("train", "-solver", "solver.prototxt")
    assert code == 0
    assert lines[0].startswith("The solver asks for a GPU") and lines[1] == "Use CPU."


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
@pytest.mark.parametrize("gpu", ["0", "0,1", "all"])
@pytest.mark.parametrize("action", [["train", "-solver=solver.prototxt"], ["time", "-model=net.prototxt"]])
def test_without_a_gpu_asking_for_one_is_refused(gpu, action, call):
    said = refused(call(*action, "-gpu", gpu))
    assert said.startswith(f"-gpu {gpu} was given, but PyTorch ") and "Leave -gpu out" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Need a solver definition to train"),
        (["-solver=solver.prototxt", "-snapshot=a", "-weights=b"], "but not both"),
        (["-solver=solver.prototxt", "-sigint_effect=explode"], 'Invalid signal effect "explode"'),
        (["-solver=solver.prototxt", "-sighup_effect="], 'Invalid signal effect ""'),
        (["-solver=solver.prototxt", "-gpu=first"], "-gpu is 'first'"),
        (["-solver=none.prototxt"], "Could not open file none.prototxt"),
        (["-solver=solver.prototxt", "-weights=none"], "Could not open file none"),
    ],
)
def test_train_refuses(arguments, says, call):
    assert says in refused(call("train", *arguments))


def test_an_unknown_solver_type_is_refused(call):
    Path("solver.prototxt").write_text(SOLVER + 'type: "Sgdd"')
    assert "Unknown solver type: Sgdd" in refused(call("train", "-solver", "solver.prototxt"))


def test_a_second_ctrl_c_is_no_ordinary_end(call, monkeypatch):
    def cut_short(self, *_):
        raise KeyboardInterrupt("A second Ctrl-C came before the iteration was finished.")

    monkeypatch.setattr(caffe.SGDSolver, "solve", cut_short)
    assert call("train", "-solver", "solver.prototxt")[0] == 130


def test_under_torchrun_a_process_joins_and_leaves(call, monkeypatch):
    left = []
    monkeypatch.setattr(parallel, "leave", lambda: left.append(True))
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert call("train", "-solver", "solver.prototxt")[0] == 0
    assert left == [True] and Path("at_iter_3.caffemodel").exists()
    world.set_multiprocess(False)


@pytest.fixture
def two_gpus(monkeypatch):
    """Pretend that there are two GPUs, which compute on the CPU."""
    used = []
    monkeypatch.setattr(gpus, "count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Imagined {index}")
    monkeypatch.setattr(device, "set_device", used.append)
    monkeypatch.setattr(device, "set_mode_gpu", lambda: used.append("gpu"))
    return used


@pytest.mark.parametrize(
    ("settings", "flags", "index"),
    [("solver_mode: GPU", [], 0), ("device_id: 1", [], 1), ("solver_mode: CPU device_id: 1", ["-gpu", "0"], 0)],
)
def test_one_gpu_is_that_of_the_flag_or_else_of_the_solver(settings, flags, index, two_gpus, call):
    Path("solver.prototxt").write_text(SOLVER + settings)
    code, lines = call("train", "-solver", "solver.prototxt", *flags)
    assert code == 0 and two_gpus == [index, "gpu"]
    assert lines[:2] == [f"Using GPUs {index}", f"GPU {index}: Imagined {index}"]


def test_gpus_are_counted_and_named_once(two_gpus, call):
    assert "the GPUs here are 0 to 1" in refused(call("train", "-solver=solver.prototxt", "-gpu=2"))
    assert "names a GPU twice" in refused(call("train", "-solver=solver.prototxt", "-gpu=1,1"))


@pytest.mark.parametrize("gpu", ["0,1", "all"])
def test_several_gpus_are_a_process_each(gpu, two_gpus, call, monkeypatch):
    started = []
    monkeypatch.setattr(parallel, "launch", lambda *arguments: started.append(arguments))
    code, lines = call("train", "-solver", "solver.prototxt", "-gpu", gpu, "-iterations", "1")
    assert code == 0 and lines[0] == "Using GPUs 0, 1"
    [(target, devices, processes, arguments)] = started
    assert (devices, processes) == ([0, 1], 2)
    target(*arguments)  # as each rank's process does
    assert read_state("at_iter_1.solverstate").iter == 1


@pytest.mark.slow
def test_several_processes_train_together(two_gpus, call, monkeypatch):
    launch = parallel.launch
    monkeypatch.setattr(parallel, "launch", lambda target, devices, count, args: launch(target, None, count, args))
    code, _ = call("train", "-solver", "solver.prototxt", "-gpu", "0,1", "-log_dir", "logs")
    assert code == 0
    logs = [path.read_text() for path in Path("logs").glob("caffe.*.log.INFO.*")]
    assert sum(text.count("Snapshotting solver state") for text in logs) == 1, "only the root writes"


# test and time


def test_test_logs_each_batch_and_the_means(call):
    code, lines = call("test", "-model", "net.prototxt", "-weights", save_weights(), "-iterations", "2")
    assert code == 0
    ln2 = "0.693147"
    assert lines == [
        "Use CPU.",
        "Running for 2 iterations.",
        *[line for batch in (0, 1) for line in (f"Batch {batch}, accuracy = 0", f"Batch {batch}, loss = {ln2}")],
        "Loss: 1.38629",
        "accuracy = 0",
        f"loss = {ln2} (* 2 = 1.38629 loss)",
    ]


def test_test_takes_level_and_stage_and_the_last_of_several_weights(call):
    files = f"{save_weights('a.caffemodel')},{save_weights('b.caffemodel', -0.5)}"
    code, lines = call(
        "test", "-model=net.prototxt", "-weights", files, "-iterations=1", "-level=1", "-stage", "x,deep"
    )
    assert code == 0 and lines[-2:] == ["loss = 0.201413 (* 2 = 0.402827 loss)", "top2 = 1"]
    assert "accuracy = 1" in lines


def test_test_numbers_every_value_of_an_output(call):
    Path("net.prototxt").write_text(
        f'{DATA} layer {{ name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param '
        '{ num_output: 2 bias_filler { type: "constant" value: 4 } } } '
        'layer { name: "s" type: "Silence" bottom: "label" }'
    )
    caffe.Net("net.prototxt", caffe.TEST).save("w.caffemodel")
    code, lines = call("test", "-model", "net.prototxt", "-weights", "w.caffemodel", "-iterations", "1")
    assert code == 0 and lines.count("Batch 0, ip = 4") == 4 and lines.count("ip = 4") == 4


def test_an_output_whose_size_changes_has_no_mean(call, tmp_path, monkeypatch):
    Path("growing.py").write_text(
        "import caffe\nclass Growing(caffe.Layer):\n"
        "    def setup(self, bottom, top): self.n = 0\n"
        "    def reshape(self, bottom, top): self.n += 1; top[0].reshape(self.n)\n"
        "    def forward(self, bottom, top): top[0].data[...] = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("net.prototxt").write_text(
        NET + 'layer { name: "g" type: "Python" top: "g" python_param { module: "growing" layer: "Growing" } }'
    )
    said = refused(call("test", "-model=net.prototxt", "-weights", save_weights(), "-iterations=2"))
    assert "Output 'g' has " in said and "no mean" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["test", "-weights", "w"], "-model is missing"),
        (["test", "-model", "net.prototxt"], "-weights is missing"),
        (["test", "-model", "net.prototxt", "-weights", "w", "-iterations", "0"], "-iterations is 0"),
        (["time"], "-model is missing"),
        (["time", "-model", "net.prototxt", "-phase", "train"], 'phase must be "TRAIN" or "TEST", not \'train\'.'),
        (["time", "-model", "net.prototxt", "-iterations", "-1"], "-1 iterations"),
    ],
)
def test_test_and_time_refuse(arguments, says, call):
    assert says in refused(call(*arguments))


@pytest.mark.parametrize(("phase", "there"), [([], False), (["-phase", "TRAIN"], False), (["-phase=TEST"], True)])
def test_time_times_each_layer_of_the_phase(phase, there, call):
    code, lines = call("time", "-model", "net.prototxt", "-iterations", "2", *phase)
    assert code == 0 and "Testing for 2 iterations." in lines
    assert any(line.startswith("  accuracy\tforward: ") for line in lines) == there


def test_of_several_gpus_test_and_time_take_the_first(two_gpus, call):
    code, lines = call("time", "-model", "net.prototxt", "-iterations=1", "-gpu=1,0")
    assert code == 0 and two_gpus == [1, "gpu"]
    assert lines[:3] == [
        "Not using GPU #0 for single-GPU function",
        "Use GPU with device ID 1",
        "GPU device name: Imagined 1",
    ]


# device_query


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_device_query_without_a_gpu(call):
    code, lines = call("device_query")
    assert code == 1 and lines[0] == "Querying GPUs all"
    assert re.match(r"PyTorch \S+ (is a build for CPUs only|finds no GPU)", lines[1])


def test_a_driver_that_finds_no_gpu_is_another_case(monkeypatch, call):
    monkeypatch.setattr(gpus, "count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "finds no GPU; `nvidia-smi`" in refused(call("device_query", "-gpu=0"))


@pytest.mark.parametrize(("flags", "devices"), [([], [0, 1]), (["-gpu", "all"], [0, 1]), (["-gpu=1"], [1])])
def test_device_query_tells_name_memory_and_capability(flags, devices, two_gpus, call, monkeypatch):
    found = SimpleNamespace(
        major=9, minor=0, name="Imagined", total_memory=85899345920, warp_size=32, multi_processor_count=132
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    code, lines = call("device_query", *flags)
    assert code == 0
    assert [line for line in lines if "Device id" in line] == [f"Device id:                     {i}" for i in devices]
    assert lines.count("Total global memory:           85899345920") == len(devices)
    assert lines.count("Major revision number:         9") == len(devices)


# upgrade


@pytest.mark.parametrize("name", sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.upgraded.prototxt")))
def test_upgrade_writes_what_caffes_own_programs_write(name, call):
    kind = caffe_pb2.SolverParameter if name.startswith("solver") else caffe_pb2.NetParameter
    code, lines = call("upgrade", str(GOLDEN / f"{name}.prototxt"), "new/today.prototxt")
    assert code == 0 and lines[-1].startswith(f"Wrote upgraded {'solver' if 'solver' in name else 'net'} to")
    assert not any("already" in line for line in lines)
    wanted = text_format.Parse((GOLDEN / f"{name}.upgraded.prototxt").read_text(), kind())
    assert text_format.Parse(Path("new/today.prototxt").read_text(), kind()) == wanted


def test_upgrade_says_what_needs_none_and_may_write_in_place(call):
    for path in ("net.prototxt", "solver.prototxt", save_weights()):
        code, lines = call("upgrade", path, path)
        assert code == 0 and lines[0] == f"File already in latest proto format: {path}"
    assert read_net("net.prototxt") == text_format.Parse(NET, caffe_pb2.NetParameter())
    assert "snapshot_prefix" in Path("solver.prototxt").read_text()
    [ip] = [layer for layer in read_weights("net.caffemodel") if layer.name == "ip"]
    assert ip.blobs[0].shape == (2, 3)


def test_upgrade_puts_no_snapshot_prefix_in(call):
    Path("old.prototxt").write_text('# a comment in Latin 1: \nnet: "net.prototxt" solver_type: ADAM')
    assert call("upgrade", "old.prototxt", "new.prototxt")[0] == 0
    assert Path("new.prototxt").read_text() == 'net: "net.prototxt"\ntype: "Adam"\n'


def test_upgrade_rewrites_old_weights(call):
    old = caffe_pb2.NetParameter(name="old")
    layer = old.layers.add(name="ip", type=caffe_pb2.V1LayerParameter.INNER_PRODUCT, bottom=["x"], top=["y"])
    layer.blobs.add(num=1, channels=1, height=2, width=3, data=range(6))
    Path("old.caffemodel").write_bytes(old.SerializeToString())
    code, lines = call("upgrade", "old.caffemodel", "new.caffemodel")
    assert (code, lines) == (0, ["Wrote upgraded weights to new.caffemodel"])
    new = caffe_pb2.NetParameter.FromString(Path("new.caffemodel").read_bytes())
    assert (new.name, new.layer[0].type, list(new.layer[0].blobs[0].data)) == ("old", "InnerProduct", [*range(6)])
    assert not new.layers


def test_upgrade_refuses_what_is_neither_and_leaves_the_new_file(call):
    Path("new").write_text("before")
    with h5py.File("w.h5", "w") as file:
        file["data"] = 1
    Path("state").write_bytes(caffe_pb2.SolverState(iter=3, learned_net="x").SerializeToString())
    Path("net_with_typo").write_text(NET.replace("num_output", "nun_output"))
    Path("solver_with_typo").write_text('net: "net.prototxt"\nbase_lr: 0.1\nmax_itr: 3')
    Path("empty").write_text("")
    for path, says in {
        "w.h5": "nothing to upgrade",
        "state": "weights",
        "net_with_typo": '"num_output"',
        "solver_with_typo": '"max_iter"',
        "empty": "empty",
        "missing": "Could not open file missing",
    }.items():
        assert says in refused(call("upgrade", path, "new")), path
    assert Path("new").read_text() == "before"


# draw, summary, export, convert, mean


@pytest.mark.skipif(shutil.which("dot") is None, reason="needs Graphviz's program dot")
def test_draw_draws_a_net(call):
    pytest.importorskip("pydot", reason="needs pydot, of the extra draw")
    code, _ = call("draw", "net.prototxt", "net.svg", "-phase=TEST", "-rankdir=TB", "-display_lrm")
    assert code == 0
    svg = Path("net.svg").read_text()
    assert "accuracy (Accuracy)" in svg and "lr mult: 1.0, 1.0" in svg


def test_draw_draws_a_phase_or_all(call):
    pytest.importorskip("pydot", reason="needs pydot, of the extra draw")
    for phase, there in {"TRAIN": False, "TEST": True, "ALL": True}.items():
        assert call("draw", "-model=net.prototxt", "net.dot", "-phase", phase)[0] == 0
        assert ("Accuracy" in Path("net.dot").read_text()) == there
    assert "-rankdir is 'up'" in refused(call("draw", "net.prototxt", "net.dot", "-rankdir=up"))


@pytest.fixture
def recorded(monkeypatch):
    """Put a module in an engine module's place that records how its functions are called."""

    def put(name, *functions, result=None):
        calls = []

        def function(label):
            return lambda *args, **kwargs: (calls.append((label, args, kwargs)), result)[1]

        module = SimpleNamespace(**{label: function(label) for label in functions})
        monkeypatch.setitem(sys.modules, f"caffe.{name}", module)
        monkeypatch.setattr(f"caffe.{name}", module, raising=False)
        return calls

    return put


def test_summary_prints_a_table_of_the_net_at_the_shapes_asked_for(recorded, capsys):
    calls = recorded("tools.summary", "summarize", result="the table")
    assert cli.main(["summary", "net.prototxt", "-shape", "data=1,3,8,8; mask=2,1", "-phase=TRAIN"]) == 0
    assert cli.main(["summary", "-model=net.prototxt"]) == 0
    assert capsys.readouterr().out == "the table\n" * 2
    shapes = {"data": (1, 3, 8, 8), "mask": (2, 1)}
    assert calls == [
        ("summarize", ("net.prototxt",), {"phase": caffe.TRAIN, "shapes": shapes}),
        ("summarize", ("net.prototxt",), {"phase": caffe.TEST, "shapes": None}),
    ]


@pytest.mark.parametrize("shape", ["1,3", "data", "data=1,x", "data="])
def test_summary_refuses_a_shape_that_is_none(shape, recorded, call):
    recorded("tools.summary", "summarize")
    assert "a shape is written as data=1,3,224,224" in refused(call("summary", "net.prototxt", "-shape", shape))


def test_export_goes_by_the_ending(recorded, call):
    calls = recorded("export", "to_onnx", "to_safetensors")
    assert call("export", "n.prototxt", "w.caffemodel", "o.onnx")[0] == 0
    assert call("export", "-model=n.prototxt", "-weights", "w.caffemodel", "o.onnx")[0] == 0
    assert call("export", "w.caffemodel", "o.safetensors")[0] == 0
    assert call("export", "n.prototxt", "w.caffemodel", "o.safetensors")[0] == 0
    onnx = ("to_onnx", ("n.prototxt", "w.caffemodel", "o.onnx"), {})
    safetensors = ("to_safetensors", ("w.caffemodel", "o.safetensors"), {})
    assert calls == [onnx, onnx, safetensors, safetensors]
    assert "takes the net's prototxt and its weights" in refused(call("export", "w.caffemodel", "o.onnx"))
    assert "o.pt is of no known kind" in refused(call("export", "n.prototxt", "w.caffemodel", "o.pt"))


def test_convert_and_mean_pass_everything_on(recorded, call):
    calls = recorded("tools.imageset", "convert_imageset", "compute_image_mean")
    flags = "-gray -shuffle -seed=4 -backend=leveldb -resize_width=8 -resize_height=9 -check_size -encoded"
    assert call("convert", *flags.split(), "-encode_type=png", "pics/", "list.txt", "db")[0] == 0
    assert call("convert", "pics/", "list.txt", "db")[0] == 0
    assert call("mean", "db", "mean.binaryproto", "-backend=leveldb")[0] == 0
    assert call("mean", "db")[0] == 0
    defaults = {
        "gray": False, "shuffle": False, "seed": None, "backend": "lmdb", "resize_width": 0, "resize_height": 0,
        "check_size": False, "encoded": False, "encode_type": "",
    }  # fmt: skip
    chosen = {
        "gray": True, "shuffle": True, "seed": 4, "backend": "leveldb", "resize_width": 8, "resize_height": 9,
        "check_size": True, "encoded": True, "encode_type": "png",
    }  # fmt: skip
    Path("pics").mkdir()
    assert call("convert", "pics", "list.txt", "db")[0] == 0
    assert calls.pop()[1] == ("pics/", "list.txt", "db"), "a folder may come without its slash"
    assert calls == [
        ("convert_imageset", ("pics/", "list.txt", "db"), chosen),
        ("convert_imageset", ("pics/", "list.txt", "db"), defaults),
        ("compute_image_mean", ("db", "mean.binaryproto"), {"backend": "leveldb"}),
        ("compute_image_mean", ("db", None), {"backend": "lmdb"}),
    ]


def test_images_become_a_database_and_its_mean_a_file(call):
    Path("pics").mkdir()
    for value in (10, 20):
        Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(f"pics/{value}.png")
    Path("list.txt").write_text("10.png 0\n20.png 1\n")
    assert call("convert", "pics", "list.txt", "db")[0] == 0
    code, lines = call("mean", "db", "mean.binaryproto")
    assert code == 0 and "mean_value channel [2]: 15" in lines
    mean = caffe_pb2.BlobProto.FromString(Path("mean.binaryproto").read_bytes())
    assert list(mean.data) == [15] * 18
    assert "db" in refused(call("convert", "pics", "list.txt", "db")), "a database is never overwritten"


def test_a_summary_counts_the_parameters(capsys):
    assert cli.main(["summary", "net.prototxt"]) == 0
    table = capsys.readouterr().out
    assert re.search(r"^ip +InnerProduct .*\b8\b", table, re.MULTILINE), table
