"""What asyncio does not bring: `semaphore` is fair to each operation, `expiry` is one timer for
thousands who wait, `singleflight` one look for all who ask, `uninterrupted` a stretch of work that
a cancellation waits for.
"""
