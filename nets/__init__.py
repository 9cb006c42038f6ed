"""The nets, as programs: what every experiment's train, val and deploy prototxt is written by.

    python -m nets                  write every experiment's prototxts
    python -m nets voc-fcn8s        one experiment's
    python -m nets --check          are the files what would be written?

A net is a dataset's input and loss (voc.py, shapes.py) around a trunk (vgg16.py, googlenet.py) and a head
(heads.py); experiments.py says which make up which experiment. All of it is plain pycaffe, so that it runs
on BVLC Caffe too. The solver.prototxt files are written by hand.
"""
