"""What a container shows when it is started without a command: the devices, the data, and what to type next."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

NEXT = """
What to type after `docker run ... IMAGE`:

  python voc-fcn32s/solve.py --rehearse                         an experiment in miniature, on generated data
  python -m datasets fetch voc2011 sbd vgg16                    data and weights, into /fcn/data
  python -m nets convolutionalize vgg16                         VGG16 as the convolutional net that training starts from
  python voc-fcn32s/solve.py --gpu 0                            train; all that it writes goes to /fcn/results
  python score.py --split seg11valid --net voc-fcn32s --gpu 0   score
  python paper.py                                               every published row, its command, and what was measured
  caffe help                                                    Caffe's own command

To keep what is in /fcn/data and /fcn/results, mount folders of your own there:
mkdir -p data results, and then docker run -v "$PWD/data:/fcn/data" -v "$PWD/results:/fcn/results" ...
"""


def main() -> int:
    """Print the page; the exit status is 0 with a GPU and without."""
    engine, torch = metadata.version("pycaffe-on-torch"), metadata.version("torch")
    print(f"FCN in Caffe form: pycaffe-on-torch {engine}, PyTorch {torch}, Python {sys.version.split()[0]}\n")
    print("Devices", flush=True)
    asked = subprocess.run(["caffe", "device_query", "-gpu", "all"], capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        print(asked.stderr)
    else:
        print("  No GPU is visible, so that everything runs on the CPU: `docker run --gpus all` shows it the host's.")
    print("\nData and weights", flush=True)
    subprocess.run([sys.executable, "-m", "datasets", "status"], cwd=ROOT, check=False)
    print(NEXT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
