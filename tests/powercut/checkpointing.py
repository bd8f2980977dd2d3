"""The gateway with a log that goes into the file every few commits, so that a short recording is full of checkpoints."""

from __future__ import annotations

from buffer import store
from gateway.__main__ import main

store.PRAGMAS = tuple(pragma.replace("autocheckpoint = 1000", "autocheckpoint = 25") for pragma in store.PRAGMAS)

if __name__ == "__main__":
    main()
