"""What train.py is made of: the screen and the logs of a run, its snapshots, and rehearsals."""
