"""What every test may rely on, wherever the tests are started from."""

import os
import signal

# Workers share the cores: threads of torch that wait for each other cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A script's background jobs ignore Ctrl-C, and so would every process that a test starts and
# interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
