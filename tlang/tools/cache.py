"""The body of `tlang cache`: where the caches lie, what they hold, and how to empty them."""

from __future__ import annotations

import contextlib

from tlang.run.cache import Cache, cache_folder


def show_folder() -> bool:
    """Prints the folder of the caches; False if there is none."""
    folder = cache_folder()
    print("no cache: there is no home folder" if folder is None else folder)
    return folder is not None


def show_stats() -> bool:
    """Prints how much the cache of compiled kernels holds."""
    cache = Cache()
    held = cache.stats()
    print(f"{held.entries} kernels, {held.size / 2**20:.1f} MiB of {cache.limit / 2**20:.0f} MiB")
    return True


def clear() -> bool:
    """Deletes compiled kernels and the tables of the grammar; all is made again when it is needed."""
    Cache().clear()
    if (folder := cache_folder()) is not None:
        for path in folder.glob("grammar-*.pickle"):
            with contextlib.suppress(OSError):
                path.unlink()
    return True
