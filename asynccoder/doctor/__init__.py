"""What ``manage.py doctor`` looks at: one module a part, each check a generator of findings.

A finding says in one line what is so and, where it is not well, what to do. It holds no secret:
of foreign errors only the type is shown, since their messages may hold an address with a password.
"""
