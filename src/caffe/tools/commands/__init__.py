"""What the `caffe` command's actions do, each a function of the words and flags that it was given; see tools/cli.py."""
