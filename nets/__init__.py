"""The nets, as programs: what every experiment's prototxts are written by.

    python -m nets                              write every experiment's prototxts
    python -m nets voc-fcn8s                    one experiment's
    python -m nets --check                      are the files what would be written?
    python -m nets convolutionalize vgg16       make the net that they start from of ILSVRC's classifier
    python -m nets new my-dataset --data DIR    write experiments for a folder of images and labels of one's own

A net is a dataset's input and loss (voc.py, nyud.py, siftflow.py, pascalcontext.py, shapes.py) around a trunk
(vgg16.py, alexnet.py, googlenet.py) and a head (heads.py); experiments.py says which make up which experiment. All of
it is plain pycaffe, so that it runs on BVLC Caffe too. Their solver.prototxt files are written by hand; those of
variants (ablations.py, cvpr.py, context33.py) and of datasets of one's own (own.py) with the nets.
"""
