"""Training one net on several devices or hosts: one process a device, the same weights in each.

`processes` starts the processes of one machine and stops them together, `rendezvous` lets them find each other, and
`gradients` makes each iteration's gradients the mean over all. Read `gradients` first: it says what programs call.
"""

from .gradients import NCCL, train_together
from .processes import launch
from .rendezvous import LostRankError, join, leave

__all__ = ["NCCL", "LostRankError", "join", "launch", "leave", "train_together"]
