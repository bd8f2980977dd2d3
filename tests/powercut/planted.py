"""The gateway with a store that does not sync its commits: what the power-cut test must catch. Runs as `gateway` does."""

from __future__ import annotations

from buffer import store
from gateway.__main__ import main

store.PRAGMAS = tuple(pragma.replace("synchronous = FULL", "synchronous = NORMAL") for pragma in store.PRAGMAS)

if __name__ == "__main__":
    main()
