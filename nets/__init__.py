"""The nets, as programs: what every experiment's prototxts are written by.

    python -m nets                              write every experiment's prototxts
    python -m nets voc-fcn8s                    one experiment's
    python -m nets --check                      are the files what would be written?
    python -m nets convolutionalize vgg16       make the net that they start from of ILSVRC's classifier
    python -m nets new my-dataset --data DIR    write experiments for a folder of images and labels of one's own

A net is a dataset's input and loss (voc.py, nyud.py, siftflow.py, pascalcontext.py, shapes.py) around a trunk
(vgg16.py, alexnet.py, googlenet.py; bases.py says where their weights come from) and a head (heads.py).

An experiment is an `Experiment` (definition.py): its nets, what it starts from, how long it goes on, what it is scored
on and set against. experiments.py has them all, with the variants of ablations.py, cvpr.py and context33.py; own.py has
those of datasets of one's own. folders.py finds an experiment's folder, run and weights, starts.py the weights that it
starts from. A solver.prototxt is written by hand; for variants and datasets of one's own, with the nets. All of it is
plain pycaffe, so that it runs on BVLC Caffe too.
"""
