"""What a run trains and how: an experiment's solver.prototxt and the nets that it names, and both as run.

In the experiment's folder paths are relative, as in the reference: nets to the folder, data to it too. What is given
to Caffe, which would look for them where the program runs, lies in the run's folder and has absolute ones:

    OUT/solver.prototxt                    the solver: OUT's snapshots and nets, and the command line's seed
    OUT/train.prototxt OUT/val.prototxt    the nets, whatever the experiment calls them, with the folders of their data
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from files.writing import write_text
from nets.loading import load
from reading.data_layers import data_layers, placed


class Settings:
    """An experiment's solver, a SolverParameter, and its nets, NetParameters by the names that the solver has for them.

    Raises SystemExit with a sentence where a prototxt is missing or none.
    """

    def __init__(self, home: Path, data: Path | None = None) -> None:
        """Read those in `home`; data: the folder of data in the place of ../data, by default what FCN_DATA says."""
        self.home = home
        self.solver = read_prototxt(home / "solver.prototxt", caffe_pb2.SolverParameter())
        names = dict.fromkeys(name for name, _ in self._phases())
        self.nets = {name: placed(read_prototxt(home / name, caffe_pb2.NetParameter()), home, data) for name in names}

    @property
    def train_net(self) -> caffe_pb2.NetParameter:
        """The net that learns."""
        return self.nets[self.solver.train_net or self.solver.net]

    def _phases(self) -> Iterator[tuple[str, int]]:
        """Give the names of the solver's nets, and what each is made for."""
        yield self.solver.train_net or self.solver.net, caffe.TRAIN
        yield from ((name, caffe.TEST) for name in self.solver.test_net)

    def missing_data(self) -> list[str]:
        """Return what the nets' data layers have to say against the data that is there.

        They are set up by themselves: to be told what is missing takes no net of half a gigabyte.
        """
        problems = []
        for name, phase in self._phases():
            reading = caffe_pb2.NetParameter(layer=data_layers(self.nets[name]))
            try:
                if reading.layer:
                    load(reading, phase)
            except (FileNotFoundError, ValueError) as error:
                problems.append(str(error))
        return list(dict.fromkeys(problems))

    def write(self, out: Path, snapshot_prefix: str, total: int, seed: int | None) -> Path:
        """Write the nets and the solver as run into `out`; return the solver's path.

        Of the solver differ the paths, the seed, and, where the learning rate falls towards max_iter, that.
        """
        as_run = caffe_pb2.SolverParameter()
        as_run.CopyFrom(self.solver)
        # By their own names, but for two of one name in different folders.
        files = [Path(name).name for name in self.nets]
        written = {
            name: out / (file if files.count(file) == 1 else f"{i}_{file}")
            for i, (name, file) in enumerate(zip(self.nets, files, strict=True))
        }
        for name, path in written.items():
            write_text(path, text_format.MessageToString(self.nets[name]))
        for field in ("net", "train_net"):
            if as_run.HasField(field):
                setattr(as_run, field, str(written[getattr(as_run, field)]))
        as_run.test_net[:] = [str(written[name]) for name in as_run.test_net]
        as_run.snapshot_prefix = snapshot_prefix
        if seed is not None:
            as_run.random_seed = seed
        if as_run.lr_policy == "poly":
            as_run.max_iter = max(total, 1)
        path = out / "solver.prototxt"
        write_text(path, text_format.MessageToString(as_run))
        return path


def read_prototxt(path: Path, message: Any) -> Any:
    """Read a prototxt into `message` and return it; SystemExit where it is missing or none."""
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except FileNotFoundError:
        raise SystemExit(f"{path} is missing: `python -m nets` in the repository writes it.") from None
    except text_format.ParseError as error:
        raise SystemExit(f"{path}: {error}") from None
