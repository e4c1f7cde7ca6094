"""Scripts that run inside the sandbox: standard library only, JSON in, JSON out.

They parse a stranger's files, so they never run on the host. Each reads its request from
standard input and is started as ``python3 -I -c SOURCE``; nothing here is imported by us.
"""
