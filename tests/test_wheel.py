"""The wheel: it holds the engine and nothing else, and works where the checkout is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.network]

ROOT = Path(__file__).resolve().parent.parent
NOT_SOURCE = shutil.ignore_patterns(
    *(".*", "build", "dist", "snapshot", "rehearsal", "*.egg-info", "__pycache__", "golden")
)
# What only extras install, by import name; the engine must do without.
EXTRAS = (
    *("pydot", "onnx", "onnxruntime", "safetensors", "plyvel", "cv2", "pytest"),
    *("tqdm", "matplotlib", "tensorboard", "jinja2", "requests"),
)

SMOKE = f"""
import sys
from pathlib import Path

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())

import numpy as np
import caffe
from caffe import layers as L
from caffe.proto import caffe_pb2

n = caffe.NetSpec()
n.data = L.DummyData(shape={{"dim": [2, 3, 8, 8]}}, data_filler={{"type": "gaussian"}})
n.label = L.DummyData(shape={{"dim": [2]}})
n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, weight_filler={{"type": "xavier"}})
n.score = L.InnerProduct(n.conv, num_output=3, weight_filler={{"type": "xavier"}})
n.loss = L.SoftmaxWithLoss(n.score, n.label)
Path("net.prototxt").write_text(str(n.to_proto()))
Path("solver.prototxt").write_text(
    'train_net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 3 random_seed: 1 snapshot_prefix: "run"'
)
net = caffe.Net("net.prototxt", caffe.TRAIN)
assert 0 < float(net.forward()["loss"]) < 100
solver = caffe.get_solver("solver.prototxt")
before = solver.net.params["conv"][0].data.copy()
solver.step(1)
assert not np.array_equal(before, solver.net.params["conv"][0].data)
for save, name in ((solver.net.save, "w.caffemodel"), (solver.net.save_hdf5, "w.caffemodel.h5")):
    save(name)
    net.copy_from(name)
    assert np.array_equal(net.params["conv"][0].data, solver.net.params["conv"][0].data)
    net.params["conv"][0].data[...] = 0
print("\\n".join(sorted(m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None))))
"""


def not_source(folder: str, names: list[str]) -> set[str]:
    """Return what is left out of a folder's copy; data/ and results/ are a checkout's own at the root alone."""
    at_root = {"data", "results"} & set(names) if Path(folder) == ROOT else set()
    return NOT_SOURCE(folder, names) | at_root


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with no PYTHONPATH, outside the checkout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy of the tree; with the setuptools that is here if it will do, or a fetched one."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=not_source)
    try:
        new_enough = int(metadata.version("setuptools").split(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        new_enough = False
    isolation = ["--no-build-isolation"] if new_enough else []
    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "-w", folder / "dist", folder / "tree"),
        cwd=folder,
    )
    if built.returncode and not isolation and "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("the build needs setuptools 77 or newer: it is not here, and no package index can be reached")
    assert built.returncode == 0, built.stdout + built.stderr
    (made,) = (folder / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Install the wheel in an empty environment, and lend it this one's packages, but not its own engine."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home / "env", symlinks=os.name != "nt")
    python = home / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    assert done.returncode == 0, done.stdout + done.stderr
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).stdout.strip()
    # A path file in a folder that a path file names is not read: an editable install of this checkout stays out.
    folders = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(site) / "lent.pth").write_text("\n".join(folders) + "\n")
    return python


def test_it_holds_the_engine_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert {name.split("/")[0] for name in names} == {"caffe", "caffe_command.py", info}
    engine = {name for name in names if name.startswith("caffe/")}
    source = ROOT / "src"
    sources = {
        p.relative_to(source).as_posix() for p in (source / "caffe").rglob("*.py*") if p.suffix in {".py", ".pyi"}
    }
    assert engine == sources | {"caffe/py.typed", "caffe/proto/caffe.proto"}
    assert f"{info}/licenses/LICENSE" in names
    assert "caffe = caffe_command:main" in zipfile.ZipFile(wheel).read(f"{info}/entry_points.txt").decode()


@pytest.fixture(scope="module")
def smoke(installed, tmp_path_factory) -> tuple[Path, list[Path]]:
    """Run the smoke program; return its folder, and the files of the modules that it imported."""
    folder = tmp_path_factory.mktemp("smoke")
    ran = run(installed, "-c", SMOKE, cwd=folder)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return folder, [Path(line) for line in ran.stdout.splitlines()]


def test_it_works_without_the_checkout_and_without_extras(installed, smoke):
    files = smoke[1]
    engine = [f for f in files if "caffe" in f.parts]
    assert len(engine) > 30 and all(f.is_relative_to(installed.parent.parent) for f in engine)
    lent = [Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")]
    strangers = [f for f in files if f.is_relative_to(ROOT) and not any(f.is_relative_to(folder) for folder in lent)]
    assert not strangers, f"files of the checkout were imported: {strangers}"


def test_its_command_works(installed, smoke):
    folder = smoke[0]
    command = installed.parent / ("caffe.exe" if os.name == "nt" else "caffe")
    trained = run(command, "train", "-solver", "solver.prototxt", cwd=folder)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "Optimization Done" in trained.stderr
    assert (folder / "run_iter_3.caffemodel").exists()
