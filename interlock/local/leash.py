"""A program that becomes another program which dies with its parent; run by path, so it imports nothing of ours.

Must stay an exec: the process that is waited for and signalled is the command itself, not a guard beside it.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def become_user(name: str) -> None:
    """Give up root for the user `name`, whom the password database must know."""
    import pwd  # noqa: PLC0415 - only root's servers need it, and every start pays for each import

    entry = pwd.getpwnam(name)
    os.initgroups(name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with(parent: int, number: int) -> None:
    """Be sent this signal when `parent` dies; end at once where it has died before that could be asked for."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(143)


def main(argv: list[str]) -> None:
    """Run `leash.py PARENT SIGNAL USER COMMAND…`; USER is empty to stay who we are, COMMAND starts with a path."""
    parent, signal_number, user, *command = argv
    # After a change of user our own library may be out of reach: nothing is imported from there on.
    # A change of user clears the parent-death signal, hence the order.
    if user:
        become_user(user)
    die_with(int(parent), int(signal_number))
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main(sys.argv[1:])
