"""Training one net on one device: the loop, the update, and what a run leaves behind.

Read in this order:

* `solver` is the loop that all types share, and the types; `update_rules` is the arithmetic: learning rates, clipping,
  decay, and each type's rule.
* `settings` and `nets` are what happens before the first iteration: what is refused, and which nets are built for what.
* `resume` saves what Caffe's .solverstate leaves out, so that a resumed run equals one that was never stopped;
  `signals` turns Ctrl-C into a request that is met between two iterations.
* `output_log` writes the lines of nets' outputs; `finite` and `unfilled` find the layer to blame when a training
  breaks, or cannot learn.

Several devices are parallel/'s business: a solver knows of the others only what a callback tells it.
"""
