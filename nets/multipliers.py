"""How fast a layer's parameters learn and decay, next to the solver's base_lr and weight_decay.

The biases' doubled learning rate is the papers' (section 4.3, "Optimization"); that they do not decay is
VGG16's and GoogLeNet's own setting, which the reference nets keep.
"""

from __future__ import annotations

# The weights, then the biases, of a convolution that learns.
LEARNED = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]

# The weights of a bilinear deconvolution that stays as it was filled. The papers let those of the skip heads
# learn; the reference nets fix all of them, its authors having seen no difference.
FIXED = [{"lr_mult": 0}]
