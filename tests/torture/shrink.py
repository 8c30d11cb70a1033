"""Makes a failing list shorter (delta debugging, Zeller and Hildebrandt): what is left fails as well, and each tenth of it is needed."""

import time


def shrink(items, fails, seconds=120):
    """fails(list) -> True when it still does. Gives up looking for shorter ones after so many seconds."""
    end = time.monotonic() + seconds
    parts = 2
    while len(items) > 1 and time.monotonic() < end:
        size = -(-len(items) // parts)
        for at in range(0, len(items), size):
            rest = items[:at] + items[at + size:]
            if rest and time.monotonic() < end and fails(rest):
                items, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(items):
                break
            parts = min(parts * 2, len(items))
    return items
