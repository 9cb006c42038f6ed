"""What train.py is made of.

settings (solver and nets as run), snapshots, watch (follows the solver) with loss, logs, screen and signals; scoring
(of a run, while it trains); rehearsal; and momentum, the papers' rule for other batch sizes.
"""
