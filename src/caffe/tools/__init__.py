"""The `caffe` command, and what only it needs. Nothing of the engine imports from here.

Read in this order:

* `cli` holds the table of actions, the usage text and how the command ends; `flags` reads a command line as gflags
  does.
* `commands/` holds the actions, one file a subject.
* `summary`, `timing` and `imageset` do the work of `caffe summary`, `caffe time`, and `caffe convert` and `caffe mean`;
  programs may call them too.
"""
