"""Kernels: the ways to compute what layers with much to compute say, as functions on tensors.

A layer type (layer_types/) says what it computes: settings, shapes, the formula. The ways to compute that, of which
the fastest depends on the shapes, the device and what torch was built with, are here. A new way is a function, and a
line where its module chooses: in `choose`, which is given the layer's plan and where it is computed (for convolutions
in `_of_core`, which it calls for what lies inside a frame of padding). Thresholds are constants of the module, so that
tests can set them. What gives the same result with less work, whatever the way, is a rewrite (rewrites.py).

    sliding.py          a kernel's movement over images: sizes and arguments of convolutions
    convolution.py      directly, as one matrix product, piece by piece, inside a frame, turned, per channel
    pooling.py          windows' maxima and means
    normalization.py    local response normalisation, in pieces that stay in the cache
    matrix_product.py   oneDNN's matrix product beside torch's
    rewrites.py         the exact rewrites: what is computed in the place of what the prototxt says
"""
