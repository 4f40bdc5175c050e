"""Where things are kept: jobs and what belongs to them in SQL, bytes in blobs. No torch, no web.

Every class stands over one `Database` and is free of state of its own, so that any thread may use it.
"""
