"""LeNet from an LMDB: pictures in a folder, `caffe convert`, Data layers, a solver prototxt.

    python examples/lenet/train.py [FOLDER]

Makes the pictures first, so that nothing is downloaded: 2,000 digits to train on and 400 to test on, drawn with
random size, angle, place and noise, as 28 x 28 PNG files with a list, `NAME.png LABEL` a line. The rest is what one
does with any set of pictures. In FOLDER, with the two prototxts that lie beside this file:

    caffe convert -gray -shuffle -seed 1 train/ train.txt train_lmdb
    caffe convert -gray test/ test.txt test_lmdb
    caffe train -solver solver.prototxt

This script runs the first two and does the third through pycaffe, which comes to the same; then it tests the weights
that were written. The accuracy is above 0.9 after some seconds. (In BVLC Caffe, `caffe convert` is `convert_imageset`.)

The published counterpart is BVLC Caffe's LeNet on MNIST (LeCun, Bottou, Bengio and Haffner, Proc. IEEE 1998), with
the same layers. FOLDER keeps the pictures, databases and weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import caffe

HERE = Path(__file__).resolve().parent


def draw(digit: int, rng: np.random.Generator) -> Image.Image:
    """Return a digit as a grey 28 x 28 picture, with random size, angle, place and noise."""
    canvas = Image.new("L", (60, 60))
    ImageDraw.Draw(canvas).text((20, 20), str(digit), fill=255, font=ImageFont.load_default())
    glyph = canvas.crop(canvas.getbbox())
    height = int(rng.integers(15, 21))
    glyph = glyph.resize((max(4, glyph.width * height // glyph.height), height), Image.Resampling.BILINEAR)
    picture = Image.new("L", (28, 28))
    left, upper = (int((28 - side) / 2 + rng.integers(-2, 3)) for side in glyph.size)
    picture.paste(glyph, (left, upper))
    picture = picture.rotate(rng.uniform(-12, 12), Image.Resampling.BILINEAR)
    noisy = np.asarray(picture) + rng.normal(0, 20, (28, 28))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def write_pictures(name: str, number: int, rng: np.random.Generator) -> None:
    """Write pictures into the folder `name`, the ten digits in turn, and the list `name`.txt."""
    Path(name).mkdir(exist_ok=True)
    lines = []
    for i in range(number):
        draw(i % 10, rng).save(f"{name}/{i:04}.png")
        lines.append(f"{i:04}.png {i % 10}\n")
    Path(f"{name}.txt").write_text("".join(lines))


def caffe_command() -> str:
    """Return the path of the `caffe` command: the one that was installed beside this Python, or else on the PATH."""
    command = shutil.which("caffe", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if command is None:
        sys.exit("There is no `caffe` command on the PATH; `pip install` of the engine puts it beside Python.")
    return command


def main(folder: Path) -> None:
    """Make the data, train, test."""
    caffe.init_log(2)  # errors only; without this line, Caffe's log
    command = caffe_command()
    folder.mkdir(parents=True, exist_ok=True)
    for prototxt in HERE.glob("*.prototxt"):
        shutil.copy(prototxt, folder)
    os.chdir(folder)  # a relative path in a prototxt starts where the program runs

    rng = np.random.default_rng(1)
    for name, number in (("train", 2000), ("test", 400)):
        write_pictures(name, number, rng)
        shutil.rmtree(f"{name}_lmdb", ignore_errors=True)
        order = ["-shuffle", "-seed", "1"] if name == "train" else []
        subprocess.run([command, "convert", "-gray", *order, f"{name}/", f"{name}.txt", f"{name}_lmdb"], check=True)
        print(f"{name}_lmdb: {number} pictures")

    solver = caffe.get_solver("solver.prototxt")
    solver.solve()
    print(f"trained {solver.iter} steps: loss {float(solver.net.blobs['loss'].data):.4f}")

    net = caffe.Net("train_test.prototxt", f"lenet_iter_{solver.iter}.caffemodel", caffe.TEST)
    accuracy = np.mean([float(net.forward()["accuracy"]) for _ in range(4)])
    print(f"400 other pictures: accuracy {accuracy:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="keeps the pictures, databases and weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        main(args.folder or Path(scratch))
