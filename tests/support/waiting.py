"""Waits for a condition with a deadline, so that tests need no guessed sleeps."""

import os
import time

# Sanitizer builds are slower: SLUICE_TEST_SLOWNESS (1 by default) stretches every deadline.
SLOWNESS = float(os.environ.get("SLUICE_TEST_SLOWNESS", "1"))


class TimedOut(AssertionError):
    """A condition did not come true in time."""


def wait_until(condition, timeout, what="the condition", every=0.005):
    """Calls `condition` until it returns something true and returns that.

    Raises TimedOut, naming `what`, when `timeout` seconds have passed.
    """
    deadline = time.monotonic() + timeout * SLOWNESS
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimedOut(f"waited {timeout * SLOWNESS:g} s for {what}; last value: {value!r}")
        time.sleep(every)
