"""One thread a test process: the tests' tensors are small, and processes run side by side."""

import os

# before libraries read it, and for the processes that tests start
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
